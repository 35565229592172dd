# SPDX-License-Identifier: Apache-2.0
"""Find, name and follow the objects of a live sensor, a bag, or (with no argument) a simulated sensor; show them."""

from __future__ import annotations

from launch import LaunchDescription, LaunchDescriptionEntity
from ros2_nodes.bag_topics import cloud_topic
from ros2_nodes.launch_arguments import BAG_OF_CLOUDS, Argument, common, model
from ros2_nodes.launching import Session, describe

ARGUMENTS = {
    "input": Argument(
        "PointCloud2 topic whose objects are found, e.g. /velodyne_points. Without it and without bag, a "
        "simulated sensor is started."
    ),
    **BAG_OF_CLOUDS,
    **model("objects"),
    "fixed_frame": Argument("Frame that stands still, to track in; empty: what params_file says (odom)."),
    **common("classify.yaml"),
}


def compose(session: Session) -> list[LaunchDescriptionEntity]:
    """Return the actions that the arguments ask for."""
    topic, bag, fixed = session.said("input"), session.said("bag"), session.said("fixed_frame")
    frame, simulated = "base_link", not topic and not bag
    if bag:
        topic, frame = cloud_topic(bag, topic)
    remapped = {"points": topic}
    finder = session.perception("classify_node", remapped, **({"fixed_frame": fixed} if fixed else {}))
    # The bag's event handler comes first, so that it is there when the node becomes active.
    actions = [session.play(finder, f"playing '{bag}', finding objects on '{topic}'")] if bag else []
    actions.append(finder)
    if simulated:
        actions += session.simulated("simulated_sensor_node")
    return actions + session.rviz("classify.rviz", frame, remapped)


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and, once they are known, the nodes."""
    return describe(ARGUMENTS, compose)
