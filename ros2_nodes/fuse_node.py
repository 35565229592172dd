# SPDX-License-Identifier: Apache-2.0
"""Lifecycle node that gives a LiDAR's points the colours and labels of a ring of cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from .perception_node import PerceptionNode
from .runtime import Words, run_node
from .tables import FUSE_NODE

if TYPE_CHECKING:
    from .fusing import Fuser


class FuseNode(PerceptionNode):
    """Pairs every cloud of `points` with the cameras' pictures of its time."""

    default_name = "fuse_node"
    table = FUSE_NODE
    words = Words("cloud", "cloud", "fusing", "fused")

    def make_worker(self) -> Fuser:
        """Read the calibrations."""
        from .fusing import Fuser

        return Fuser(self)

    def subscribe(self, worker: Fuser) -> None:
        """Hand every cloud to the worker, and pictures, label images and intrinsics to the cameras' feeds."""
        compressed = self.values["compressed"]
        for feed in worker.feeds:
            raw = f"{feed.name}/image_raw"
            if compressed:
                self.listen(CompressedImage, f"{raw}/compressed", feed.take_picture, depth=2)
            else:
                self.listen(Image, raw, feed.take_picture, depth=2)
            if self.values["use_label_images"]:
                self.listen(Image, f"{feed.name}/label_image", feed.take_labels, depth=2)
            if feed.calibration is None:
                self.listen(CameraInfo, f"{feed.name}/camera_info", feed.take_info)
            self.watch_calibration(worker.trust, feed.name, f"{feed.name}/calibration_status")
        self.listen_to_clouds(worker.take)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node("fuse_node", FuseNode, args)


if __name__ == "__main__":
    main()
