# SPDX-License-Identifier: Apache-2.0
"""Clouds over DDS on loopback, from and to our participant without ROS and rclpy: ``python -m benchmarks.dds``.

Publisher and subscriber are processes of their own. ``default buffer`` holds both to the socket buffer that
Linux grants without being asked for more (net.core.rmem_max = 212,992 bytes); ``large`` asks for 16 MB and
gets what the system's net.core.rmem_max allows. rclpy rows need a sourced ROS 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.node import LOOPBACK
from pc_perception.cloud import PointCloud
from pc_perception.io.message_encoding import CloudMessage, encode_cloud
from pc_perception.io.message_types import CLOUD, cloud_message

BUFFERS = {"default": "max='212992B'", "large": "max='16MB'"}
POINTS = {"0.7 MB": 34_720, "2.6 MB": 130_000}
STEP = 20
TOPIC = "/points"
IDLE_S = 3.0


def main() -> None:
    """Print the table, or play one side of a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="clouds per row")
    parser.add_argument("--peers", nargs="*", default=["ours>ours", "rclpy>ours", "ours>rclpy"])
    parser.add_argument("--qos", nargs="*", default=["best_effort", "reliable"])
    parser.add_argument("--buffers", nargs="*", default=list(BUFFERS))
    parser.add_argument("--role", choices=("publish", "subscribe"), help=argparse.SUPPRESS)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        row = json.loads(arguments.row)
        {"publish": _publish, "subscribe": _subscribe}[arguments.role](row)
        return
    if importlib.util.find_spec("rclpy") is None:
        arguments.peers = [peers for peers in arguments.peers if "rclpy" not in peers]
    limit = Path("/proc/sys/net/core/rmem_max").read_text().strip()
    print(f"{describe_machine()}; net.core.rmem_max {limit}; {arguments.count} clouds a row")
    print(
        f"{'':<12}{'QoS':<13}{'buffer':<9}{'cloud':<8}{'Hz':>4}{'lost %':>8}{'age p50':>9}{'p99 ms':>8}{'send':>7}"
    )
    rates = (10, 20)
    for peers, qos, buffer, (size, points), rate in product(
        arguments.peers, arguments.qos, arguments.buffers, POINTS.items(), rates
    ):
        row = {
            "peers": peers,
            "qos": qos,
            "buffer": buffer,
            "points": points,
            "rate": rate,
            "count": arguments.count,
        }
        got = run_row(row)
        lost = 100 * (1 - got["received"] / got["sent"])
        age = np.percentile(got["ages_ms"], [50, 99]) if got["ages_ms"] else (np.nan, np.nan)
        print(
            f"{peers:<12}{qos:<13}{buffer:<9}{size:<8}{rate:>4}{lost:>8.1f}{age[0]:>9.1f}{age[1]:>8.1f}"
            f"{got['send_ms']:>7.1f}",
            flush=True,
        )


def run_row(row: dict[str, Any]) -> dict[str, Any]:
    """Run both processes of a row; return what they saw."""
    buffer = f"<SocketReceiveBufferSize {BUFFERS[row['buffer']]}/>"
    uri = LOOPBACK.replace("<SocketReceiveBufferSize min='1MB' max='4MB'/>", buffer)
    assert buffer in uri
    domain = str(100 + os.getpid() % 100)
    environment = {**os.environ, "CYCLONEDDS_URI": uri, "ROS_DOMAIN_ID": domain}
    found: dict[str, Any] = {}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.dds", "--role", role, "--row", json.dumps(row)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for role in ("subscribe", "publish")
    ]
    for process in processes:
        out, _ = process.communicate(timeout=60 + 3 * row["count"] / row["rate"])
        found |= json.loads(out.splitlines()[-1])
    return found


def _cloud(points: int) -> CloudMessage:
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(points, 3)).astype(np.float32)
    fields = {"intensity": rng.random(points, np.float32), "time": rng.random(points, np.float32)}
    message = encode_cloud(PointCloud(xyz, fields, "lidar", 1))
    assert message.point_step == STEP
    return message


