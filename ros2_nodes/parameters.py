# SPDX-License-Identifier: Apache-2.0
"""Parameters of the nodes: one table each, from which ROS descriptors, checks and docs are made."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str | list[float]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    Attributes:
        default: also fixes the type; a list is an array of doubles of that length.
        description: what it does, with its unit.
        low, high: inclusive range of a number.
        read_only: fixed when the node starts.
        check: returns what is wrong with a value, or None.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    read_only: bool = False
    check: Callable[[Any], str | None] | None = None


def wrong_device(value: str) -> str | None:
    """Say why ``value`` names no device; whether it is there is found out when the model is loaded."""
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        return None
    return f"'{value}' is not a device; use auto, cpu, cuda or cuda:N"


def wrong_precision(value: str) -> str | None:
    """Say why ``value`` names no precision."""
    known = ("auto", "float32", "bfloat16")
    return None if value in known else f"'{value}' is not a precision; use {', '.join(known)}"


def wrong_box(value: Sequence[float]) -> str | None:
    """Say why six numbers are no box; six zeros stand for none."""
    if len(value) != 6 or not all(math.isfinite(v) for v in value):
        return f"needs six finite numbers (x_min, y_min, z_min, x_max, y_max, z_max), got {list(value)}"
    if any(value) and any(a >= b for a, b in zip(value[:3], value[3:], strict=True)):
        return f"each minimum must lie below its maximum, got {list(value)}"
    return None


def wrong_frame(value: str) -> str | None:
    """Say why ``value`` is no frame name."""
    return f"'{value}' must not begin with a slash" if value.startswith("/") else None


SEGMENT_NODE = (
    Parameter(
        "model",
        "street",
        "Shipped model (street, room) or path of a .safetensors model file.",
        read_only=True,
        check=lambda v: None if v else "is empty; name a shipped model or a file",
    ),
    Parameter(
        "device",
        "auto",
        "auto (first CUDA device, else CPU), cpu, cuda or cuda:N.",
        read_only=True,
        check=wrong_device,
    ),
    Parameter(
        "precision",
        "auto",
        "What the model multiplies in: float32, bfloat16, or auto: bfloat16 on CPUs with instructions for it.",
        read_only=True,
        check=wrong_precision,
    ),
    Parameter("threads", 0, "CPU threads of the model; 0 leaves the choice to torch.", 0, 256, True),
    Parameter("autostart", True, "Configure and activate at start, without a manager.", read_only=True),
    Parameter(
        "target_frame",
        "",
        "Frame of the output; empty keeps the input's. Needs TF at the stamp of each cloud.",
        read_only=True,
        check=wrong_frame,
    ),
    Parameter(
        "n_sweeps",
        1,
        "Sweeps that the model sees at once: the newest, which is labelled, and earlier ones moved by TF.",
        1,
        20,
        True,
    ),
    Parameter(
        "fixed_frame",
        "odom",
        "Frame that stands still, through which earlier sweeps are moved; used when n_sweeps > 1.",
        read_only=True,
        check=lambda v: wrong_frame(v) if v else "is empty; name a frame such as odom or map",
    ),
    Parameter("diagnostics_period_s", 1.0, "Seconds between two messages on /diagnostics.", 0.1, 60.0, True),
    Parameter("tf_timeout_s", 0.1, "Seconds to wait for a transform before the sweep is skipped.", 0.0, 5.0),
    Parameter(
        "ego_box",
        [0.0] * 6,
        "Box of the vehicle itself: x_min, y_min, z_min, x_max, y_max, z_max in metres in target_frame (or "
        "the cloud's own frame); points inside stay unlabeled. Six zeros: no box.",
        check=wrong_box,
    ),
    Parameter("confidence_threshold", 0.0, "Labels less sure than this become unlabeled.", 0.0, 1.0),
    Parameter("max_rate_hz", 0.0, "Label at most so many sweeps per second; 0 labels all.", 0.0, 1000.0),
    Parameter(
        "max_age_ms", 500.0, "Diagnostics warn about output that is older than this when sent.", 1.0, 60000.0
    ),
    Parameter("publish_legend", True, "Publish class names and colours as markers on `legend`."),
    Parameter("publish_debug", True, "Publish latencies on `~/debug/...`."),
    Parameter("sensor_check", True, "Compare live clouds with what the model's training saw, and warn."),
)

SIMULATED_SENSOR_NODE = (
    Parameter("seed", 0, "Decides the streets, the sensor's noise and all traffic.", 0, 2**31 - 1, True),
    Parameter("rate_hz", 10.0, "Revolutions, thus clouds, per second.", 1.0, 20.0, True),
    Parameter(
        "n_beams",
        32,
        "Beams of the LiDAR: 16, 32, 64 or 128.",
        read_only=True,
        check=lambda v: None if v in (16, 32, 64, 128) else f"must be 16, 32, 64 or 128, got {v}",
    ),
    Parameter("n_azimuths", 1085, "Firings per revolution of each beam.", 90, 4096, True),
    Parameter("speed", 8.0, "Metres per second along the street.", 0.5, 30.0, True),
    Parameter("lidar_height", 1.84, "Metres of the sensor above the ground.", 0.3, 5.0, True),
)


def wrong_value(parameters: Sequence[Parameter], name: str, value: Any) -> str | None:
    """Return a sentence where ``value`` does not suit the parameter ``name``; unknown names pass."""
    for parameter in parameters:
        if parameter.name == name:
            reason = parameter.check(value) if parameter.check else None
            if reason is None and isinstance(value, float) and not math.isfinite(value):
                reason = f"must be a finite number, got {value}"
            return reason and f"parameter '{name}': {reason}"
    return None


def declare(node: Any, parameters: Sequence[Parameter], apply: Callable[[], None] | None = None) -> None:
    """Declare ``parameters`` on a rclpy node, with descriptors and checks.

    Args:
        apply: called after parameters were changed at run time.

    Raises:
        ValueError: a value that was given at start is wrong.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    def on_set(proposed: Sequence[Any]) -> SetParametersResult:
        reasons = [wrong_value(parameters, p.name, p.value) for p in proposed]
        reason = next((r for r in reasons if r), None)
        return SetParametersResult(successful=reason is None, reason=reason or "")

    node.add_on_set_parameters_callback(on_set)
    for p in parameters:
        descriptor = ParameterDescriptor(description=p.description, read_only=p.read_only)
        if p.low is not None and p.high is not None:
            if isinstance(p.default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(p.low), to_value=int(p.high), step=1)]
            else:
                float_range = FloatingPointRange(from_value=float(p.low), to_value=float(p.high))
                descriptor.floating_point_range = [float_range]
        try:
            node.declare_parameter(p.name, p.default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            reason = str(error).partition("Reason: ")[2] or str(error)
            raise ValueError(reason.removesuffix(f": {p.name}")) from None
    if apply is not None:
        on_change(node, apply)


def on_change(node: Any, apply: Callable[[], None]) -> None:
    """Call ``apply`` after parameters of ``node`` were changed."""
    if hasattr(node, "add_post_set_parameters_callback"):
        node.add_post_set_parameters_callback(lambda _: apply())
        return
    # Humble: the change is seen on the topic that announces it.
    from rcl_interfaces.msg import ParameterEvent

    def on_event(event: ParameterEvent) -> None:
        if event.node == node.get_fully_qualified_name():
            apply()

    node.create_subscription(ParameterEvent, "/parameter_events", on_event, 10)


def read(node: Any, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the node's current values by name."""
    return {p.name: node.get_parameter(p.name).value for p in parameters}


def markdown(parameters: Sequence[Parameter]) -> str:
    """Return the table that the documentation shows."""
    lines = ["| parameter | default | range | changes at run time | meaning |", "|---|---|---|---|---|"]
    for p in parameters:
        default = {True: "true", False: "false"}.get(p.default) if isinstance(p.default, bool) else None
        span = "" if p.low is None else f"{p.low:g} .. {p.high:g}"
        shown = default or (f'"{p.default}"' if isinstance(p.default, str) else p.default)
        lines.append(
            f"| `{p.name}` | {shown} | {span} | {'no' if p.read_only else 'yes'} | {p.description} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the tables of docs/ros2.md."""
    sys.stdout.write(f"{markdown(SEGMENT_NODE)}\n{markdown(SIMULATED_SENSOR_NODE)}")


if __name__ == "__main__":
    main()
