# SPDX-License-Identifier: Apache-2.0
"""The objects of a sweep: instances, boxes, classes and tracks. What the node, the bag runner and tests call."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.labels import UNLABELED, overlap
from pc_perception.undistort import sweep_time

from .agreement import agreed
from .boxes import complete_boxes, fit_boxes
from .classifier import Classifier
from .fragments import join_fragments
from .instances import InstanceOptions, Instances, find_instances, things_of
from .motion import SweepMotion
from .object_results import UNKNOWN, ObjectsResult
from .segmenter import SegmentationResult, Segmenter
from .stream import Timing, without_ego
from .tracking import Tracker, TrackingOptions, Tracks
from .upright import upright_rotation

SCORE_THRESHOLD = 0.4
MOVES_M_S = 1.0
"""From this speed on an object is taken to face where it goes."""


@dataclass(frozen=True)
class ObjectOptions:
    """How objects are found and named.

    Attributes:
        instances: how they are told apart.
        score_threshold: objects whose best class scores less are "unknown".
        ego_box: as in ``SweepOptions``: the vehicle's own points belong to no object.
        undistort: points carry their time and were measured while the sensor moved; where the cloud has no field
            ``time`` or no pose is given there is nothing to do.
        complete: grow boxes to what is typical of their class.
    """

    instances: InstanceOptions = field(default_factory=InstanceOptions)
    score_threshold: float = SCORE_THRESHOLD
    ego_box: tuple[float, float, float, float, float, float] | None = None
    undistort: bool = True
    complete: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f"score_threshold must lie in 0 .. 1, got {self.score_threshold}")


class SweepObjects:
    """Objects of one sensor's sweeps, tracked. Not thread-safe: one per worker.

    ``options`` may be replaced between sweeps, from another thread too.

    Args:
        classifier: names the objects.
        segmenter: where given, only points of its things (``things_of``) are clustered,
            each class by itself; a panoptic model's own objects are taken as they are; without it everything above
            the ground is clustered.
    """

    def __init__(
        self,
        classifier: Classifier,
        segmenter: Segmenter | None = None,
        options: ObjectOptions | None = None,
        tracking: TrackingOptions | None = None,
    ) -> None:
        self.classifier, self.segmenter = classifier, segmenter
        self.options = options or ObjectOptions()
        self.timing = Timing()
        self._tracker = Tracker(len(classifier.label_set), tracking)
        self._motion, self._placed = SweepMotion(), False
        n_classes = len(classifier.label_set)
        self._overlap = (
            overlap(segmenter.label_set, classifier.label_set) if segmenter else np.ones((0, n_classes), bool)
        )

    def forget(self) -> None:
        """End all tracks."""
        self._tracker.forget()
        self._motion.forget()

    def __call__(self, cloud: PointCloud, T_fixed_cloud: NDArray | None = None) -> ObjectsResult:
        """Find, name and track the objects of a sweep.

        Args:
            cloud: N points; z up, or a camera's view (``upright``) unless ``T_fixed_cloud`` says where up is.
            T_fixed_cloud: (4, 4) pose of the cloud's frame, at its stamp, in a frame that stands still and has z
                up. Without it objects are tracked in the sensor's own frame: velocities are relative to it. Where
                it comes or goes between two sweeps, all tracks end.
        """
        options, watch = self.options, _Watch()
        if self._placed != (T_fixed_cloud is not None):
            self.forget()  # positions in another frame say nothing
        self._placed = T_fixed_cloud is not None
        seen = without_ego(cloud, options.ego_box)
        motion = self._motion(cloud.stamp_ns, T_fixed_cloud)
        if options.undistort:
            seen = motion.undistorted(seen)
        watch.mark("prepare")
        labelled = self.segmenter(seen) if self.segmenter else None
        watch.mark("segment")
        R = _level(cloud, T_fixed_cloud)
        with np.errstate(invalid="ignore"):  # NaN and Inf are left out later
            level = seen.xyz @ R.T.astype(np.float32)
        found = self._found(level, labelled)
        boxes = fit_boxes(level, found)
        watch.mark("cluster")
        members = _members(found)
        scores = self._scores(replace(seen, xyz=level, frame=""), members, labelled)
        watch.mark("classify")
        names = self._names(scores)
        if options.complete:
            boxes = complete_boxes(boxes, names)
        late = _late(seen, members) if options.undistort else None
        tracks = self._tracker(cloud.stamp_ns, boxes[:, :2] + motion.origin[:2], scores, late)
        watch.mark("track")
        result = self._result(found, boxes, tracks, R, watch.milliseconds)
        self.timing.add(**result.milliseconds, total=result.total_ms)
        return result

    def _found(self, level: NDArray[np.float32], labelled: SegmentationResult | None) -> Instances:
        """Tell objects apart: those of a panoptic model as they are, else clusters, fragments joined."""
        if labelled is None:
            found = find_instances(level, options=self.options.instances)
            return join_fragments(found, fit_boxes(level, found))
        things = things_of(labelled.label_set.classes)
        labels, told = labelled.labels, labelled.instance
        found = find_instances(level, labels, things, self.options.instances, told)
        return found if told is not None else join_fragments(found, fit_boxes(level, found), labels)

    def _scores(
        self, cloud: PointCloud, members: list[NDArray[np.int64]], labelled: SegmentationResult | None
    ) -> NDArray[np.float32]:
        """(K, C) of every object, in one call of the classifier, agreed with what the segmentation says."""
        found = self.classifier([cloud.select(rows) for rows in members])
        scores = np.array([f.scores for f in found], np.float32).reshape(-1, len(self.classifier.label_set))
        return scores if labelled is None else agreed(scores, members, labelled, self._overlap)

    def _names(self, scores: NDArray) -> list[str]:
        names = self.classifier.label_set.classes
        return [UNKNOWN if k == UNLABELED else names[k] for k in self._labels(scores)]

    def _labels(self, scores: NDArray) -> NDArray[np.uint16]:
        sure = scores.max(1) >= max(self.options.score_threshold, 1e-6)
        return np.where(sure, scores.argmax(1), UNLABELED).astype(np.uint16)

    def _result(
        self, found: Instances, boxes: NDArray, tracks: Tracks, R: NDArray, milliseconds: dict[str, float]
    ) -> ObjectsResult:
        velocities = np.zeros((found.count, 3))
        velocities[:, :2] = tracks.velocities
        velocities[np.isnan(velocities[:, 0])] = np.nan
        return ObjectsResult(
            found.index,
            _poses(boxes, velocities, R),
            boxes[:, 3:6],
            self._labels(tracks.scores),
            tracks.scores,
            tracks.ids,
            tracks.confirmed,
            velocities @ R,
            self.classifier.label_set,
            milliseconds,
        )


class _Watch:
    """Milliseconds between marks, by name."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self.milliseconds[name] = 1e3 * (now - self._last)
        self._last = now


