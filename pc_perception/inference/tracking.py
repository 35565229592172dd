# SPDX-License-Identifier: Apache-2.0
"""Keep the identity of objects from sweep to sweep.

One constant-velocity Kalman filter for each track, over the ground plane of a frame that stands still, driven by
white-noise acceleration (Bar-Shalom, Li and Kirubarajan, "Estimation with applications to tracking and navigation",
2001, section 6.2.2). Both axes share one covariance, since their noises are equal. Detections are assigned to tracks
so that the sum of squared Mahalanobis distances is least, within a gate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .stream import MAX_GAP_S

UNSTAMPED_PERIOD_S = 0.1
"""How far apart sweeps without a stamp are taken to be; their velocities stay unknown."""
LEAST_SCORE = 1e-3
"""One wrong sweep must not rule a class out for ever."""
KEPT_EVIDENCE = 0.9
"""Share of the evidence for a class that is left after a sweep: about ten sweeps count."""


@dataclass(frozen=True)
class TrackingOptions:
    """How tracks live.

    Attributes:
        position_m: standard deviation of a measured centre, along each axis.
        acceleration: square root of the power spectral density of the acceleration, m/s^1.5.
        first_speed: standard deviation of the velocity of a new track along each axis, m/s.
        gate: largest squared Mahalanobis distance of a detection from its track; 9.21 holds 99 % for two axes.
        confirm_after: sweeps in which a track must be seen until it is confirmed.
        lost_after_s: a confirmed track that was not seen for so long ends; others end with the first sweep
            that does not show them.
    """

    position_m: float = 0.5
    acceleration: float = 2.0
    first_speed: float = 8.0
    gate: float = 9.21
    confirm_after: int = 3
    lost_after_s: float = 0.6

    def __post_init__(self) -> None:
        values = (self.position_m, self.acceleration, self.first_speed, self.gate, self.lost_after_s)
        if not min(values) > 0 or self.confirm_after < 1:
            raise ValueError(f"tracking options must be positive, confirm_after at least 1: {self}")


@dataclass(frozen=True)
class Tracks:
    """What the tracker says about the K detections of a sweep, in their order.

    Attributes:
        ids: (K,) int64, from 1 on; an id is never given twice.
        confirmed: (K,) bool.
        velocities: (K, 2) m/s over ground, in the fixed frame; NaN until a track is confirmed.
        scores: (K, C) float32, class probabilities over the track's last sweeps.
    """

    ids: NDArray[np.int64]
    confirmed: NDArray[np.bool_]
    velocities: NDArray[np.float64]
    scores: NDArray[np.float32]


class Tracker:
    """The tracks of one sensor. Not thread-safe.

    A clock that jumps back, or a gap of over ``MAX_GAP_S``, ends all tracks. Stamps of zero say nothing: such
    sweeps are taken to be ``UNSTAMPED_PERIOD_S`` apart, and have no velocities.
    """

    def __init__(self, n_classes: int, options: TrackingOptions | None = None) -> None:
        self.options = options or TrackingOptions()
        # Variances of position (pp) and velocity (vv) and what they share (pv) are the same along both axes.
        kinds = [
            ("id", "i8"),
            ("hits", "i8"),
            ("unseen_s", "f8"),
            ("position", "f8", 2),
            ("velocity", "f8", 2),
        ]
        kinds += [("pp", "f8"), ("pv", "f8"), ("vv", "f8"), ("evidence", "f8", n_classes), ("weight", "f8")]
        self._tracks = np.zeros(0, kinds)
        self._next_id, self._stamp_ns = 1, 0

    def __len__(self) -> int:
        return len(self._tracks)

    def forget(self) -> None:
        """End all tracks; their ids are not used again."""
        self._tracks = self._tracks[:0]

    def __call__(
        self, stamp_ns: int, centers: NDArray, scores: NDArray, late_s: NDArray | None = None
    ) -> Tracks:
        """Take the detections of one sweep.

        Args:
            stamp_ns: of the sweep, nanoseconds; 0 for a sweep without a stamp.
            centers: (K, 2) metres, in a frame that stands still.
            scores: (K, C) class probabilities; a row of zeros says nothing about the class.
            late_s: (K,) seconds after the stamp at which each was measured; None is at the stamp.
        """
        late = np.zeros(len(centers)) if late_s is None else np.asarray(late_s, np.float64)
        self._predict(stamp_ns)
        rows, columns = self._assign(centers, late)
        self._tracks[rows] = self._corrected(self._tracks[rows], centers[columns], late[columns])
        track = np.full(len(centers), -1)
        track[columns] = rows
        new = np.flatnonzero(track < 0)
        track[new] = len(self) + np.arange(len(new))
        self._tracks = np.concatenate([self._tracks, self._begun(centers[new])])
        self._tracks[track] = _learned(self._tracks[track], scores)
        out = self._described(self._tracks[track])
        seen = np.zeros(len(self), bool)
        seen[track] = True
        waited = self._tracks["unseen_s"] <= self.options.lost_after_s
        self._tracks = self._tracks[seen | (waited & self._confirmed(self._tracks))]
        return out

    def _predict(self, stamp_ns: int) -> None:
        before, self._stamp_ns = self._stamp_ns, stamp_ns
        unstamped = stamp_ns == 0
        dt = UNSTAMPED_PERIOD_S if unstamped else (stamp_ns - before) * 1e-9
        if unstamped != (before == 0) or not 0 <= dt <= MAX_GAP_S:
            self.forget()
            return
        tracks, density = self._tracks, self.options.acceleration**2
        tracks["position"] += dt * tracks["velocity"]
        tracks["pp"] += 2 * dt * tracks["pv"] + dt**2 * tracks["vv"] + density * dt**3 / 3
        tracks["pv"] += dt * tracks["vv"] + density * dt**2 / 2
        tracks["vv"] += density * dt
        tracks["unseen_s"] += dt

    def _assign(self, centers: NDArray, late: NDArray) -> tuple[NDArray, NDArray]:
        """Rows of tracks and columns of detections that belong together."""
        tracks = self._tracks[:, None]
        expected = tracks["position"] + late[:, None] * tracks["velocity"]
        distance = np.square(centers - expected).sum(2) / self._spread(tracks, late)
        # Far above any sum of distances within the gate: as many as possible are assigned within it.
        cost = np.where(distance <= self.options.gate, distance, 1e3 * self.options.gate)
        rows, columns = linear_sum_assignment(cost)
        within = distance[rows, columns] <= self.options.gate
        return rows[within], columns[within]

    def _spread(self, tracks: NDArray, late: NDArray) -> NDArray:
        """Variance of the difference between a detection, ``late`` seconds after the stamp, and its track."""
        return tracks["pp"] + 2 * late * tracks["pv"] + late**2 * tracks["vv"] + self.options.position_m**2

    def _corrected(self, tracks: NDArray, centers: NDArray, late: NDArray) -> NDArray:
        spread = self._spread(tracks, late)
        in_position, in_velocity = tracks["pp"] + late * tracks["pv"], tracks["pv"] + late * tracks["vv"]
        gain_p, gain_v = in_position / spread, in_velocity / spread
        surprise = centers - tracks["position"] - late[:, None] * tracks["velocity"]
        tracks["position"] += gain_p[:, None] * surprise
        tracks["velocity"] += gain_v[:, None] * surprise
        tracks["pp"] -= gain_p * in_position
        tracks["pv"] -= gain_p * in_velocity
        tracks["vv"] -= gain_v * in_velocity
        tracks["hits"] += 1
        tracks["unseen_s"] = 0
        return tracks

    def _begun(self, centers: NDArray) -> NDArray:
        tracks = np.zeros(len(centers), self._tracks.dtype)
        tracks["id"] = self._next_id + np.arange(len(centers))
        self._next_id += len(centers)
        tracks["hits"], tracks["position"] = 1, centers
        tracks["pp"], tracks["vv"] = self.options.position_m**2, self.options.first_speed**2
        return tracks

    def _confirmed(self, tracks: NDArray) -> NDArray[np.bool_]:
        return tracks["hits"] >= self.options.confirm_after

    def _described(self, tracks: NDArray) -> Tracks:
        confirmed = self._confirmed(tracks)
        known = confirmed & (self._stamp_ns != 0)
        velocities = np.where(known[:, None], tracks["velocity"], np.nan)
        # The geometric mean: sweeps are not independent, their product would be far too sure.
        weight = tracks["weight"][:, None]
        mean = np.where(weight > 0, np.exp(tracks["evidence"] / np.maximum(weight, 1e-9)), 0)
        scores = mean / np.maximum(mean.sum(1, keepdims=True), 1e-30)
        return Tracks(tracks["id"], confirmed, velocities, scores.astype(np.float32))


def _learned(tracks: NDArray, scores: NDArray) -> NDArray:
    """Add the log-scores of a sweep to what is known about the classes."""
    told = scores.sum(1) > 0
    evidence = np.log(np.maximum(scores[told], LEAST_SCORE))
    tracks["evidence"][told] = KEPT_EVIDENCE * tracks["evidence"][told] + evidence
    tracks["weight"][told] = KEPT_EVIDENCE * tracks["weight"][told] + 1
    return tracks
