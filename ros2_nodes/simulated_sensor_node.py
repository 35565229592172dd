# SPDX-License-Identifier: Apache-2.0
"""Node that stands in for a LiDAR, perhaps with cameras around, on a vehicle in an endless simulated drive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.duration import Duration
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from pc_perception.geometry import pose
from pc_perception.io.image_messages import fill_camera_info, fill_image
from pc_perception.io.pointcloud2 import encode_cloud

from .conversions import cloud_message, transform_message
from .runtime import run_node
from .simulated_node import SimulatedNode
from .tables import SIMULATED_SENSOR_NODE

if TYPE_CHECKING:
    from pc_perception.simulation.drive import DriveFrame

MEASURED = ("intensity", "ring", "time")
"""Fields that a real sensor has too; the simulation's labels stay behind."""


class SimulatedSensorNode(SimulatedNode):
    """Publishes `points` in frame lidar, /tf odom -> base_link, /tf_static base_link -> lidar, and cameras."""

    default_name = "simulated_sensor_node"
    table = SIMULATED_SENSOR_NODE

    def set_up(self) -> None:
        """Make the publishers, place the sensors."""
        self._clouds = self.sensor_publisher(PointCloud2, "points")
        self._T_base_lidar = pose((0.0, 0.0, self.values["lidar_height"]))
        mounts = {"lidar": self._T_base_lidar}
        self._ring: list[Any] = []
        self._cameras: dict[str, tuple[Any, Any, Any]] = {}
        if self.values["cameras"]:
            from pc_perception.labels import label_map
            from pc_perception.simulation.camera import camera_ring

            width = self.values["image_width"]
            self._ring = camera_ring(self.values["cameras"], width, width * 9 // 16)
            self._labels_of = label_map("simulation", "street8")
        for name, _, T_base_camera in self._ring:
            topic = name.lower()
            mounts[f"{topic}_optical_frame"] = T_base_camera
            self._cameras[name] = (
                self.sensor_publisher(Image, f"{topic}/image_raw"),
                self.sensor_publisher(CameraInfo, f"{topic}/camera_info"),
                self.sensor_publisher(Image, f"{topic}/label_image"),
            )
        self.mount(mounts)

    def simulate(self) -> Iterator[DriveFrame]:
        """One drive without end: every 300 m it turns into the next street."""
        from pc_perception.simulation.drive import simulate_drive
        from pc_perception.simulation.lidar import SpinningLidar

        v = self.values
        lidar = SpinningLidar(v["n_beams"], v["rate_hz"], v["n_azimuths"])
        return simulate_drive(v["seed"], 2**40, lidar, self._ring, v["speed"], self._T_base_lidar)

    def send(self, frame: DriveFrame, now: Time) -> None:
        """Publish pose, cloud and pictures of one revolution."""
        # Points carry their time after the stamp, so the stamp is that of the first one.
        period = 1.0 / self.values["rate_hz"]
        start = now - Duration(seconds=period) if now.nanoseconds > period * 1e9 else now
        self.moving.sendTransform(transform_message(frame.T_world_base, "odom", "base_link", start.to_msg()))
        fields = {name: frame.cloud.fields[name] for name in MEASURED}
        for name, publishers in self._cameras.items():
            self._send_picture(
                frame.images[name], f"{name.lower()}_optical_frame", start.nanoseconds, publishers
            )
        cloud = replace(frame.cloud, fields=fields, frame="lidar", stamp_ns=start.nanoseconds)
        self._clouds.publish(cloud_message(encode_cloud(cloud)))

    def _send_picture(self, shot: Any, frame: str, stamp_ns: int, publishers: tuple[Any, Any, Any]) -> None:
        images, infos, labels = publishers
        height, width = shot.depth.shape
        images.publish(fill_image(Image(), shot.rgb, frame, stamp_ns))
        infos.publish(fill_camera_info(CameraInfo(), shot.K, width, height, frame, stamp_ns))
        # One byte holds the classes; unlabeled, 65535, becomes 255.
        labels.publish(fill_image(Image(), self._labels_of[shot.classes].astype(np.uint8), frame, stamp_ns))


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node("simulated_sensor_node", SimulatedSensorNode, args)


if __name__ == "__main__":
    main()
