# SPDX-License-Identifier: Apache-2.0
"""How well objects are found, boxed, named and followed, against objects whose truth is known."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pc_perception.geometry import inverse
from pc_perception.inference.object_results import ObjectsResult
from pc_perception.simulation.drive import DriveFrame

CLASSES = {
    11: "car", 12: "truck", 13: "truck", 14: "truck", 15: "pedestrian", 16: "two_wheeler", 17: "two_wheeler",
    21: "cone",
}  # fmt: skip
"""Raw ids of ``simulation_street`` and the classes of ``objects16`` that they belong to."""
MOVABLE = tuple(sorted(set(CLASSES.values())))
MOVES_M_S = 0.5


@dataclass(frozen=True)
class Truth:
    """One object as it is: in the cloud's frame, at the time when it was measured.

    Attributes:
        track: the same for the same object in all sweeps.
        name: of its class in ``objects16``.
        center: (3,) metres.
        size: (3,) length, width, height.
        heading: radians.
        velocity: (3,) m/s over ground, in the cloud's axes; None where it is not known.
        points: (n,) rows of the cloud; None where only their number is known.
        n_points: returns from it.
    """

    track: object
    name: str
    center: NDArray
    size: NDArray
    heading: float
    velocity: NDArray | None
    points: NDArray | None
    n_points: int


def simulated_truth(frame: DriveFrame) -> list[Truth]:
    """Return what is known about the objects of a simulated sweep that gave at least one return."""
    T_lidar_world = inverse(frame.T_world_base @ frame.T_base_lidar)
    instance, time_s = frame.cloud.fields["instance"], frame.cloud.fields["time"]
    out = []
    for box in frame.boxes:
        points = np.flatnonzero(instance == box.instance)
        if box.raw_class not in CLASSES or not len(points):
            continue
        T = T_lidar_world @ box.T_world_box
        velocity = T_lidar_world[:3, :3] @ box.velocity
        center = T[:3, 3] + float(time_s[points].mean()) * velocity
        heading = float(np.arctan2(T[1, 0], T[0, 0]))
        track, name = (frame.stretch, box.instance), CLASSES[box.raw_class]
        out.append(Truth(track, name, center, box.size, heading, velocity, points, len(points)))
    return out


@dataclass
class Score:
    """Counts and errors over the sweeps of a drive.

    Attributes:
        gate_m: how far apart the centres of a box and its truth may be, over the ground.
        range_m, least_points: objects further away or with fewer returns are neither asked for nor held against us.
    """

    gate_m: float = 1.0
    range_m: float = 30.0
    least_points: int = 10
    asked: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    claimed: int = 0
    right: int = 0
    switches: int = 0
    errors: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _last_id: dict[object, int] = field(default_factory=dict)

    def add(self, result: ObjectsResult, truths: Sequence[Truth]) -> None:
        """Compare one sweep."""
        centers = result.T_cloud_box[:, :2, 3]
        match = dict(self._pairs(centers, truths))
        for t, truth in enumerate(truths):
            if not self._counts(truth):
                continue
            self.asked[truth.name] += 1
            if truth.points is not None:
                self.errors["mask_recall"].append(float(_best_overlap(result.index, truth.points) > 0.5))
            if t in match:
                self.found[truth.name] += 1
                self._compare(result, match[t], truth)
        taken = set(match.values())
        ranges = np.hypot(*centers.T)
        for row in range(len(result)):
            if result.name(row) in MOVABLE and ranges[row] <= self.range_m:
                self.claimed += 1
                self.right += row in taken

    def _counts(self, truth: Truth) -> bool:
        return truth.n_points >= self.least_points and float(np.hypot(*truth.center[:2])) <= self.range_m

    def _pairs(self, centers: NDArray, truths: Sequence[Truth]) -> Iterator[tuple[int, int]]:
        """Pairs (truth, row) within the gate; truths that are not asked for take what is theirs, too."""
        if not len(centers) or not truths:
            return
        wanted = np.array([truth.center[:2] for truth in truths])
        distance = np.linalg.norm(wanted[:, None] - centers, axis=2)
        cost = np.where(distance <= self.gate_m, distance, 1e3)
        for t, row in zip(*linear_sum_assignment(cost), strict=True):
            if distance[t, row] <= self.gate_m:
                yield int(t), int(row)

    def _compare(self, result: ObjectsResult, row: int, truth: Truth) -> None:
        T, size = result.T_cloud_box[row], result.sizes[row]
        self.errors["center_m"].append(float(np.linalg.norm(T[:2, 3] - truth.center[:2])))
        self.errors["length_m"].append(float(abs(size[0] - truth.size[0])))
        self.errors["width_m"].append(float(abs(size[1] - truth.size[1])))
        self.errors["height_m"].append(float(abs(size[2] - truth.size[2])))
        if truth.size[0] > 1.5 * truth.size[1]:
            turn = np.arctan2(T[1, 0], T[0, 0]) - truth.heading
            self.errors["heading_deg"].append(float(np.degrees(abs((turn + np.pi / 2) % np.pi - np.pi / 2))))
        if result.name(row) != "unknown":
            self.errors["class"].append(float(result.name(row) == truth.name))
        self.errors["unknown"].append(float(result.name(row) == "unknown"))
        if truth.velocity is not None and result.confirmed[row]:
            error = float(np.linalg.norm((result.velocities[row] - truth.velocity)[:2]))
            moves = np.linalg.norm(truth.velocity) > MOVES_M_S
            self.errors["moving_m_s" if moves else "standing_m_s"].append(error)
        track = int(result.track_ids[row])
        self.switches += self._last_id.get(truth.track, track) != track
        self._last_id[truth.track] = track

    def figures(self) -> dict[str, float]:
        """Return the drive's figures: shares, medians of errors, switches for each 100 sightings."""
        asked, found = sum(self.asked.values()), sum(self.found.values())
        shares = {"recall": found / max(asked, 1), "switches_100": 100 * self.switches / max(found, 1)}
        if self.claimed:
            shares["precision"] = self.right / self.claimed
        of_each = ("mask_recall", "class", "unknown")
        means = {k: float(np.mean(self.errors[k])) for k in of_each if self.errors[k]}
        medians = {k: float(np.median(v)) for k, v in self.errors.items() if k not in means and v}
        return {**shares, **means, **medians, "asked": asked}


def _best_overlap(index: NDArray, points: NDArray) -> float:
    """Intersection over union of a truth's points with those of the object that has most of them."""
    own = index[points]
    own = own[own >= 0]
    if not len(own):
        return 0.0
    row, common = max(Counter(own.tolist()).items(), key=lambda item: item[1])
    return common / (len(points) + int((index == row).sum()) - common)
