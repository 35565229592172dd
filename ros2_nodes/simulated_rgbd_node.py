# SPDX-License-Identifier: Apache-2.0
"""Node that stands in for an RGB-D camera which looks around in one simulated room after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image

from pc_perception.io.image_messages import fill_camera_info, fill_image

from .conversions import transform_message
from .runtime import run_node
from .simulated_node import SimulatedNode
from .tables import SIMULATED_RGBD_NODE

if TYPE_CHECKING:
    from pc_perception.simulation.camera import CameraFrame

FRAME = "camera_optical_frame"


class SimulatedRgbdNode(SimulatedNode):
    """Publishes `depth` (registered), `rgb` and `camera_info` in frame camera_optical_frame, /tf map -> it."""

    default_name = "simulated_rgbd_node"
    table = SIMULATED_RGBD_NODE

    def set_up(self) -> None:
        """Make the publishers."""
        self._depth = self.sensor_publisher(Image, "depth")
        self._rgb = self.sensor_publisher(Image, "rgb")
        self._info = self.sensor_publisher(CameraInfo, "camera_info")

    def simulate(self) -> Iterator[CameraFrame]:
        """Look around in room after room."""
        from pc_perception.simulation.rgbd import look_around

        v = self.values
        n_frames = round(v["turn_s"] * v["rate_hz"])
        return look_around(v["seed"], n_frames, v["width"], v["width"] * 3 // 4)

    def send(self, frame: CameraFrame, now: Time) -> None:
        """Publish pose, colour, depth in millimetres and intrinsics of one frame."""
        height, width = frame.depth.shape
        stamp_ns = now.nanoseconds
        self.moving.sendTransform(transform_message(frame.T_world_camera, "map", FRAME, now.to_msg()))
        self._info.publish(fill_camera_info(CameraInfo(), frame.K, width, height, FRAME, stamp_ns))
        self._rgb.publish(fill_image(Image(), frame.rgb, FRAME, stamp_ns))
        millimetres = np.rint(frame.depth * 1000.0).astype(np.uint16)
        self._depth.publish(fill_image(Image(), millimetres, FRAME, stamp_ns))


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node("simulated_rgbd_node", SimulatedRgbdNode, args)


if __name__ == "__main__":
    main()
