# SPDX-License-Identifier: Apache-2.0
"""Label a live sensor, a bag, or (with no argument) a simulated sensor, and show it in RViz."""

from __future__ import annotations

from collections.abc import Callable

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from ros2_nodes.bag_topics import cloud_topic

PACKAGE = "pc_perception"
SHARE = FindPackageShare(PACKAGE)
SWITCH = ["true", "false"]


# name: (default, allowed values, what it means); what is not said is left to params_file.
ARGUMENTS: dict[str, tuple[object, list[str] | None, str]] = {
    "input": (
        "",
        None,
        "PointCloud2 topic to label, e.g. /velodyne_points. Without it and without bag, a simulated sensor "
        "is started.",
    ),
    "bag": (
        "",
        None,
        "rosbag2 bag (folder, .mcap or .db3) to play with its own clock; input says which of its topics, "
        "without it the cloud topic with most messages is taken.",
    ),
    "bag_rate": (
        "1.0",
        None,
        "Speed at which the bag plays: 0.5 is half, for a model that is slower than the sensor was.",
    ),
    "model": (
        "",
        None,
        "Shipped model (street, room) or path of a .safetensors model file; empty: what params_file says "
        "(street).",
    ),
    "device": ("", None, "auto, cpu, cuda or cuda:N; empty: what params_file says (auto)."),
    "threads": (
        "",
        None,
        "CPU threads of the model, 0 lets torch choose; empty: what params_file says (0).",
    ),
    "namespace": ("", None, "Namespace of the nodes and topics."),
    "params_file": (
        PathJoinSubstitution([SHARE, "config", "segment.yaml"]),
        None,
        "YAML file with the parameters of segment_node.",
    ),
    "use_sim_time": ("false", SWITCH, "Take the time from /clock; always so with bag."),
    "autostart": (
        "true",
        SWITCH,
        "Configure and activate segment_node at start; false leaves that to a manager.",
    ),
    "rviz": ("true", SWITCH, "Open RViz where it is installed."),
    "rviz_frame": (
        "",
        None,
        "Fixed frame of RViz; empty: the clouds' own frame for a bag, else base_link.",
    ),
    "log_level": (
        "info",
        ["debug", "info", "warn", "error", "fatal"],
        "Least severe messages that the nodes print.",
    ),
}


def arguments() -> list[LaunchDescriptionEntity]:
    """Return what can be said on the command line."""
    return [
        DeclareLaunchArgument(name, default_value=default, choices=choices, description=text)
        for name, (default, choices, text) in ARGUMENTS.items()
    ]


def compose(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the actions that the arguments ask for."""

    def said(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    topic, bag, simulated = said("input"), said("bag"), not said("input") and not said("bag")
    # A frame that drives along: through odom a cloud, older than the newest transform, would lag behind.
    frame = "base_link"
    rate = positive("bag_rate", said("bag_rate"))
    if bag:
        topic, frame = cloud_topic(bag, topic)
    sim_time = {"use_sim_time": True} if bag or said("use_sim_time") == "true" else {}
    common = {
        "package": PACKAGE,
        "namespace": said("namespace"),
        "output": "screen",
        "ros_arguments": ["--log-level", said("log_level")],
        "sigterm_timeout": "20",  # on a busy machine the end of a sweep takes its time
    }
    segment = LifecycleNode(
        executable="segment_node",
        name="segment_node",
        parameters=[said("params_file"), overrides(said) | sim_time],
        remappings=[("points", topic)] if topic else [],
        **common,
    )
    actions: list[LaunchDescriptionEntity] = [segment]
    if simulated:
        sensor = Node(executable="simulated_sensor_node", name="simulated_sensor_node", **common)
        actions += [LogInfo(msg="no input and no bag given: labelling a simulated sensor"), sensor]
    if bag:
        told = LogInfo(msg=f"playing '{bag}', labelling its topic '{topic}'")
        play = ExecuteProcess(
            cmd=["ros2", "bag", "play", bag, "--clock", "--delay", "1", "--rate", str(rate)], output="screen"
        )
        # Only then: a short bag would be over before the model is loaded.
        ready = OnStateTransition(target_lifecycle_node=segment, goal_state="active", entities=[told, play])
        actions.insert(0, RegisterEventHandler(ready))
    if said("rviz") == "true":
        actions.append(rviz(said("rviz_frame") or frame, said("namespace"), topic, sim_time))
    return actions


def overrides(said: Callable[[str], str]) -> dict[str, object]:
    """Return the parameters that were given as arguments; all others stay as params_file has them."""
    given: dict[str, object] = {name: said(name) for name in ("model", "device") if said(name)}
    if said("threads"):
        if not said("threads").isdigit():
            raise ValueError(f"threads must be a whole number, got '{said('threads')}'")
        given["threads"] = int(said("threads"))
    if said("autostart") == "false":
        given["autostart"] = False
    return given


def positive(name: str, text: str) -> float:
    """Read a number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise ValueError(f"{name} must be a number above 0, got '{text}'")
    return value


def rviz(frame: str, namespace: str, topic: str, sim_time: dict[str, bool]) -> LaunchDescriptionEntity:
    """Return RViz with our configuration, or one line where it is not installed."""
    try:
        get_package_share_directory("rviz2")
    except PackageNotFoundError:
        return LogInfo(msg="rviz2 is not installed: install it (ros-<distro>-rviz2), or say rviz:=false")
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=namespace,
        arguments=["-d", PathJoinSubstitution([SHARE, "rviz", "segment.rviz"]), "-f", frame],
        parameters=[sim_time],
        remappings=[("points", topic)] if topic else [],
        output="log",
    )


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and, once they are known, the nodes."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=compose)])
