# SPDX-License-Identifier: Apache-2.0
"""What the launch files share: our nodes, a bag played once they are ready, RViz."""

from __future__ import annotations

import atexit
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition

from .bag_topics import sensor_topics
from .launch_arguments import PACKAGE, SHARE, Argument, positive, refuse_unknown

CYCLONE = (
    "<CycloneDDS><Domain><General><MaxMessageSize>65500B</MaxMessageSize><FragmentSize>65000B</FragmentSize>"
    "</General><Internal><SocketReceiveBufferSize max='16MB'/></Internal></Domain></CycloneDDS>"
)
"""Few datagrams to a cloud, as Fast DDS sends by default: 40 of 2.6 MB, of which those that a full buffer refused
are asked for in one go. And a buffer for several clouds, as far as net.core.rmem_max allows."""
ACKNOWLEDGED_MS = 10_000
"""How long a player waits at a bag's end until everything has arrived."""


class Session:
    """One launch: what was said on the command line, and the actions that follow from it."""

    def __init__(self, context: LaunchContext) -> None:
        self._context = context
        given = context.launch_configurations
        bag = "bag" in given and self.said("bag")
        sensors = [name for name in ("input", "depth") if name in given and self.said(name)]
        # Players and simulated sensors are reliable; of a sensor that is there it is not known.
        self._reliable = bool(bag) or not sensors
        self._bag_rate = positive("bag_rate", self.said("bag_rate")) if "bag_rate" in given else 1.0
        self.sim_time: dict[str, object] = (
            {"use_sim_time": True} if bag or self.said("use_sim_time") == "true" else {}
        )
        # CYCLONEDDS_URI has the last word; other middleware does not read it.
        said = context.environment.get("CYCLONEDDS_URI", "")
        self._environment = {"CYCLONEDDS_URI": ",".join(part for part in (CYCLONE, said) if part)}
        self._common: dict[str, Any] = {
            "package": PACKAGE,
            "namespace": self.said("namespace"),
            "additional_env": self._environment,
            "output": "screen",
            "ros_arguments": ["--log-level", self.said("log_level")],
            "sigterm_timeout": "20",  # on a busy machine the end of a sweep takes its time
        }

    def said(self, name: str) -> str:
        """Return an argument's text."""
        return LaunchConfiguration(name).perform(self._context)

    def perception(self, name: str, remappings: Mapping[str, str], **values: object) -> LifecycleNode:
        """Return one of our lifecycle nodes; ``remappings`` (from -> to) to an empty name are left out."""
        return LifecycleNode(
            executable=name,
            name=name,
            parameters=[self.said("params_file"), self._overrides() | values | self.sim_time],
            remappings=_remappings(remappings),
            **self._common,
        )

    def combined(self, remappings: Mapping[str, Mapping[str, str]], **values: object) -> Node:
        """Return the nodes named by ``remappings`` in one process (``ros2_nodes.perception``).

        Args:
            remappings: node -> from -> to; those to an empty name are left out.
            values: parameters of whichever node has them.
        """
        arguments = list(self._common["ros_arguments"])
        for node, names in remappings.items():
            for old, new in _remappings(names):
                arguments += ["-r", f"{node}:{old}:={new}"]
        return Node(
            executable="perception",
            arguments=[name.removesuffix("_node") for name in remappings],
            parameters=[self.said("params_file"), self._overrides() | values | self.sim_time],
            **{**self._common, "ros_arguments": arguments},
        )

    def simulated(self, name: str, **values: object) -> list[LaunchDescriptionEntity]:
        """Return a simulated sensor and the line that says so."""
        told = LogInfo(msg=f"no input given: {name} stands in for a sensor")
        return [told, Node(executable=name, name=name, parameters=[values] if values else [], **self._common)]

    def _overrides(self) -> dict[str, object]:
        """Return the parameters that were given as arguments; all others stay as params_file has them."""
        known = self._context.launch_configurations
        given: dict[str, object] = {
            name: self.said(name) for name in ("model", "device") if name in known and self.said(name)
        }
        for name in ("cameras", "calibrations"):
            if name in known and self.said(name):
                given[name] = [part.strip() for part in self.said(name).split(",")]
        if "threads" in known and self.said("threads"):
            if not self.said("threads").isdigit():
                raise ValueError(f"threads must be a whole number, got '{self.said('threads')}'")
            given["threads"] = int(self.said("threads"))
        if self.said("autostart") == "false":
            given["autostart"] = False
        if self._reliable:
            given["reliable"] = True
        return given

    def play(self, node: LifecycleNode, told: str) -> LaunchDescriptionEntity:
        """Play the bag as soon as ``node`` is active: a short one would be over before the model is loaded.

        Raises:
            FileNotFoundError, ValueError: there is no such bag, or it cannot be read.
        """
        bag = self.said("bag")
        command = ["ros2", "bag", "play", bag, "--clock", "--delay", "1", "--rate", str(self._bag_rate)]
        kept = {topic: {"reliability": "reliable", "history": "keep_all"} for topic in sensor_topics(bag)}
        command += ["--qos-profile-overrides-path", _while_launched(json.dumps(kept), ".yaml")]
        command += ["--wait-for-all-acked", str(ACKNOWLEDGED_MS)]
        play = ExecuteProcess(cmd=command, additional_env=self._environment, output="screen")
        return RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node, goal_state="active", entities=[LogInfo(msg=told), play]
            )
        )

    def rviz(self, file: str, frame: str, remappings: Mapping[str, str]) -> list[LaunchDescriptionEntity]:
        """Return RViz with a configuration of ours, or one line where it is not installed; nothing if not wanted."""
        if self.said("rviz") != "true":
            return []
        try:
            get_package_share_directory("rviz2")
        except PackageNotFoundError:
            return [
                LogInfo(msg="rviz2 is not installed: install it (ros-<distro>-rviz2), or say rviz:=false")
            ]
        config = PathJoinSubstitution([SHARE, "rviz", file]).perform(self._context)
        if self._reliable:
            shown = (
                Path(config).read_text(encoding="utf-8").replace("Policy: Best Effort", "Policy: Reliable")
            )
            config = _while_launched(shown, ".rviz")
        return [
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=self.said("namespace"),
                additional_env=self._environment,
                arguments=["-d", config, "-f", self.said("rviz_frame") or frame],
                parameters=[self.sim_time],
                remappings=_remappings(remappings),
                output="log",
            )
        ]


