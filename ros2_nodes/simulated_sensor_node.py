# SPDX-License-Identifier: Apache-2.0
"""Node that stands in for a LiDAR on a vehicle: clouds of an endless simulated drive, with TF."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2
from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster
from tf2_ros.transform_broadcaster import TransformBroadcaster

from pc_perception.geometry import pose
from pc_perception.io.pointcloud2 import encode_cloud

from . import parameters, tables
from .conversions import cloud_message, transform_message
from .qos import sensor_qos
from .runtime import run_node

if TYPE_CHECKING:
    from pc_perception.simulation.drive import DriveFrame

AHEAD = 5
MEASURED = ("intensity", "ring", "time")
"""Fields that a real sensor has too; the simulation's labels stay behind."""


class SimulatedSensorNode(Node):
    """Publishes `points` in frame lidar, /tf odom -> base_link and /tf_static base_link -> lidar."""

    def __init__(self, **node_arguments: Any) -> None:
        """Start to simulate and to publish.

        Raises:
            ValueError: a parameter that was given is wrong.
        """
        super().__init__("simulated_sensor_node", **node_arguments)
        parameters.declare(self, tables.SIMULATED_SENSOR_NODE)
        self._values = parameters.read(self, tables.SIMULATED_SENSOR_NODE)
        self._clouds = self.create_publisher(
            PointCloud2,
            "points",
            sensor_qos(depth=5),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._moving, self._mounted = TransformBroadcaster(self), StaticTransformBroadcaster(self)
        self._T_base_lidar = pose((0.0, 0.0, self._values["lidar_height"]))
        stamp = self.get_clock().now().to_msg()
        self._mounted.sendTransform(transform_message(self._T_base_lidar, "base_link", "lidar", stamp))
        self._frames: queue.Queue[DriveFrame] = queue.Queue(AHEAD)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._simulate, self._publish)]
        for thread in self._threads:
            thread.start()

    def destroy_node(self) -> None:
        """End the simulation before the handles go."""
        self._over.set()
        for thread in self._threads:
            thread.join(5.0)
        super().destroy_node()

    def _simulate(self) -> None:
        try:
            from pc_perception.simulation.drive import simulate_drive
            from pc_perception.simulation.lidar import SpinningLidar

            v = self._values
            lidar = SpinningLidar(v["n_beams"], v["rate_hz"], v["n_azimuths"])
            # One drive without end: every 300 m it turns into the next street.
            drive = simulate_drive(v["seed"], 2**40, lidar, speed=v["speed"], T_base_lidar=self._T_base_lidar)
            for frame in drive:
                while not self._over.is_set():
                    try:
                        self._frames.put(frame, timeout=0.2)
                        break
                    except queue.Full:
                        continue
                if self._over.is_set():
                    return
        except Exception as error:
            self.get_logger().fatal(f"the simulation ended: {error!r}; is open3d installed?")
            self._over.set()

    def _publish(self) -> None:
        """Send one frame per revolution; late ones at once, without catching up."""
        period = 1.0 / self._values["rate_hz"]
        due = time.monotonic()
        while not self._over.is_set():
            try:
                frame = self._frames.get(timeout=0.2)
            except queue.Empty:
                continue
            due = max(due + period, time.monotonic())
            if self._over.wait(due - time.monotonic()):
                return
            self._send(frame, period)

    def _send(self, frame: DriveFrame, period: float) -> None:
        # Points carry their time after the stamp, so the stamp is that of the first one.
        now = self.get_clock().now()
        start = now - Duration(seconds=period) if now.nanoseconds > period * 1e9 else now
        self._moving.sendTransform(transform_message(frame.T_world_base, "odom", "base_link", start.to_msg()))
        fields = {name: frame.cloud.fields[name] for name in MEASURED}
        cloud = replace(frame.cloud, fields=fields, frame="lidar", stamp_ns=start.nanoseconds)
        self._clouds.publish(cloud_message(encode_cloud(cloud)))


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node("simulated_sensor_node", SimulatedSensorNode, args)


if __name__ == "__main__":
    main()
