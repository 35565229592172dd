# SPDX-License-Identifier: Apache-2.0
"""Carry clouds and labels over DDS, for a ``LiveSegmenter`` on a machine without ROS."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pc_perception.io import livox
from pc_perception.io.dds import LATCHED, Participant, decode
from pc_perception.io.label_messages import LABEL_INFO, LEGEND, label_info, legend
from pc_perception.io.message_types import CLOUD, cloud_message, new_message
from pc_perception.labels import LabelSet

from .live_segmenter import Labelled
from .vitals import Report

DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
COMPLAINT_PERIOD_S = 5.0

Watcher = Callable[[Labelled], None]


class Sample(NamedTuple):
    """A message's bytes, and its type: one of ``message_types.CLOUD_TYPES``."""

    cdr: bytes
    msgtype: str = CLOUD


class DdsTransport:
    """Publishers of one stream of labelled clouds.

    Beside ``output`` lie ``label_info`` and ``legend`` (latched), at the same level of namespace;
    ``/diagnostics`` is where ROS 2 looks for it.

    Args:
        participant: member of the robot's domain.
        output: topic of the labelled clouds.
        qos: ``best_effort`` or ``reliable``, of the labelled clouds.
        watch: called with every labelled sweep on the worker's thread; makes labels wanted all the time.
    """

    def __init__(
        self, participant: Participant, output: str, qos: str = "best_effort", watch: Watcher | None = None
    ) -> None:
        beside = output.rpartition("/")[0]
        self._watch = watch
        self.clouds = participant.publisher(output, CLOUD, qos)
        self._label_info = participant.publisher(f"{beside}/label_info", LABEL_INFO, LATCHED, depth=1)
        self._legend = participant.publisher(f"{beside}/legend", LEGEND, LATCHED, depth=1)
        self._diagnostics = participant.publisher("/diagnostics", DIAGNOSTICS, "reliable", depth=10)
        self._legend_shown: tuple[LabelSet, str] | None = None
        self._complained = float("-inf")

    def wanted(self) -> bool:
        """True while somebody subscribes to the labelled clouds, or watches."""
        return self._watch is not None or self.clouds.n_subscribers > 0

    def now_ns(self) -> int:
        """Return the system's time; there is no simulated clock without ROS."""
        return time.time_ns()

    def decode(self, msg: Sample) -> Any:
        """Return the PointCloud2 of a message's bytes, also of Livox's own message."""
        return livox.custom_msg(msg.cdr) if msg.msgtype in livox.TYPES else decode(*msg)

    def send_labelled(self, labelled: Labelled, source: Any) -> None:
        """Publish with the source's stamp and size."""
        msg = cloud_message(labelled.message)
        msg.header.stamp = source.header.stamp
        msg.height, msg.width = source.height, source.width
        msg.row_step = msg.point_step * msg.width
        self.clouds.publish(msg)
        if self._watch is not None:
            self._watch(labelled)

    def send_label_info(self, label_set: LabelSet, threshold: float) -> None:
        """Say which id is which class."""
        msg = label_info(label_set, "", self.now_ns(), new_message)
        msg.threshold = threshold
        self._label_info.publish(msg)

    def send_legend(self, label_set: LabelSet, frame: str) -> None:
        """Show class names and colours, when they or the frame have changed."""
        if self._legend_shown != (label_set, frame):
            self._legend.publish(legend(label_set, frame, 0, new_message))  # stamp zero: newest transform
            self._legend_shown = (label_set, frame)

    def send_debug(self, **milliseconds: float) -> None:
        """Latencies are told on /diagnostics alone."""

    def send_diagnostics(self, reports: Mapping[str, Report], hardware: str) -> None:
        """Publish reports by name as one DiagnosticArray."""
        array = new_message(DIAGNOSTICS)
        array.header.stamp.sec, array.header.stamp.nanosec = divmod(self.now_ns(), 10**9)
        array.status = [_status(f"pc-perception serve: {n}", hardware, r) for n, r in reports.items()]
        self._diagnostics.publish(array)

    def complain(self, text: str, unexpected: bool) -> None:
        """Say on stderr why a sweep was skipped, every few seconds."""
        now = time.monotonic()
        if now - self._complained > COMPLAINT_PERIOD_S:
            self._complained = now
            self.warn(text)

    def warn(self, text: str) -> None:
        """Say something on stderr."""
        print(f"pc-perception: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Publishers end with their participant."""


def _status(name: str, hardware: str, report: Report) -> Any:
    status = new_message("diagnostic_msgs/msg/DiagnosticStatus")
    status.level, status.name, status.message = report.level, name, report.text
    status.hardware_id = hardware
    for key, value in report.values.items():
        pair = new_message("diagnostic_msgs/msg/KeyValue")
        pair.key, pair.value = key, str(value)
        status.values.append(pair)
    return status
