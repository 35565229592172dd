# SPDX-License-Identifier: Apache-2.0
"""A loaded model with what belongs to it, where nodes look for it."""

from pc_perception.inference.live_segmenter import Pipeline, device_values, load_pipeline

<<<<<<< HEAD
from typing import NamedTuple

import numpy as np
import torch

from pc_perception.cloud import PointCloud
from pc_perception.inference.model_file import load_segmenter
from pc_perception.inference.stream import SweepOptions, SweepSegmenter
from pc_perception.io.pointcloud2 import LabelledCloudEncoder, cloud_from_msg, encode_cloud

WARM_UP_POINTS = 20_000


class Pipeline(NamedTuple):
    """What labels sweeps; a reload replaces it as a whole."""

    sweeps: SweepSegmenter
    encoder: LabelledCloudEncoder


def load_pipeline(model: str, device: str, precision: str, options: SweepOptions) -> Pipeline:
    """Load a model and run it twice, so that the first live sweep is as quick as the others.

    Raises:
        FileNotFoundError, ValueError: as ``load_segmenter``.
    """
    segmenter = load_segmenter(model, device, precision)
    pipeline = Pipeline(SweepSegmenter(segmenter, options), LabelledCloudEncoder(segmenter.label_set))
    message = encode_cloud(practice_cloud())
    for _ in range(2):
        cloud = cloud_from_msg(message)
        result = segmenter(cloud)
        pipeline.encoder.encode(cloud, result.labels, result.confidence)
    return pipeline


def device_values(device: torch.device) -> dict[str, object]:
    """Return what diagnostics say about where a model runs."""
    values: dict[str, object] = {"device": device}
    if device.type == "cuda":
        values["cuda_memory_mb"] = torch.cuda.memory_allocated(device) // 2**20
    return values


def practice_cloud() -> PointCloud:
    """Ground and clutter around a sensor: enough to touch every kernel."""
    rng = np.random.default_rng(0)
    distance, angle = rng.uniform(2, 40, WARM_UP_POINTS), rng.uniform(0, 2 * np.pi, WARM_UP_POINTS)
    z = np.where(rng.random(WARM_UP_POINTS) < 0.5, -1.8, rng.uniform(-1.8, 3, WARM_UP_POINTS))
    xyz = np.stack([distance * np.cos(angle), distance * np.sin(angle), z], 1).astype(np.float32)
    xyz[::100] = np.nan
    intensity = rng.uniform(0, 255, WARM_UP_POINTS).astype(np.float32)
    return PointCloud(xyz, {"intensity": intensity}, frame="lidar")
=======
__all__ = ["Pipeline", "device_values", "load_pipeline"]
>>>>>>> cec4415 (Serve live topics over DDS without ROS; the work of a live process apart from what carries its messages)
