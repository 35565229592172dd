# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a cloud's way through rclpy: its ways answer alike, and a round of it runs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import rclpy_path
from benchmarks.messages import LAYOUTS, message
from pc_perception.io.dds import decode
from pc_perception.io.message_types import CLOUD
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.labels import load_label_set

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ("n_points", "step", "offsets"), [(500, 20, (0, 4, 8, 12)), (300, 48, (0, 4, 8, 16))]
)
def test_the_ways_give_the_same_cloud(n_points: int, step: int, offsets: tuple[int, ...]) -> None:
    from rclpy.serialization import serialize_message

    from ros2_nodes.conversions import cloud_message

    sent, values = message(np.random.default_rng(0), n_points, step, offsets)
    msg = cloud_message(sent)
    ours = rclpy_path._ours(n_points)
    answers = [
        ours(msg),
        rclpy_path._sensor_msgs_py(n_points)(msg),
        ours(decode(serialize_message(msg), CLOUD)),
    ]
    for answer in answers:
        cloud = cloud_from_msg(answer)
        np.testing.assert_array_equal(cloud.xyz, values[:, :3])
        assert cloud.frame == "lidar"
        assert (cloud.fields["label"] == 1).all()
        assert (cloud.fields["confidence"] == 1).all()
        assert (cloud.fields["rgb"] == load_label_set("street8").colors[1]).all()


def test_a_round_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CYCLONEDDS_URI", rclpy_path.LOOPBACK
    )  # the row sets it; this puts back what was there
    row = rclpy_path.RclpyPath("34,720 points, 20 B", 1.5)
    assert row.input in LAYOUTS
    found = row.measure(1, np.random.default_rng(0))
    assert found["peer"] == "sensor_msgs_py"
    assert float(found["ours_ms"]) > 0  # type: ignore[arg-type]
    assert float(found["raw_ms"]) > 0  # type: ignore[arg-type]
    assert found["ratio"] == pytest.approx(float(found["peer_ms"]) / float(found["ours_ms"]))  # type: ignore[arg-type]
