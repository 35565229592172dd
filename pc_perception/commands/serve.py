# SPDX-License-Identifier: Apache-2.0
"""``pc-perception serve``: label a robot's live clouds from a machine without ROS."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from pc_perception.inference.dds_transport import DdsTransport, Sample, Watcher
from pc_perception.inference.live_segmenter import Labelled, LiveSegmenter
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.inference.vitals import Report
from pc_perception.io.dds import BEST_EFFORT, Participant, Subscription
from pc_perception.io.message_types import CLOUD, CLOUD_TYPES
from pc_perception.visualization.live import LiveView

HINT_AFTER_S = 5.0
LOOK_PERIOD_S = 1.0


@dataclass(frozen=True)
class ServeOptions:
    """What a server does.

    Attributes:
        input, output: topics, full names.
        domain: ROS_DOMAIN_ID.
        qos: ``best_effort`` takes every publisher; ``reliable`` has lost parts sent again, where the publisher
            is reliable too. Used for both topics.
        period_s: seconds between two lines on stdout.
    """

    input: str = "/points"
    output: str = "/segmentation"
    domain: int = 0
    qos: str = BEST_EFFORT
    model: str = "street"
    device: str = "auto"
    max_rate_hz: float = 0.0
    confidence_threshold: float = 0.0
    period_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.period_s > 0:
            raise ValueError(f"--period must be more than 0 s, got {self.period_s:g}")
        if not self.max_rate_hz >= 0:
            raise ValueError(f"--max-rate must be 0 (all clouds) or more, got {self.max_rate_hz:g}")
        if self.input == self.output:
            raise ValueError(f"'{self.input}' is input and output; give another --input or --output")

    def values(self) -> dict[str, Any]:
        """Return the options of ``LiveSegmenter``."""
        return {
            "model": self.model,
            "device": self.device,
            "precision": "auto",
            "n_sweeps": 1,
            "ego_box": (0.0,) * 6,
            "confidence_threshold": self.confidence_threshold,
            "max_rate_hz": self.max_rate_hz,
            "max_age_ms": 500.0,
            "publish_debug": False,
            "publish_legend": True,
            "sensor_check": True,
        }


class Server:
    """A live segmenter on DDS topics; a context manager. ``spin`` it until it is to end."""

    def __init__(self, options: ServeOptions, watch: Watcher | None = None) -> None:
        """Load the model and join the domain.

        Raises:
            FileNotFoundError, ImportError, ValueError: the model, the wheel or the options do not serve.
        """
        self.options = options
        self._participant = Participant(options.domain)
        self._transport = DdsTransport(self._participant, options.output, options.qos, watch)
        self.live = LiveSegmenter(self._transport, options.values())
        self._subscription: Subscription | None = None
        self._type = CLOUD
        self._reported = self._started = self._looked = 0.0
        self._hinted = False

    def __enter__(self) -> Server:
        self.live.start()
        self._subscribe(CLOUD)
        self._reported = self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._report()
        self.live.stop()
        self.live.close()
        self._participant.close()

    def __str__(self) -> str:
        o = self.options
        return f"{self.live.describe()}; '{o.input}' -> '{o.output}' in domain {o.domain}, {o.qos}"

    def spin(self, timeout_s: float = 0.2) -> None:
        """Take what arrives within ``timeout_s``; report when it is time."""
        assert self._subscription is not None
        self._participant.spin(timeout_s)
        now = time.monotonic()
        if now - self._reported >= self.options.period_s:
            self._reported = now
            self._report()
        if now - self._looked >= LOOK_PERIOD_S:
            self._looked = now
            if not self._subscription.n_publishers:
                self._follow_publisher()
        if not self._hinted and now - self._started > HINT_AFTER_S:
            self._hinted = True
            self._hint()

    def _subscribe(self, msgtype: str) -> None:
        """Take one type of clouds; of several at a time `ros2 topic echo` refuses a topic."""
        if self._subscription is not None:
            self._participant.unsubscribe(self._subscription)
        o, live = self.options, self.live
        self._type = msgtype
        self._subscription = self._participant.subscribe(
            o.input, msgtype, lambda cdr: live.take(Sample(cdr, msgtype)), o.qos
        )

    def _types(self) -> set[str]:
        """Return the types that publishers of the input have."""
        return {e.msgtype for e in self._participant.publishers() if e.topic == self.options.input}

    def _follow_publisher(self) -> None:
        """Take Livox's own message where that is what the input is, and PointCloud2 where it is that again."""
        types = self._types()
        found = next((t for t in CLOUD_TYPES if t in types), None)
        if found is not None and self._type not in types:
            self._subscribe(found)
            print(f"'{self.options.input}' is a {found}, taken as it is", flush=True)

    def _report(self) -> None:
        assert self._subscription is not None
        reports = self.live.reports()
        stream = reports["labelling"]
        lost, publishers = self._subscription.n_lost, self._subscription.n_publishers
        stream.values.update(lost=lost, publishers=publishers, listeners=self._transport.clouds.n_subscribers)
        print(_line(stream), flush=True)
        self._transport.send_diagnostics(reports, self.options.model)

    def _hint(self) -> None:
        """Say what might be meant, where nothing has come."""
        assert self._subscription is not None
        if self.live.vitals.counts["received"]:
            return
        topic = self.options.input
        found = self._participant.publishers()
        other = sorted(self._types() - set(CLOUD_TYPES))
        if other:
            self._transport.warn(f"'{topic}' is a {other[0]}, not a {CLOUD}")
            return
        if self._subscription.n_incompatible:
            self._transport.warn(f"the publisher of '{topic}' is best effort: leave --reliable away")
            return
        clouds = sorted({e.topic for e in found if e.msgtype in CLOUD_TYPES} - {self.options.output, topic})
        there = f"clouds are on {', '.join(clouds)}" if clouds else "no cloud topic is seen in the domain"
        self._transport.warn(f"nothing on '{topic}' yet; {there} (--input, --domain, CYCLONEDDS_URI)")


def _line(stream: Report) -> str:
    v = stream.values
    age, p95 = v.get("age_ms_p50", "-"), v.get("age_ms_p95", "-")
    return (
        f"in {v['input_hz']} Hz, out {v['output_hz']} Hz, age {age} ms (p95 {p95}), labelled {v['labelled']} of "
        f"{v['received']}, dropped {v['dropped']}, failed {v['failed']}, lost {v['lost']}, "
        f"{v['publishers']} publisher(s), {v['listeners']} listener(s): {stream.text}"
    )


def run(options: ServeOptions, view: int | None = None) -> None:
    """Serve until interrupted; with ``view``, a port of loopback (0: any), show a page as well.

    Raises:
        FileNotFoundError, ImportError, OSError, ValueError: as ``Server`` and ``LiveView``.
    """
    keep_freed_memory()
    try:
        with ExitStack() as stack:
            watch = None
            if view is not None:
                page = stack.enter_context(LiveView(f"{options.model} on {options.input}", view))
                print(f"live picture: {page.url}", flush=True)
                watch = partial(_show, page)
            server = stack.enter_context(Server(options, watch))
            print(f"{server}. Ctrl-C ends", flush=True)
            while True:
                server.spin()
    except KeyboardInterrupt:
        print("pc-perception: ended", file=sys.stderr)


def _show(page: LiveView, labelled: Labelled) -> None:
    age_ms = (time.time_ns() - labelled.cloud.stamp_ns) / 1e6
    age = f"{age_ms:.0f} ms old" if 0 <= age_ms < 1e6 else "not stamped by this clock"
    page.show(labelled.cloud, labelled.result, f"{age} · model {labelled.result.total_ms:.0f} ms")
