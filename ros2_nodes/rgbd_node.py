# SPDX-License-Identifier: Apache-2.0
"""Lifecycle node that labels an RGB-D camera: depth, rgb and camera_info in, labelled cloud and image out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from message_filters import ApproximateTimeSynchronizer, SimpleFilter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from .perception_node import PerceptionNode
from .runtime import Words, run_node
from .tables import RGBD_NODE

if TYPE_CHECKING:
    from .rgbd_labelling import RgbdLabeller


class RgbdNode(PerceptionNode):
    """Loads and warms up a model, then labels every synchronised frame."""

    default_name = "rgbd_node"
    table = RGBD_NODE
    words = Words("frame", "synchronised frame")

    def make_worker(self) -> RgbdLabeller:
        """Load the model; its module imports torch."""
        from .rgbd_labelling import RgbdLabeller

        return RgbdLabeller(self)

    def subscribe(self, worker: RgbdLabeller) -> None:
        """Hand every synchronised frame to the worker."""
        values = self.values
        inputs = {"depth": self._picture("depth"), "camera_info": CameraInfo}
        if values["use_rgb"]:
            inputs["rgb"] = self._picture("rgb")
        filters = [SimpleFilter() for _ in inputs]
        synchronizer = ApproximateTimeSynchronizer(filters, values["sync_queue"], values["sync_slop_s"])
        synchronizer.registerCallback(worker.take_frame)
        for passed, (topic, kind) in zip(filters, inputs.items(), strict=True):
            self.listen(kind, topic, passed.signalMessage, depth=values["sync_queue"])
        self.watch_calibration(worker.trust, "depth", "calibration_status")
        if values["use_rgb"] and not values["registered"]:
            self.listen(CameraInfo, "rgb_camera_info", worker.note_color_info)
            self.watch_calibration(worker.trust, "rgb", "rgb_calibration_status")

    def _picture(self, topic: str) -> type:
        """Return the type of an input of pictures, which image_transport tells by the topic's last name."""
        compressed = self.resolve_topic_name(topic).endswith(("/compressed", "/compressedDepth"))
        return CompressedImage if compressed else Image


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node("rgbd_node", RgbdNode, args)


if __name__ == "__main__":
    main()