def describe(
    arguments: Mapping[str, Argument], compose: Callable[[Session], list[LaunchDescriptionEntity]]
) -> LaunchDescription:
    """Return a launch file's description: its arguments and, once they are known, its actions."""
    declared = [
        DeclareLaunchArgument(name, default_value=a.default, choices=a.choices, description=a.text)
        for name, a in arguments.items()
    ]

    def compose_known(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        refuse_unknown(_given(context, description), arguments)
        return compose(Session(context))

    description = LaunchDescription([*declared, OpaqueFunction(function=compose_known)])
    return description


def _while_launched(text: str, suffix: str) -> str:
    """Write a file that is there until the launch ends, and return its path."""
    descriptor, name = tempfile.mkstemp(suffix, "pc_perception_")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    atexit.register(Path(name).unlink, missing_ok=True)
    return name


def _given(context: LaunchContext, description: LaunchDescription) -> list[str]:
    """Return the names of the arguments that ``ros2 launch`` starts ``description`` with.

    All launch files of one launch share their arguments' values: where another file includes this one, what was
    given may be that file's, and nothing is returned.
    """
    started = getattr(getattr(context.locals, "event", None), "launch_description", None)
    return [
        name
        for action in (started.entities if started else ())
        if isinstance(action, IncludeLaunchDescription) and description in action.get_sub_entities()
        for name, _ in action.launch_arguments
        if isinstance(name, str)
    ]


def _remappings(names: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(old, new) for old, new in names.items() if new]
