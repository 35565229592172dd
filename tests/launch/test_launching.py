# SPDX-License-Identifier: Apache-2.0
"""What a launch gives the processes that it starts, without starting them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
GIVEN = {
    **{"input": "", "namespace": "", "params_file": "segment.yaml", "log_level": "info"},
    **{"use_sim_time": "false", "autostart": "true", "rviz": "true", "rviz_frame": ""},
}


@pytest.fixture
def session(ros_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a session of segment.launch.py from what is said on the command line."""
    from launch.launch_context import LaunchContext

    from ros2_nodes import launching

    monkeypatch.setattr(launching, "SHARE", str(ROOT / "launch"))
    monkeypatch.setattr(launching, "get_package_share_directory", lambda _: "")  # RViz is there

    def make(**said: str) -> Any:
        context = LaunchContext()
        context.launch_configurations.update({**GIVEN, **said})
        return launching.Session(context), context

    return make


def words(action: Any, context: Any) -> list[str]:
    """Return a process's command line as far as it is known before it starts."""
    return ["".join(part.perform(context) for part in word) for word in action.cmd[1:] if len(word) == 1]


@pytest.mark.parametrize(
    ("said", "reliability"),
    [({}, "Reliable"), ({"bag": "drive"}, "Reliable"), ({"input": "/points"}, "Best Effort")],
    ids=["simulated", "bag", "a sensor"],
)
def test_pictures_of_clouds_arrive_whole_unless_a_sensor_sends_them(
    session: Any, said: dict[str, str], reliability: str
) -> None:
    made, context = session(**said)
    (rviz,) = made.rviz("segment.rviz", "base_link", {})
    file = next(word for word in words(rviz, context) if word.endswith(".rviz"))
    shown = yaml.safe_load(Path(file).read_text(encoding="utf-8"))["Visualization Manager"]["Displays"]
    found = {d["Name"]: d["Topic"]["Reliability Policy"] for d in shown if d["Class"].endswith("PointCloud2")}
    assert len(found) == 2
    assert set(found.values()) == {reliability}
    assert ("reliable" in made._overrides()) == (reliability == "Reliable")


def test_a_bag_s_clouds_and_pictures_are_kept_until_they_have_arrived(session: Any, bag: Path) -> None:
    from launch.actions import ExecuteProcess

    made, context = session(bag=str(bag))
    handler = made.play(made.perception("segment_node", {"points": "/lidar"}), "playing").event_handler
    (play,) = (e for e in handler.entities if isinstance(e, ExecuteProcess))
    command = words(play, context)
    qos = yaml.safe_load(Path(command[command.index("--qos-profile-overrides-path") + 1]).read_text())
    assert qos == {t: {"reliability": "reliable", "history": "keep_all"} for t in ("/camera", "/lidar")}
    assert "--wait-for-all-acked" in command


def test_what_the_user_says_of_cyclone_has_the_last_word(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ros2_nodes.launching import CYCLONE

    monkeypatch.setenv("CYCLONEDDS_URI", "file:///etc/cyclone.xml")
    assert session()[0]._environment == {"CYCLONEDDS_URI": f"{CYCLONE},file:///etc/cyclone.xml"}
    monkeypatch.delenv("CYCLONEDDS_URI")
    assert session()[0]._environment == {"CYCLONEDDS_URI": CYCLONE}
