# SPDX-License-Identifier: Apache-2.0
"""From a cloud's message to a labelled one: a loaded model with what belongs to it. Without ROS."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from pc_perception.cloud import PointCloud
from pc_perception.inference.model_file import load_segmenter
from pc_perception.inference.stream import SweepOptions, SweepSegmenter
from pc_perception.io.pointcloud2 import LabelledCloudEncoder, cloud_from_msg, encode_cloud

WARM_UP_POINTS = 20_000


class Pipeline(NamedTuple):
    """What labels sweeps; a reload replaces it as a whole."""

    sweeps: SweepSegmenter
    encoder: LabelledCloudEncoder


class Arrival(NamedTuple):
    """A message and the ``perf_counter`` second at which its callback ran."""

    msg: Any
    at: float


class Stopwatch:
    """Milliseconds of one sweep's stages; ``busy_until`` is when the sweep before it was done."""

    def __init__(self, arrived: float, busy_until: float) -> None:
        self._arrived, self._begun = arrived, time.perf_counter()
        self._busy_ms = max(busy_until - arrived, 0.0) * 1e3
        self._marks = [self._begun]

    def mark(self) -> None:
        """Note the end of a stage: decoded, then labelled, then sent."""
        self._marks.append(time.perf_counter())

    def stages(self, model_ms: dict[str, float]) -> dict[str, float]:
        """Return the stages in ms, after three marks.

        ``total`` counts from the callback to the message sent; ``overhead`` is ``total`` without the
        model and without waiting for the sweep before.
        """
        decoding, _, sending = 1e3 * np.diff(self._marks)
        total = 1e3 * (self._marks[-1] - self._arrived)
        return {
            "preprocess": decoding + model_ms.get("prepare", 0.0),
            "inference": model_ms.get("network", 0.0),
            "postprocess": sending + model_ms.get("finish", 0.0),
            "total": total,
            "overhead": total - sum(model_ms.values()) - self._busy_ms,
        }


def load_pipeline(model: str, device: str, precision: str, options: SweepOptions) -> Pipeline:
    """Load a model and run it twice, so that the first live sweep is as quick as the others.

    Raises:
        FileNotFoundError, ValueError: as ``load_segmenter``.
    """
    segmenter = load_segmenter(model, device, precision)
    pipeline = Pipeline(SweepSegmenter(segmenter, options), LabelledCloudEncoder(segmenter.label_set))
    message = encode_cloud(_practice_cloud())
    for _ in range(2):
        cloud = cloud_from_msg(message)
        result = segmenter(cloud)
        pipeline.encoder.encode(cloud, result.labels, result.confidence)
    return pipeline


def _practice_cloud() -> PointCloud:
    """Ground and clutter around a sensor: enough to touch every kernel."""
    rng = np.random.default_rng(0)
    distance, angle = rng.uniform(2, 40, WARM_UP_POINTS), rng.uniform(0, 2 * np.pi, WARM_UP_POINTS)
    z = np.where(rng.random(WARM_UP_POINTS) < 0.5, -1.8, rng.uniform(-1.8, 3, WARM_UP_POINTS))
    xyz = np.stack([distance * np.cos(angle), distance * np.sin(angle), z], 1).astype(np.float32)
    xyz[::100] = np.nan
    intensity = rng.uniform(0, 255, WARM_UP_POINTS).astype(np.float32)
    return PointCloud(xyz, {"intensity": intensity}, frame="lidar")
