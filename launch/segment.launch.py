# SPDX-License-Identifier: Apache-2.0
"""Label a live sensor, a bag, or (with no argument) a simulated sensor, and show it in RViz."""

from __future__ import annotations

from launch import LaunchDescription, LaunchDescriptionEntity
from ros2_nodes.bag_topics import cloud_topic
from ros2_nodes.launch_arguments import BAG_OF_CLOUDS, Argument, common, model
from ros2_nodes.launching import Session, describe

ARGUMENTS = {
    "input": Argument(
        "PointCloud2 topic to label, e.g. /velodyne_points. Without it and without bag, a simulated sensor "
        "is started."
    ),
    **BAG_OF_CLOUDS,
    **model(),
    **common("segment.yaml"),
}


def compose(session: Session) -> list[LaunchDescriptionEntity]:
    """Return the actions that the arguments ask for."""
    topic, bag = session.said("input"), session.said("bag")
    # A frame that drives along: through odom a cloud, older than the newest transform, would lag behind.
    frame, simulated = "base_link", not topic and not bag
    if bag:
        topic, frame = cloud_topic(bag, topic)
    remapped = {"points": topic}
    segment = session.perception("segment_node", remapped)
    # The bag's event handler comes first, so that it is there when the node becomes active.
    actions = [session.play(segment, f"playing '{bag}', labelling its topic '{topic}'")] if bag else []
    actions.append(segment)
    if simulated:
        actions += session.simulated("simulated_sensor_node")
    return actions + session.rviz("segment.rviz", frame, remapped)


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and, once they are known, the nodes."""
    return describe(ARGUMENTS, compose)
