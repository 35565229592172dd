# SPDX-License-Identifier: Apache-2.0
"""What decimation costs and saves at 640 x 480, by ``python -m benchmarks.rgbd``.

Simulated rooms that the shipped model was not trained on (seeds from 90,000). The whole way of a frame is
timed: depth, colour and camera_info messages to labelled cloud and label image, as ``rgbd_node`` does it.
Quality is that of the label image against the true class of every pixel that has depth. Target: 66 ms a
frame (15 Hz) on two CPU cores, thus 133 ms of CPU time, which a busy machine changes less than the clock's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.rgbd_stream import RgbdSegmenter, rgbd_cloud
from pc_perception.inference.stream import SweepSegmenter
from pc_perception.io.image_messages import fill_camera_info, fill_image
from pc_perception.io.message_types import new_message
from pc_perception.labels import label_map
from pc_perception.metrics import Confusion
from pc_perception.simulation.rgbd import rgbd_frames

FIRST_SEED, PER_ROOM = 90_000, 2


def messages(
    n_rooms: int, new_message: Callable[[str], Any] = new_message
) -> list[tuple[Any, Any, Any, np.ndarray]]:
    """Return (depth, camera_info, colour, true raw classes) of every frame, as messages that ``new_message`` makes."""
    frames = []
    for seed in range(FIRST_SEED, FIRST_SEED + n_rooms):
        for cloud, frame in rgbd_frames(seed, PER_ROOM, 640, 480):
            millimetres = np.rint(frame.depth * 1000.0).astype(np.uint16)
            depth = fill_image(new_message("sensor_msgs/msg/Image"), millimetres, cloud.frame, 1)
            color = fill_image(new_message("sensor_msgs/msg/Image"), frame.rgb, cloud.frame, 1)
            info = new_message("sensor_msgs/msg/CameraInfo")
            fill_camera_info(info, frame.K, 640, 480, cloud.frame, 1)
            frames.append((depth, info, color, np.where(frame.depth > 0, frame.classes, 0)))
    return frames


def main() -> None:
    """Print one row for each decimation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 3, 4])
    arguments = parser.parse_args()
    model = load_segmenter("room", arguments.device)
    table = label_map("simulation", model.label_set)
    frames = messages(arguments.rooms)
    print(describe_machine())
    print(
        "| decimation | points | ms p50 | ms p95 | CPU ms | mIoU | accuracy |\n|---|---|---|---|---|---|---|"
    )
    for step in arguments.steps:
        segmenter = RgbdSegmenter(SweepSegmenter(model), step)
        confusion, spent, busy = Confusion(len(model.label_set)), [], []
        for depth, info, color, classes in [frames[0], *frames]:  # the first one twice: it warms up
            begun, cpu = time.perf_counter(), time.process_time()
            result = segmenter(depth, rgbd_cloud(depth, info, color, step))
            spent.append(1e3 * (time.perf_counter() - begun))
            busy.append(1e3 * (time.process_time() - cpu))
            confusion.add(table[classes.ravel()], result.image.ravel())
        p50, p95 = np.percentile(spent[1:], [50, 95])
        print(
            f"| {step} | {len(result.cloud)} | {p50:.1f} | {p95:.1f} | {np.median(busy[1:]):.0f} | "
            f"{confusion.mean_iou():.3f} | "
            f"{confusion.accuracy:.3f} |"
        )


if __name__ == "__main__":
    main()
