# SPDX-License-Identifier: Apache-2.0
"""Publish a rig's calibration and watch whether it holds; with no argument that of a simulated rig."""

from __future__ import annotations

import tempfile
from pathlib import Path

from launch import LaunchDescription, LaunchDescriptionEntity
from ros2_nodes.launch_arguments import CAMERAS, Argument, common
from ros2_nodes.launching import Session, describe
from ros2_nodes.simulated_rig import write_calibrations

IMAGE_WIDTH = 640
ARGUMENTS = {
    "input": Argument("PointCloud2 topic, e.g. /velodyne_points. Without it, a simulated rig is started."),
    **CAMERAS,
    **common("calibrate.yaml"),
}


def compose(session: Session) -> list[LaunchDescriptionEntity]:
    """Return the actions that the arguments ask for."""
    topic = session.said("input")
    remapped = {"points": topic}
    if topic:
        return [
            session.perception("calibrate_node", remapped),
            *session.rviz("calibrate.rviz", "base_link", remapped),
        ]
    # One camera that sees far, on a vehicle that creeps: a sweep is then little distorted by the motion.
    files = write_calibrations(Path(tempfile.mkdtemp(prefix="pc_perception_")), 1, IMAGE_WIDTH)
    values: dict[str, object] = {"calibrations": [str(f) for f in files.values()], "cameras": list(files)}
    node = session.perception(
        "calibrate_node", remapped, publish_tf=False, publish_camera_info=False, **values
    )
    rig = {"cameras": 1, "image_width": IMAGE_WIDTH, "rate_hz": 2.0, "n_beams": 64, "speed": 0.5}
    return [
        node,
        *session.simulated("simulated_sensor_node", **rig),
        *session.rviz("calibrate.rviz", "base_link", remapped),
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and, once they are known, the nodes."""
    return describe(ARGUMENTS, compose)
