# SPDX-License-Identifier: Apache-2.0
"""A cloud's way through rclpy without a model: taken, decoded, labelled, published (A3).

A row of ``python -m benchmarks stream``; needs a sourced ROS 2. Publisher and subscription are in this process, so that
no cloud is lost and no network is timed. Told is the CPU time of the thread that does the work, from taking a message
to the return of ``publish``. The peer does the same with ``sensor_msgs_py``: every point gets a label, a confidence and
a colour. The note has ours once more with a raw subscription, whose bytes our own DDS code decodes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness import WARM_UPS, compare, installed
from benchmarks.messages import LAYOUTS, message
from benchmarks.node import LOOPBACK
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.io.dds import decode
from pc_perception.io.message_encoding import LabelledCloudEncoder
from pc_perception.io.message_types import CLOUD
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.labels import load_label_set

TAKE_S = 5.0
RAW = "ours, raw subscription"

Answer = Callable[[Any], Any]
"""From a message that was taken to the one to publish."""


class _Loop:
    """A node that hears what it publishes."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import PointCloud2

        os.environ["CYCLONEDDS_URI"] = LOOPBACK
        self._context, self._kind, qos = rclpy.Context(), PointCloud2, QoSProfile(depth=2)
        rclpy.init(context=self._context, domain_id=os.getpid() % 90 + 10)
        self._node = rclpy.create_node("rclpy_path", context=self._context)
        self._sensor = self._node.create_publisher(PointCloud2, "points", qos)
        self._heard = self._node.create_subscription(PointCloud2, "points", print, qos)
        self._answers = self._node.create_publisher(PointCloud2, "answers", qos)
        self._listener = self._node.create_subscription(PointCloud2, "answers", print, qos)

    def cpu_ms(self, msg: Any, answer: Answer, raw: bool) -> float:
        """Send a message, take it and publish the answer to it; return the CPU time from take to publish."""
        self._sensor.publish(msg)
        taken, end = None, time.monotonic() + TAKE_S
        while taken is None:
            if time.monotonic() > end:
                raise RuntimeError(f"the cloud of {len(msg.data):,} bytes did not come back in {TAKE_S:g} s")
            time.sleep(0.002)
            begin = time.thread_time()
            taken = self._heard.handle.take_message(self._kind, raw)
        self._answers.publish(answer(taken[0]))
        spent = time.thread_time() - begin
        while self._listener.handle.take_message(self._kind, True) is None:
            time.sleep(0.002)
        return 1e3 * spent

    def close(self) -> None:
        import rclpy

        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def _ours(n_points: int) -> Answer:
    from ros2_nodes.conversions import labelled_message

    label_set = load_label_set("street8")
    encoder = LabelledCloudEncoder(label_set)
    labels, confidence = np.ones(n_points, np.uint16), np.ones(n_points, np.float32)

    def answer(msg: Any) -> Any:
        cloud = cloud_from_msg(msg)
        return labelled_message(encoder.encode(cloud, labels, confidence), msg, cloud.frame)

    return answer


def _sensor_msgs_py(n_points: int) -> Answer:
    from sensor_msgs.msg import PointField
    from sensor_msgs_py.point_cloud2 import create_cloud, dtype_from_fields, read_points

    F32, U16, U32 = PointField.FLOAT32, PointField.UINT16, PointField.UINT32
    columns = [
        ("x", 0, F32),
        ("y", 4, F32),
        ("z", 8, F32),
        ("label", 12, U16),
        ("confidence", 16, F32),
        ("rgb", 20, U32),
    ]
    fields = [PointField(name=name, offset=offset, datatype=kind, count=1) for name, offset, kind in columns]
    kind = dtype_from_fields(fields)
    red, green, blue = (int(v) for v in load_label_set("street8").colors[1])
    color = np.uint32(red << 16 | green << 8 | blue)

    def answer(msg: Any) -> Any:
        points = read_points(msg, ["x", "y", "z"])
        rows = np.zeros(len(points), kind)
        for name in "xyz":
            rows[name] = points[name]
        rows["label"], rows["confidence"], rows["rgb"] = 1, 1.0, color
        return create_cloud(msg.header, fields, rows)

    return answer


@dataclass(frozen=True)
class RclpyPath:
    """Row A3 for a layout of ``messages.LAYOUTS``."""

    input: str
    target: float
    row: str = "A3"

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Send fresh clouds through the three ways in turn; without ROS 2 nothing is measured."""
        if not installed("rclpy", "sensor_msgs_py"):
            empty = dict.fromkeys(("ours_ms", "peer", "peer_ms", "ratio", "ratio_low", "ratio_high"))
            return {**empty, "target": self.target, "floor_ms": None, "note": "needs a sourced ROS 2"}
        from ros2_nodes.conversions import cloud_message

        keep_freed_memory()  # as the node does; the peer gains as well
        n_points, step, offsets, _ = LAYOUTS[self.input]
        ours, peer, loop = _ours(n_points), _sensor_msgs_py(n_points), _Loop()
        ways: dict[str, tuple[Answer, bool]] = {
            "ours": (ours, False),
            "sensor_msgs_py": (peer, False),
            RAW: (lambda raw: ours(decode(raw, CLOUD)), True),
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        try:
            for number in range(rounds + WARM_UPS):
                msg = cloud_message(message(rng, n_points, step, offsets)[0])
                for name in rng.permutation(list(ways)):
                    cpu_ms = loop.cpu_ms(msg, *ways[name])
                    if number >= WARM_UPS:
                        spent[name].append(cpu_ms)
        finally:
            loop.close()
        times = {name: np.array(values) for name, values in spent.items()}
        raw_ms = float(np.median(times.pop(RAW)))
        found = compare(times, rng)
        note = f"CPU time; with a raw subscription {raw_ms:.2f} ms"
        return {**found, "target": self.target, "floor_ms": None, "raw_ms": raw_ms, "note": note}


_SMALL, _, _LARGE = LAYOUTS
ROWS = [RclpyPath(_SMALL, 1.5), RclpyPath(_LARGE, 3.0)]