def _level(cloud: PointCloud, T_fixed_cloud: NDArray | None) -> NDArray[np.float64]:
    """(3, 3) rotation from the cloud's axes to axes with z up: the fixed frame's where it is known."""
    if T_fixed_cloud is not None:
        return np.asarray(T_fixed_cloud, np.float64)[:3, :3]
    return upright_rotation(cloud)


def _members(found: Instances) -> list[NDArray[np.int64]]:
    """Input points of each object."""
    order = np.argsort(found.index, kind="stable")
    ends = np.searchsorted(found.index[order], np.arange(found.count + 1))
    return [order[a:b] for a, b in pairwise(ends)]


def _late(cloud: PointCloud, members: list[NDArray[np.int64]]) -> NDArray[np.float64] | None:
    """(K,) mean time of each object's points after the stamp, seconds; None where the cloud does not say."""
    time_s = sweep_time(cloud)
    return None if time_s is None else np.array([float(np.mean(time_s[rows])) for rows in members])


def _poses(boxes: NDArray, velocities: NDArray, R: NDArray) -> NDArray[np.float64]:
    """(K, 4, 4) poses in the cloud's frame of level boxes; those that move face where they go."""
    heading = boxes[:, 6].copy()
    ahead = np.cos(heading) * velocities[:, 0] + np.sin(heading) * velocities[:, 1]
    with np.errstate(invalid="ignore"):
        heading[ahead < -MOVES_M_S] += np.pi
    T = np.tile(np.eye(4), (len(boxes), 1, 1))
    c, s = np.cos(heading), np.sin(heading)
    T[:, 0, 0], T[:, 0, 1], T[:, 1, 0], T[:, 1, 1] = c, -s, s, c
    T[:, :3, 3] = boxes[:, :3]
    T[:, :3] = R.T @ T[:, :3]
    return T
