# SPDX-License-Identifier: Apache-2.0
"""``pc-perception demo``: a simulated drive through the real stream path, with pictures and figures."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.inference.stream import SweepSegmenter
from pc_perception.io.bags import BagWriter
from pc_perception.io.message_encoding import CloudMessage, LabelledCloudEncoder, encode_cloud
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.labels import label_map
from pc_perception.metrics import Confusion
from pc_perception.refusals import refuse_unwritable
from pc_perception.simulation.drive import DriveFrame, simulate_drive
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.visualization.html import Frame, write_html
from pc_perception.visualization.png import render_png

INPUT_TOPIC, OUTPUT_TOPIC = "/points", "/segmentation"
RATE_HZ, SPEED_M_S = 10.0, 8.0


def run(out: Path, *, model: str = "street", device: str = "auto", n_sweeps: int = 40, seed: int = 0) -> None:
    """Simulate, record, label sweep by sweep; leave demo.mcap, demo.png and demo.html in ``out``.

    Every sweep goes the way of a live one: message bytes, cloud, model, message bytes.

    Raises:
        FileNotFoundError, ValueError: the model cannot be used, or ``n_sweeps`` is not positive.
    """
    if n_sweeps < 1:
        raise ValueError(f"--sweeps must be at least 1, got {n_sweeps}")
    if seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {seed}")
    refuse_unwritable(out, is_folder=True)
    keep_freed_memory()
    drive = _Drive(SweepSegmenter(load_segmenter(model, device)))
    lidar = SpinningLidar(n_beams=32, rate_hz=RATE_HZ)
    frames = simulate_drive(seed, n_sweeps, lidar=lidar, speed=SPEED_M_S)
    with BagWriter(out / "demo.mcap", overwrite=True) as bag:
        for frame in tqdm(frames, total=n_sweeps, unit="sweep", desc="drive", disable=None):
            drive.step(bag, frame)
    title = f"pc_perception demo: model '{model}' on a simulated 32-beam LiDAR"
    label_set = drive.sweeps.model.label_set
    middle = drive.shown[len(drive.shown) // 2]
    render_png(out / "demo.png", middle.cloud, middle.labels, label_set, truth=middle.truth, title=title)
    write_html(out / "demo.html", drive.shown, label_set, title=title)
    drive.print_table(out)


class _Drive:
    """The loop's state: the model, the figures, and the frames for the page."""

    def __init__(self, sweeps: SweepSegmenter) -> None:
        self.sweeps = sweeps
        label_set = sweeps.model.label_set
        self.encoder = LabelledCloudEncoder(label_set)
        self.truth_of = label_map("simulation", label_set.name)
        self.confusion = Confusion(len(label_set))
        self.shown: list[Frame] = []

    def step(self, bag: BagWriter, frame: DriveFrame) -> None:
        """Record one sweep and its labels."""
        message = encode_cloud(_as_a_sensor_sends_it(frame.cloud))
        if not self.shown:
            bag.write_transform("base_link", "lidar", frame.T_base_lidar, frame.stamp_ns, static=True)
            bag.write_labels_meaning(OUTPUT_TOPIC, self.sweeps.model.label_set, "lidar", frame.stamp_ns)
            self._label(message)  # the first call loads kernels; its time is not the stream's
            self.sweeps.timing = type(self.sweeps.timing)()
        bag.write_transform("map", "base_link", frame.T_world_base, frame.stamp_ns)
        bag.write_cloud(INPUT_TOPIC, message)
        cloud, result, labelled = self._label(message)
        bag.write_cloud(OUTPUT_TOPIC, labelled)
        truth = self.truth_of[frame.cloud.fields["label"]]
        self.confusion.add(truth, result.labels)
        caption = f"{len(self.shown) / RATE_HZ:.1f} s"
        self.shown.append(Frame(cloud, result.labels, result.confidence, truth, caption))

    def _label(self, message: CloudMessage) -> tuple[PointCloud, SegmentationResult, CloudMessage]:
        start = time.perf_counter()
        cloud = cloud_from_msg(message)
        decoded = time.perf_counter()
        result = self.sweeps(cloud)
        segmented = time.perf_counter()
        labelled = self.encoder.encode(cloud, result.labels, result.confidence)
        end = time.perf_counter()
        self.sweeps.timing.add(
            decode=1e3 * (decoded - start),
            encode=1e3 * (end - segmented),
            message_to_message=1e3 * (end - start),
        )
        return cloud, result, labelled

    def print_table(self, out: Path) -> None:
        """Print latency per stage, throughput, accuracy and what was written."""
        timing, label_set = self.sweeps.timing, self.sweeps.model.label_set
        print(f"{'stage':<20}{'p50 ms':>10}{'p99 ms':>10}")
        for stage in ("decode", "prepare", "network", "finish", "encode", "message_to_message"):
            p50, p99 = (timing.percentile(stage, q) for q in (50, 99))
            print(f"{stage.replace('_', ' '):<20}{p50:>10.2f}{p99:>10.2f}")
        points = sum(len(frame.cloud) for frame in self.shown)
        rate = points / len(self.shown) / (timing.percentile("message_to_message", 50) / 1e3)
        print(
            f"\n{len(self.shown)} sweeps, {points:,} points, {rate:,.0f} points/s on {self.sweeps.model.device}"
        )
        print(f"\n{'class':<20}{'IoU':>10}{'share':>10}")
        for name, iou, share in zip(label_set.classes, self.confusion.iou, self.confusion.share, strict=True):
            shown = "-" if np.isnan(iou) else f"{iou:.3f}"
            print(f"{name:<20}{shown:>10}{100 * share:>9.1f}%")
        print(
            f"{'mIoU':<20}{self.confusion.mean_iou():>10.3f}   against the simulated ground truth, one drive"
        )
        print(f"\nwritten: {', '.join(str(out / f'demo.{s}') for s in ('mcap', 'png', 'html'))}")


def _as_a_sensor_sends_it(cloud: PointCloud) -> PointCloud:
    """The same points without what only a simulator knows."""
    sent = {name: cloud.fields[name] for name in ("intensity", "ring", "time")}
    return PointCloud(cloud.xyz, sent, "lidar", cloud.stamp_ns)
