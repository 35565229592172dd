# SPDX-License-Identifier: Apache-2.0
"""Parts of the nodes that need no ROS."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest
import yaml

from pc_perception.io.message_types import new_message
from ros2_nodes import camera_feed, parameters
from ros2_nodes.camera_feed import CameraFeed
from ros2_nodes.datagrams import n_dropped
from ros2_nodes.runtime import ERROR, OK, WARN, RateLimiter, Vitals
from ros2_nodes.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", TABLES)
def test_the_documentation_shows_the_parameters_as_they_are(name: str) -> None:
    section = (ROOT / "docs" / "ros2.md").read_text(encoding="utf-8").partition(f"\n## {name}\n")[2]
    section = section.partition("\n## ")[0]
    assert parameters.markdown(TABLES[name]) in section, f"run `python -m ros2_nodes.tables` and paste {name}"


@pytest.mark.parametrize("kind", ["segment", "classify", "rgbd", "fuse", "calibrate"])
def test_the_parameter_file_gives_every_default(kind: str) -> None:
    given = yaml.safe_load((ROOT / f"launch/config/{kind}.yaml").read_text())["/**"]["ros__parameters"]
    defaults = {p.name: p.default for p in TABLES[f"{kind}_node"]}
    assert given == {name: defaults[name] for name in given}
    assert set(defaults) - set(given) == {"autostart", "diagnostics_period_s"}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_defaults_pass_their_own_checks(table: tuple) -> None:
    for p in table:
        assert parameters.wrong_value(table, p.name, p.default) is None
        assert p.description.endswith(".")
        if p.low is not None:
            assert p.low <= p.default <= p.high


def test_rate_limit_keeps_the_rate_in_spite_of_jitter() -> None:
    limiter = RateLimiter()
    times = [i * 0.1 + (0.004 if i % 3 else -0.004) for i in range(1, 201)]
    assert sum(limiter.admit(5.0, t) for t in times) == 100
    assert all(limiter.admit(0.0, t) for t in times)


def test_one_late_output_warns_and_sustained_ones_are_an_error() -> None:
    vitals = Vitals()
    levels = []
    for age_ms in (100, 900, 900, 900, 900, 900, 100):
        vitals.arrived()
        vitals.sent(age_ms, max_age_ms=500, total=1.0)
        levels.append(vitals.report(dropped=0).level)
    assert levels == [OK, WARN, WARN, WARN, WARN, ERROR, OK]


def test_a_sensor_with_a_clock_of_its_own_is_not_called_late() -> None:
    """Ouster's, Hesai's and RoboSense's drivers stamp by the sensor's clock, which counts from its start if unset."""
    vitals = Vitals()
    for _ in range(7):
        vitals.arrived()
        vitals.sent(1.7e12, max_age_ms=500, total=1.0)
        report = vitals.report(dropped=0)
    assert report.level == WARN
    assert "stamps lie 1700000000 s in the past: set the sensor's clock" in report.text


def test_drops_and_failures_are_reported_once() -> None:
    vitals = Vitals()
    vitals.arrived()
    vitals.failed("the cloud has no field 'z'")
    first, second = vitals.report(dropped=3), vitals.report(dropped=3)
    assert (first.level, second.level) == (WARN, OK)
    assert "the cloud has no field 'z'" in first.text
    vitals.arrived()
    assert vitals.report(dropped=5).text == "2 sweep(s) dropped for newer ones"


@pytest.mark.skipif(not Path("/proc/self/net/udp").exists(), reason="only Linux tells what it dropped")
def test_datagrams_that_found_the_buffer_full_are_counted() -> None:
    before = n_dropped()
    with socket.socket(type=socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
        receiver.bind(("127.0.0.1", 0))
        for _ in range(50):
            sender.sendto(bytes(8000), receiver.getsockname())
        receiver.setblocking(False)
        n_kept = 0
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(10_000):
                n_kept += 1
        assert 0 < n_kept < 50
        assert n_dropped() - before == 50 - n_kept


def test_a_picture_on_its_way_is_waited_for_unless_the_camera_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed, begun = CameraFeed("front"), time.monotonic()
    with pytest.raises(ValueError, match="has sent no picture yet"):
        feed.nearest(0, 0.1)
    early, late = new_message("sensor_msgs/msg/Image"), new_message("sensor_msgs/msg/Image")
    late.header.stamp.sec = 2
    feed.take_picture(early)
    with pytest.raises(ValueError, match=r"-2\.00 s off"):
        feed.nearest(2 * 10**9, 0.1)
    threading.Timer(0.05, feed.take_picture, (late,)).start()
    assert feed.nearest(2 * 10**9, 0.1, begun + 60)[0] is late
    monkeypatch.setattr(camera_feed, "SILENCE_S", 0.0)
    with pytest.raises(ValueError, match=r"-1\.00 s off"):
        feed.nearest(3 * 10**9, 0.1, begun + 60)
    assert time.monotonic() < begun + 30
