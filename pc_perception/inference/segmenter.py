# SPDX-License-Identifier: Apache-2.0
"""Run a segmentation model on clouds, one scene at a time: the object that everything calls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.labels import UNLABELED, LabelSet
from pc_perception.models.panoptic_segmenter import PanopticSegmenter
from pc_perception.models.segmenters import AnySegmenter
from pc_perception.ops.parallel import team

from .contract import InputContract
from .deployed import Deployed, clouds_of
from .panoptic import group_instances, of_points
from .sweep_graph import SweepGraphs


@dataclass(frozen=True)
class SegmentationResult:
    """Labels of one cloud.

    Attributes:
        labels: (N,) uint16, ids 0 .. C-1 of ``label_set``, ``UNLABELED`` where none is given.
        confidence: (N,) float32, softmax probability of the label, 0 where unlabeled.
        label_set: names and colours.
        milliseconds: wall time of ``prepare``, ``network`` and ``finish``.
        instance: (N,) uint32, objects from 1 on, numbered in this cloud alone, 0 for points of none; None where the
            model does not tell objects apart.
    """

    labels: NDArray[np.uint16]
    confidence: NDArray[np.float32]
    label_set: LabelSet
    milliseconds: dict[str, float]
    instance: NDArray[np.uint32] | None = None

    def newest(self, n_points: int) -> SegmentationResult:
        """Return the result of the first ``n_points`` points: the others are of earlier sweeps."""
        instance = None if self.instance is None else self.instance[:n_points]
        return replace(
            self, labels=self.labels[:n_points], confidence=self.confidence[:n_points], instance=instance
        )

    def surer_than(self, threshold: float) -> SegmentationResult:
        """Return the result with points of less confidence unlabeled and of no object; it keeps the confidence."""
        if threshold <= 0:
            return self
        sure = self.confidence >= threshold
        labels = np.where(sure, self.labels, np.uint16(UNLABELED))
        instance = None if self.instance is None else np.where(sure, self.instance, np.uint32(0))
        return replace(self, labels=labels, instance=instance)

    @property
    def total_ms(self) -> float:
        """Wall time from cloud to labels."""
        return sum(self.milliseconds.values())


class Segmenter(Deployed[AnySegmenter, InputContract]):
    """A network with its contract and labels, on one device.

    ``model(cloud)`` gives a ``SegmentationResult``; ``model([a, b])`` a list of them. Each scene is
    encoded alone, so a result never depends on what else is in the list. On a GPU clouds of sizes met before
    replay CUDA graphs (``sweep_graph``).
    """

    def __init__(self, *deployed: Any, **more: Any) -> None:
        super().__init__(*deployed, **more)
        self.graphs = SweepGraphs(self.network, self.contract, self.device)

    @overload
    def __call__(self, cloud: PointCloud) -> SegmentationResult: ...
    @overload
    def __call__(self, cloud: Sequence[PointCloud]) -> list[SegmentationResult]: ...
    def __call__(
        self, cloud: PointCloud | Sequence[PointCloud]
    ) -> SegmentationResult | list[SegmentationResult]:
        """Label every point of one cloud, or of each cloud of a sequence.

        Raises:
            TypeError: it is neither.
            ValueError: the cloud's finite points span more than the voxel grid can index.
        """
        found = [self._segment(one) for one in clouds_of(cloud)]
        return found[0] if isinstance(cloud, PointCloud) else found

    def _segment(self, cloud: PointCloud) -> SegmentationResult:
        with torch.inference_mode(), team():
            return self._timed(cloud)

    def _timed(self, cloud: PointCloud) -> SegmentationResult:
        if replayed := self.graphs(cloud):
            return SegmentationResult(
                replayed.labels, replayed.confidence, self.label_set, replayed.milliseconds
            )
        clock = [time.perf_counter()]
        prepared = self.contract.prepare(cloud, self.network.encoder.n_levels, self.device)
        clock.append(time.perf_counter())
        instance = None
        if not len(prepared.features):
            labels = np.full(len(cloud), UNLABELED, np.uint16)
            confidence = np.zeros(len(cloud), np.float32)
            if isinstance(self.network, PanopticSegmenter):
                instance = np.zeros(len(cloud), np.uint32)
        else:
            features, pyramid = prepared.features, prepared.pyramid
            if isinstance(self.network, PanopticSegmenter):
                logits, offset = self.network.both(features, pyramid)
                logits, owner = group_instances(pyramid.levels[0].xyz, offset, logits, self.network.things)
                instance = of_points(owner, prepared.inverse)
            else:
                logits = self.network(features, pyramid)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            clock.append(time.perf_counter())
            labels, confidence = self.contract.finish(logits, prepared.inverse)
        clock.append(time.perf_counter())
        spans = [1e3 * (b - a) for a, b in pairwise(clock)]
        stages = ("prepare", "network", "finish") if len(spans) == 3 else ("prepare", "finish")
        milliseconds = dict(zip(stages, spans, strict=True))
        self.graphs.learn(cloud, prepared.pyramid)
        return SegmentationResult(labels, confidence, self.label_set, milliseconds, instance)
