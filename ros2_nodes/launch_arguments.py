# SPDX-License-Identifier: Apache-2.0
"""The arguments of the launch files: those that several have, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

PACKAGE = "pc_perception"
SHARE = FindPackageShare(PACKAGE)
SWITCH = ["true", "false"]
OF_LAUNCH = ("launch-prefix", "launch-prefix-filter")
"""Arguments that every launch file takes."""


class Argument(NamedTuple):
    """One argument of a launch file; what is not said is left to params_file where it is a parameter."""

    text: str
    default: object = ""
    choices: list[str] | None = None


CAMERAS = {
    "cameras": Argument(
        "Names of the cameras, separated by commas; each has the topics NAME/image_raw and NAME/camera_info. "
        "Empty: what params_file says."
    ),
    "calibrations": Argument(
        "Result files of pc-calibrate, one for each camera, separated by commas; empty: what params_file says."
    ),
}
BAG_RATE = Argument(
    "Speed at which the bag plays: 0.5 is half, for a model that is slower than the sensor was.", "1.0"
)
BAG_OF_CLOUDS = {
    "bag": Argument(
        "rosbag2 bag (folder, .mcap or .db3) to play with its own clock; input says which of its topics, "
        "without it the cloud topic with most messages is taken."
    ),
    "bag_rate": BAG_RATE,
}


def model(shipped: str = "street, room") -> dict[str, Argument]:
    """Return the arguments of a node that runs a model file; ``shipped`` names those that suit it."""
    return {
        "model": Argument(
            f"Shipped model ({shipped}) or path of a .safetensors model file; empty: what params_file says."
        ),
        "device": Argument("auto, cpu, cuda or cuda:N; empty: what params_file says (auto)."),
        "threads": Argument(
            "CPU threads to compute with, 0 lets torch choose; empty: what params_file says (0)."
        ),
    }


def common(config: str) -> dict[str, Argument]:
    """Return the arguments that every launch file has; ``config`` is its parameter file's name."""
    return {
        "namespace": Argument("Namespace of the nodes and topics."),
        "params_file": Argument(
            "YAML file with the parameters of the nodes.", PathJoinSubstitution([SHARE, "config", config])
        ),
        "use_sim_time": Argument("Take the time from /clock; always so with bag.", "false", SWITCH),
        "autostart": Argument(
            "Configure and activate at start; false leaves that to a manager.", "true", SWITCH
        ),
        "rviz": Argument("Open RViz where it is installed.", "true", SWITCH),
        "rviz_frame": Argument("Fixed frame of RViz; empty: one that fits the input."),
        "log_level": Argument(
            "Least severe messages that the nodes print.", "info", ["debug", "info", "warn", "error", "fatal"]
        ),
    }


def refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse arguments that a launch file does not have; ``ros2 launch`` itself would ignore them.

    Raises:
        ValueError: there is one; the sentence names the nearest known.
    """
    for name in sorted({*given} - {*known, *OF_LAUNCH}):
        near = get_close_matches(name, known, 1)
        meant = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"there is no argument '{name}'; {meant}")


def positive(name: str, text: str) -> float:
    """Read a number above zero.

    Raises:
        ValueError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise ValueError(f"{name} must be a number above 0, got '{text}'")
    return value
