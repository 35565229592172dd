# SPDX-License-Identifier: Apache-2.0
"""Run a model that finds 3D boxes on clouds, one scene at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.labels import LabelSet
from pc_perception.models.bev_head import STRIDE, BoxDetector, decode
from pc_perception.ops.parallel import team

from .contract import InputContract
from .deployed import Deployed, clouds_of

MOST = 200


@dataclass(frozen=True)
class DetectionResult:
    """The K boxes of one cloud, the surest first.

    Attributes:
        boxes: (K, 9) float32 in the cloud's frame: centre x, y, z, length, width, height, metres; heading, radians
            counter-clockwise from x; velocity x, y, m/s.
        labels: (K,) uint16 ids of ``label_set``.
        scores: (K,) float32, 0 .. 1.
        label_set: names and colours.
        milliseconds: wall time of ``prepare``, ``network`` and ``finish``.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.uint16]
    scores: NDArray[np.float32]
    label_set: LabelSet
    milliseconds: dict[str, float]

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Deployed[BoxDetector, InputContract]):
    """A network with its contract and classes, on one device; ``model(cloud)`` and ``model([a, b])`` as ``Segmenter``.

    Args:
        least_score: surer boxes than this are given, at most ``MOST``.
    """

    def __init__(
        self,
        network: BoxDetector,
        contract: InputContract,
        label_set: LabelSet,
        device: torch.device,
        precision: str = "auto",
        least_score: float = 0.05,
    ) -> None:
        super().__init__(network, contract, label_set, device, precision)
        self.least_score = least_score

    @overload
    def __call__(self, cloud: PointCloud) -> DetectionResult: ...
    @overload
    def __call__(self, cloud: Sequence[PointCloud]) -> list[DetectionResult]: ...
    def __call__(self, cloud: PointCloud | Sequence[PointCloud]) -> DetectionResult | list[DetectionResult]:
        """Find the boxes of one cloud, or of each cloud of a sequence.

        Raises:
            TypeError: it is neither.
            ValueError: the cloud's finite points span more than the voxel grid can index.
        """
        found = [self._detect(one) for one in clouds_of(cloud)]
        return found[0] if isinstance(cloud, PointCloud) else found

    @torch.inference_mode()
    def _detect(self, cloud: PointCloud) -> DetectionResult:
        begin = time.perf_counter()
        prepared = self.contract.prepare(cloud, self.network.encoder.n_levels, self.device)
        ready = time.perf_counter()
        if not len(prepared.features):
            nothing = np.empty(0, np.float32)
            spent = {"prepare": 1e3 * (ready - begin)}
            return DetectionResult(
                nothing.reshape(0, 9), nothing.astype(np.uint16), nothing, self.label_set, spent
            )
        with team():
            (maps,) = self.network(prepared.features, prepared.pyramid)
        maps = maps.cpu()
        done = time.perf_counter()
        boxes, labels, scores = decode(maps, len(self.label_set), STRIDE * self.contract.grid_m, MOST)
        kept = scores > self.least_score
        spans = {"prepare": ready - begin, "network": done - ready, "finish": time.perf_counter() - done}
        return DetectionResult(
            boxes[kept].numpy(),
            labels[kept].numpy().astype(np.uint16),
            scores[kept].numpy(),
            self.label_set,
            {name: 1e3 * span for name, span in spans.items()},
        )
