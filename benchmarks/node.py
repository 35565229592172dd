# SPDX-License-Identifier: Apache-2.0
"""The real node on loopback: age, overhead, drops and memory, by ``python -m benchmarks.node``.

Run with ROS 2 sourced. Each row starts `segment_node` in its own process, publishes 34,720-point sweeps
to it over DDS on loopback and listens to what it labels. ``age`` is from the stamp (set when the sweep
is published) to the labelled cloud in the listener's hands. ``overhead`` is the node's own: from its
callback to the message sent, without the model and without waiting for the sweep before. Targets: at
10 Hz no crash, flat memory over 2,000 sweeps, overhead <= 5 ms, age p99 <= 300 ms, also with the other
core kept busy; at 40 Hz the oldest are dropped and counted.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.live import messages
from benchmarks.machine import busy_core, describe_machine

LOOPBACK = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo' multicast='false'/></Interfaces>"
    "<AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex>"
    "<MaxAutoParticipantIndex>99</MaxAutoParticipantIndex><Peers><Peer Address='127.0.0.1'/></Peers>"
    "</Discovery><Internal><SocketReceiveBufferSize min='1MB' max='4MB'/></Internal></Domain></CycloneDDS>"
)
WARM_UP = 20


@dataclass
class Row:
    """What one run saw."""

    sent: int = 0
    ages_ms: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    node: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None


class Run:
    """A node under load: this process is sensor and listener."""

    def __init__(self, model: str, threads: int, sweeps: list[Any]) -> None:
        import psutil
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import PointCloud2

        from ros2_nodes.conversions import cloud_message

        self.rclpy, self.row = rclpy, Row()
        rclpy.init()
        self.peer = rclpy.create_node("benchmark")
        self.clouds = [cloud_message(values) for values in sweeps]
        self.sensor = self.peer.create_publisher(PointCloud2, "points", qos_profile_sensor_data)
        self.peer.create_subscription(PointCloud2, "segmentation", self.receive, qos_profile_sensor_data)
        self.peer.create_subscription(DiagnosticArray, "/diagnostics", self.diagnose, 10)
        command = [sys.executable, "-m", "ros2_nodes.segment_node", "--ros-args", "--log-level", "warn"]
        for name, value in {"model": model, "threads": threads}.items():
            command += ["-p", f"{name}:={value}"]
        self.process = subprocess.Popen(command)
        self.watch = psutil.Process(self.process.pid)

    def receive(self, msg: Any) -> None:
        stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
        self.row.ages_ms.append((time.time_ns() - stamp_ns) / 1e6)

    def diagnose(self, msg: Any) -> None:
        for status in msg.status:
            if status.name == "segment_node: labelling":
                self.row.node = {pair.key: pair.value for pair in status.values}

    def drive(self, rate_hz: float, n_sweeps: int) -> Row:
        """Publish ``n_sweeps`` at ``rate_hz`` after a few to warm up; return what was seen of them."""
        while self.sensor.get_subscription_count() == 0:
            if self.process.poll() is not None:
                raise RuntimeError(f"the node ended with {self.process.returncode} before it was active")
            self.rclpy.spin_once(self.peer, timeout_sec=0.1)
        self.wait(1.0)
        due = time.perf_counter()
        for i in range(WARM_UP + n_sweeps):
            if i == WARM_UP:
                self.row.ages_ms.clear()
            due += 1 / rate_hz
            self.wait(due - time.perf_counter())
            msg = self.clouds[i % len(self.clouds)]
            msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
            self.sensor.publish(msg)
            self.row.sent += 1
            if self.process.poll() is None:
                self.row.rss_mb.append(self.watch.memory_info().rss / 2**20)
        self.wait(2.5)  # the last sweep, and the diagnostics that count it
        return self.row

    def wait(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.rclpy.spin_once(self.peer, timeout_sec=left)

    def close(self) -> None:
        """End the node as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.row.exit_code = self.process.wait(30)
        self.peer.destroy_node()
        self.rclpy.try_shutdown()


def line(name: str, row: Row) -> str:
    """Return one line of the table."""
    age = np.percentile(row.ages_ms, [50, 99]) if row.ages_ms else (np.nan, np.nan)
    tenth = max(len(row.rss_mb) // 10, 1)
    settled = row.rss_mb[len(row.rss_mb) // 4 :]  # until then the first sweeps fill the node's buffers
    growth = np.median(settled[-tenth:]) - np.median(settled[:tenth])
    lost = row.sent - int(row.node.get("received", 0))
    shown = ("overhead_ms_p50", "overhead_ms_p99", "inference_ms_p50")
    overhead, overhead_p99, network = (float(row.node.get(name, "nan")) for name in shown)
    return (
        f"{name:<20}{row.sent:>6}{len(row.ages_ms):>9}{row.node.get('dropped', '?'):>9}{lost:>6}"
        f"{age[0]:>9.1f}{age[1]:>9.1f}{overhead:>10.2f}{overhead_p99:>8.2f}{network:>9.1f}{growth:>+9.1f}"
        f"{row.exit_code:>6}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="street")
    parser.add_argument("--sweeps", type=int, default=200, help="per row; the target speaks of 2,000")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["CYCLONEDDS_URI"] = LOOPBACK
    os.environ["ROS_DOMAIN_ID"] = str(os.getpid() % 90 + 10)
    beams, points = 32, 34_720
    sweeps = messages(beams, points, 8)
    ros, rmw = os.environ.get("ROS_DISTRO", "?"), os.environ.get("RMW_IMPLEMENTATION", "default RMW")
    print(f"{describe_machine()}; ROS 2 {ros}, {rmw}")
    print(f"model '{arguments.model}', {points:,} points a sweep, milliseconds; RSS growth in MB")
    print(
        f"{'':<20}{'sent':>6}{'labelled':>9}{'dropped':>9}{'lost':>6}{'age p50':>9}{'p99':>9}"
        f"{'overhead':>10}{'p99':>8}{'network':>9}{'RSS':>9}{'exit':>6}"
    )
    for rate_hz, busy in ((10.0, False), (10.0, True), (40.0, False)):
        run = Run(arguments.model, arguments.threads, sweeps)
        try:
            with busy_core(busy):
                row = run.drive(rate_hz, arguments.sweeps)
        finally:
            run.close()
        print(line(f"{rate_hz:g} Hz" + (", core busy" if busy else ""), row), flush=True)


if __name__ == "__main__":
    main()
