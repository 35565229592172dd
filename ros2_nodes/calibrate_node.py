# SPDX-License-Identifier: Apache-2.0
"""Lifecycle node that publishes a rig's calibration and reports on /diagnostics whether it still holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sensor_msgs.msg import CompressedImage, Image

from .perception_node import PerceptionNode
from .runtime import Words, run_node
from .tables import CALIBRATE_NODE

if TYPE_CHECKING:
    from .calibrating import Calibrator


class CalibrateNode(PerceptionNode):
    """Publishes /tf_static and camera_info from result files, and measures them on live clouds and pictures."""

    default_name = "calibrate_node"
    table = CALIBRATE_NODE
    words = Words("cloud", "cloud", "calibration watch", "taken")

    def make_worker(self) -> Calibrator:
        """Read the result files."""
        from .calibrating import Calibrator

        return Calibrator(self)

    def subscribe(self, worker: Calibrator) -> None:
        """Subscribe to every camera's pictures and to the clouds."""
        for watched in worker.watched:
            raw, take = f"{watched.feed.name}/image_raw", worker.picture_callback(watched)
            if self.values["compressed"]:
                self.listen(CompressedImage, f"{raw}/compressed", take, depth=2)
            else:
                self.listen(Image, raw, take, depth=2)
        self.listen_to_clouds(worker.take)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node("calibrate_node", CalibrateNode, args)


if __name__ == "__main__":
    main()
