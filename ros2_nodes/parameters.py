# SPDX-License-Identifier: Apache-2.0
"""Parameters of nodes: what a table of them says, and the ROS descriptors, checks and docs made from it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str | list[float] | list[str]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    Attributes:
        default: also fixes the type; a list is an array of doubles or of texts.
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


def wrong_names(value: Sequence[str]) -> str | None:
    """Say why texts are no names of topics' parents, each once."""
    bad = [v for v in value if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_/]*", v)]
    if bad or not value:
        return f"needs names of letters, digits and underscores, got {list(value)}"
    return f"names one twice: {list(value)}" if len(set(value)) != len(value) else None


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
