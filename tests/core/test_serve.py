# SPDX-License-Identifier: Apache-2.0
"""Labels over DDS without ROS: real participants of a real domain, over loopback alone."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_model
from pc_perception.io import dds, livox
from pc_perception.io.label_messages import LABEL_INFO, LEGEND
from pc_perception.io.message_encoding import encode_cloud
from pc_perception.io.message_types import CLOUD, cloud_message, new_message, typestore
from pc_perception.io.pointcloud2 import cloud_from_msg
from tests.nodes.conftest import LOOPBACK

from .conftest import make_cloud
from .test_livox import STAMP_NS, livox_message, some_points

pytest.importorskip("cyclonedds", reason="cyclonedds is not installed: pip install 'pc_perception[dds]'")

DOMAIN = 100 + os.getpid() % 120
WAIT_S = 30.0
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)


@pytest.fixture
def peer() -> Iterator[dds.Participant]:
    with dds.Participant(DOMAIN) as participant:
        yield participant


def options(model: Path, **given: object):  # type: ignore[no-untyped-def]
    from pc_perception.commands.serve import ServeOptions

    return ServeOptions(**{"domain": DOMAIN, "model": str(model), "device": "cpu", **given})


def wait(done: Callable[[], object], step: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < end, f"waited {WAIT_S:.0f} s for {what}"
        step()


def test_names_are_those_of_ros_2() -> None:
    assert dds.dds_topic("/robot/points") == "rt/robot/points"
    assert dds.dds_type(CLOUD) == "sensor_msgs::msg::dds_::PointCloud2_"
    assert dds._ros_name("rt/points", "sensor_msgs::msg::dds_::PointCloud2_") == ("/points", CLOUD)
    assert dds._ros_name("ros_discovery_info", "x") is None


def test_the_bytes_are_those_of_the_wheel_s_own_codec() -> None:
    values = encode_cloud(make_cloud(0, 50))
    ours = bytes(typestore().serialize_cdr(cloud_message(values), CLOUD))
    stock = dds._idl.__wrapped__(CLOUD)
    read = stock.deserialize(ours)
    assert (read.width, read.header.frame_id, [f.name for f in read.fields]) == (
        50,
        "lidar",
        ["x", "y", "z", "intensity"],
    )
    assert bytes(read.data) == values.data.tobytes()
    assert stock.serialize(read) == ours


@pytest.mark.parametrize("msgtype", [CLOUD, LABEL_INFO, LEGEND, DIAGNOSTICS])
def test_every_type_that_is_sent_has_a_description(msgtype: str) -> None:
    made = dds.sample_type(msgtype)
    made.__idl__.populate()
    made.__idl__.fill_type_data()
    assert made.__idl__.keyless
    raw = bytes(typestore().serialize_cdr(new_message(msgtype), msgtype))
    assert made.deserialize(made.of(raw).serialize()).cdr == raw


def test_livox_s_own_message_is_labelled_and_pointcloud2_after_it(
    model_path: Path, peer: dds.Participant
) -> None:
    from pc_perception.commands.serve import Server

    got: list[bytes] = []
    peer.subscribe("/segmentation", CLOUD, got.append)

    def labelled(server: Server, msgtype: str, msg: object) -> PointCloud:
        """Publish as a driver of one type until a labelled cloud comes; then the driver is gone."""
        driver, due = peer.publisher("/livox/lidar", msgtype), 0.0
        got.clear()

        def step() -> None:
            nonlocal due
            if time.monotonic() > due:
                due = time.monotonic() + 1.0
                driver.publish(msg)
            server.spin(0.05)
            peer.spin(0.0)

        wait(lambda: got, step, f"a labelled {msgtype}")
        return cloud_from_msg(dds.decode(got[-1], CLOUD))

    with Server(options(model_path, input="/livox/lidar")) as server:
        cloud = labelled(server, livox.TYPES[0], livox_message(typestore(), livox.TYPES[0], 500))
        assert np.array_equal(cloud.xyz, some_points(500)[0])
        assert (cloud.frame, cloud.stamp_ns) == ("livox_frame", STAMP_NS)
        gc.collect()
        source = make_cloud(3, 700)  # its driver was started again, with xfer_format 0
        again = labelled(server, CLOUD, cloud_message(encode_cloud(source)))
        assert np.array_equal(again.xyz, source.xyz)


def test_clouds_come_back_labelled(model_path: Path, peer: dds.Participant) -> None:
    from pc_perception.commands.serve import Server

    got: list[bytes] = []
    latched: dict[str, bytes] = {}
    clouds = peer.publisher("/robot/points", CLOUD)
    peer.subscribe("/robot/labels", CLOUD, got.append)
    source = make_cloud(3, 2000)
    msg = cloud_message(encode_cloud(source))
    msg.header.stamp.sec = 7
    with Server(options(model_path, input="/robot/points", output="/robot/labels")) as server:
        due = 0.0

        def step() -> None:
            nonlocal due
            if time.monotonic() > due and not got:
                due = time.monotonic() + 1.0
                clouds.publish(msg)
            server.spin(0.05)
            peer.spin(0.0)

        wait(lambda: got, step, "a labelled cloud")
        # Late subscribers get what is latched.
        for topic, msgtype in (("/robot/label_info", LABEL_INFO), ("/robot/legend", LEGEND)):
            peer.subscribe(topic, msgtype, lambda raw, t=topic: latched.update({t: raw}), dds.LATCHED)
        wait(lambda: len(latched) == 2, step, "label info and legend")
        assert dds.Endpoint("/robot/labels", CLOUD) in peer.publishers()
    answer = dds.decode(got[0], CLOUD)
    labelled = cloud_from_msg(answer)
    expected = load_model(model_path, "cpu")(source)
    np.testing.assert_array_equal(labelled.fields["label"], expected.labels)
    np.testing.assert_array_equal(labelled.xyz, source.xyz)
    assert (answer.header.stamp.sec, labelled.frame) == (7, "lidar")
    info = dds.decode(latched["/robot/label_info"], LABEL_INFO)
    names = {c.class_id: c.class_name for c in info.class_map}
    assert names[0] == expected.label_set.classes[0]
    assert names[65535] == "unlabeled"


def test_a_malformed_message_costs_itself_alone(
    model_path: Path, peer: dds.Participant, capsys: pytest.CaptureFixture[str]
) -> None:
    from pc_perception.commands.serve import Server

    got: list[bytes] = []
    clouds = peer.publisher("/points", CLOUD)
    peer.subscribe("/segmentation", CLOUD, got.append)
    whole = cloud_message(encode_cloud(make_cloud(1, 500)))
    truncated = cloud_message(encode_cloud(make_cloud(1, 500)))
    truncated.data = truncated.data[:-40]
    with Server(options(model_path)) as server:
        counts = server.live.vitals.counts
        step = lambda: (server.spin(0.05), peer.spin(0.0))  # noqa: E731
        wait(lambda: server._transport.clouds.n_subscribers and clouds.n_subscribers, step, "a match")

        def send(msg: object) -> None:
            before = counts["failed"] + counts["labelled"]
            clouds.publish(msg)
            wait(lambda: counts["failed"] + counts["labelled"] > before, step, "the sweep")

        send(truncated)
        send(whole)
        assert (counts["failed"], counts["labelled"]) == (1, 1)
        wait(lambda: got, step, "the labelled cloud")
    assert "sweep skipped" in capsys.readouterr().err


def test_nothing_heard_is_explained(
    model_path: Path,
    peer: dds.Participant,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pc_perception.commands import serve

    monkeypatch.setattr(serve, "HINT_AFTER_S", 0.5)
    offered = [peer.publisher("/velodyne/points", CLOUD), peer.publisher("/image", DIAGNOSTICS)]
    for topic, words in (("/points", "/velodyne/points"), ("/image", "is a diagnostic_msgs")):
        with serve.Server(options(model_path, input=topic)) as server:
            wait(lambda s=server: s._hinted, lambda s=server: s.spin(0.1), "the hint")
        assert words in capsys.readouterr().err
    assert len(offered) == 2  # a publisher lasts as long as its object
    with serve.Server(options(model_path, input="/velodyne/points", qos=dds.RELIABLE)) as server:
        wait(lambda: server._hinted, lambda: server.spin(0.1), "the hint")
    assert "best effort" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "points"], "full name"),
        (["--domain", "500"], "0 .. 232"),
        (["--model", "absent"], "no model 'absent'"),
    ],
)
def test_refusals(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--domain", str(DOMAIN), *arguments]) == 1
    assert words in capsys.readouterr().err


def test_sigterm_ends_it_cleanly(model_path: Path) -> None:
    command = [sys.executable, "-m", "pc_perception.cli", "serve", "--domain", str(DOMAIN)]
    process = subprocess.Popen(
        [*command, "--model", str(model_path), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "'/points' -> '/segmentation'" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "labelled 0 of 0" in out
    assert err.endswith("ended\n")