def _domain() -> int:
    return int(os.environ["ROS_DOMAIN_ID"])


def _publish(row: dict[str, Any]) -> None:
    values = _cloud(row["points"])
    ours = row["peers"].startswith("ours")
    sender = _our_publisher(row, values) if ours else _rclpy_publisher(row, values)
    send, matched = next(sender)
    while not matched():
        time.sleep(0.05)
    time.sleep(1.0)
    spent, due = [], time.perf_counter()
    for _ in range(row["count"]):
        due += 1 / row["rate"]
        time.sleep(max(due - time.perf_counter(), 0))
        start = time.perf_counter()
        send(time.time_ns())
        spent.append(1e3 * (time.perf_counter() - start))
    time.sleep(2.0)
    print(json.dumps({"sent": row["count"], "send_ms": float(np.median(spent))}))
    next(sender, None)


Sender = tuple[Callable[[int], None], Callable[[], bool]]


def _our_publisher(row: dict[str, Any], values: CloudMessage) -> Iterator[Sender]:
    from pc_perception.io.dds import Participant

    msg = cloud_message(values)
    with Participant(_domain()) as participant:
        publisher = participant.publisher(TOPIC, CLOUD, row["qos"])

        def send(now_ns: int) -> None:
            msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(now_ns, 10**9)
            publisher.publish(msg)

        yield send, lambda: publisher.n_subscribers > 0


def _rclpy_publisher(row: dict[str, Any], values: CloudMessage) -> Iterator[Sender]:
    import rclpy
    from sensor_msgs.msg import PointCloud2

    from ros2_nodes.conversions import cloud_message as ros_message

    rclpy.init()
    node = rclpy.create_node("publisher")
    publisher = node.create_publisher(PointCloud2, TOPIC, _ros_qos(row["qos"], 5))
    msg = ros_message(values)
    msg.data = array("B", values.data)

    def send(now_ns: int) -> None:
        msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(now_ns, 10**9)
        publisher.publish(msg)

    yield send, lambda: publisher.get_subscription_count() > 0
    node.destroy_node()
    rclpy.try_shutdown()


def _ros_qos(qos: str, depth: int) -> Any:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    return QoSProfile(depth=depth, reliability=ReliabilityPolicy[qos.upper()])


def _subscribe(row: dict[str, Any]) -> None:
    ages_ms: list[float] = []

    def note(msg: Any) -> None:
        ages_ms.append(time.time_ns() / 1e6 - msg.header.stamp.sec * 1e3 - msg.header.stamp.nanosec / 1e6)

    receive = _subscribe_ours if row["peers"].endswith("ours") else _subscribe_rclpy
    receive(row, note, ages_ms)
    print(json.dumps({"received": len(ages_ms), "ages_ms": ages_ms}))


def _finished(row: dict[str, Any], ages_ms: list[float], last: list[float]) -> bool:
    if len(ages_ms) != last[0]:
        last[:] = [len(ages_ms), time.monotonic()]
    lasts = row["count"] / row["rate"]
    return len(ages_ms) >= row["count"] or time.monotonic() - last[1] > (IDLE_S if ages_ms else 20 + lasts)


def _subscribe_ours(row: dict[str, Any], note: Callable[[Any], None], ages_ms: list[float]) -> None:
    from pc_perception.io.dds import Participant, decode

    with Participant(_domain()) as participant:
        participant.subscribe(TOPIC, CLOUD, lambda raw: note(decode(raw, CLOUD)), row["qos"])
        last = [0.0, time.monotonic()]
        while not _finished(row, ages_ms, last):
            participant.spin(0.2)


def _subscribe_rclpy(row: dict[str, Any], note: Callable[[Any], None], ages_ms: list[float]) -> None:
    import rclpy
    from sensor_msgs.msg import PointCloud2

    rclpy.init()
    node = rclpy.create_node("subscriber")
    node.create_subscription(PointCloud2, TOPIC, note, _ros_qos(row["qos"], 5))
    last = [0.0, time.monotonic()]
    while not _finished(row, ages_ms, last):
        rclpy.spin_once(node, timeout_sec=0.2)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
