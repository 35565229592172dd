# SPDX-License-Identifier: Apache-2.0
"""Colour and label a LiDAR's points from cameras, live or from a bag, or (with no argument) of a simulated rig."""

from __future__ import annotations

from launch import LaunchDescription, LaunchDescriptionEntity
from ros2_nodes.bag_topics import cloud_topic
from ros2_nodes.launch_arguments import BAG_OF_CLOUDS, CAMERAS, Argument, common
from ros2_nodes.launching import Session, describe

SIMULATED = ["cam_front", "cam_front_left", "cam_back_left", "cam_back", "cam_back_right", "cam_front_right"]
ARGUMENTS = {
    "input": Argument(
        "PointCloud2 topic, e.g. /velodyne_points. Without it and without bag, a simulated rig is started."
    ),
    **CAMERAS,
    **BAG_OF_CLOUDS,
    **common("fuse.yaml"),
}


def compose(session: Session) -> list[LaunchDescriptionEntity]:
    """Return the actions that the arguments ask for."""
    topic, bag = session.said("input"), session.said("bag")
    frame, simulated = "base_link", not topic and not bag
    if bag:
        topic, frame = cloud_topic(bag, topic)
    remapped = {"points": topic}
    values = {"cameras": SIMULATED} if simulated and not session.said("cameras") else {}
    node = session.perception("fuse_node", remapped, **values)
    actions = [session.play(node, f"playing '{bag}', colouring its topic '{topic}'")] if bag else []
    actions.append(node)
    if simulated:
        actions += session.simulated("simulated_sensor_node", cameras=len(SIMULATED), rate_hz=4.0)
    return actions + session.rviz("fuse.rviz", frame, remapped)


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and, once they are known, the nodes."""
    return describe(ARGUMENTS, compose)
