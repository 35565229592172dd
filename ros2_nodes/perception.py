# SPDX-License-Identifier: Apache-2.0
"""Several of our nodes in one process: ``ros2 run pc_perception perception segment rgbd --ros-args ...``.

rclpy loads no components into a container; this is the way to have one process. The nodes share one executor,
whose callbacks only pass messages on, and each has its own worker thread. Parameters and remappings of one node
carry its name: ``-p segment_node:model:=street``, ``-r rgbd_node:segmentation:=rgbd/segmentation``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from .runtime import run_nodes

NODES = {
    "segment": "ros2_nodes.segment_node:SegmentNode",
    "rgbd": "ros2_nodes.rgbd_node:RgbdNode",
    "classify": "ros2_nodes.classify_node:ClassifyNode",
    "fuse": "ros2_nodes.fuse_node:FuseNode",
    "calibrate": "ros2_nodes.calibrate_node:CalibrateNode",
}


def node_class(name: str) -> Any:
    """Return the class of a node by its short name.

    Raises:
        ValueError: there is no such node.
    """
    if name not in NODES:
        raise ValueError(f"there is no node '{name}'; there are {', '.join(NODES)}")
    module, _, attribute = NODES[name].partition(":")
    return getattr(import_module(module), attribute)


def main(args: list[str] | None = None) -> None:
    """Run the nodes that are named, all but calibrate without a name, until interrupted."""
    from rclpy.utilities import remove_ros_args

    given = sys.argv if args is None else args
    names = remove_ros_args(given)[1:] or [name for name in NODES if name != "calibrate"]
    try:
        makers = [node_class(name) for name in names]
    except ValueError as error:
        sys.exit(f"perception: {error}")
    run_nodes("perception", makers, given)


if __name__ == "__main__":
    main()
