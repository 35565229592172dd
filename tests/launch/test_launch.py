# SPDX-License-Identifier: Apache-2.0
"""Build with colcon in both modes, then run and launch from what was built."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from pc_perception.inference.model_file import shipped_models
from pc_perception.io import livox
from pc_perception.io.message_types import typestore
from tests.launch.conftest import Workspace, write_bag

pytestmark = [pytest.mark.ros, pytest.mark.slow]
FILE = Path(__file__).with_name("launch_segment.py")
LAUNCH = ("ros2", "launch", "pc_perception", "segment.launch.py")


def launch_test(workspace: Workspace, **arguments: str) -> str:
    given = json.dumps({"rviz": "false", "threads": "1", **arguments})
    command = (sys.executable, "-m", "launch_testing.launch_test", str(FILE))
    done = workspace.run(*command, PC_PERCEPTION_LAUNCH_TEST=given, timeout_s=300)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^Ran [1-9]", done.stdout, re.M), done.stdout
    return done.stdout


def test_an_input_and_a_bag_are_labelled(workspace: Workspace, tiny_file: Path, bag: Path) -> None:
    # One in each build mode: they differ in transport, not in what is installed.
    source = {"input": "/velodyne_points", "namespace": "/robot"}
    if workspace.mode == "symlinked":
        source = {"bag": str(bag), "bag_rate": "0.8"}
    launch_test(workspace, model=str(tiny_file), **source)


DEFAULT_BUFFER = (
    ",<CycloneDDS><Domain><Internal><SocketReceiveBufferSize max='212993B'/></Internal></Domain></CycloneDDS>"
)
"""What Linux grants unless net.core.rmem_max is raised."""


@pytest.mark.parametrize("workspace", ["symlinked"], indirect=True)
def test_every_large_cloud_of_a_bag_arrives(workspace: Workspace, tiny_file: Path, tmp_path: Path) -> None:
    n, file = 10, Path(__file__).with_name("launch_bag.py")
    arguments = {"rviz": "false", "threads": "1", "model": str(tiny_file)}
    arguments["bag"] = str(write_bag(tmp_path / "drive", n, 200_000, 10))  # 2.4 MB each
    command = (sys.executable, "-m", "launch_testing.launch_test", str(file))
    wanted = json.dumps({"arguments": arguments, "clouds": n})
    uri = workspace.env["CYCLONEDDS_URI"] + DEFAULT_BUFFER
    done = workspace.run(*command, PC_PERCEPTION_LAUNCH_TEST=wanted, CYCLONEDDS_URI=uri, timeout_s=300)
    assert done.returncode == 0, done.stdout


def test_the_clouds_of_a_bag_are_found(bag: Path) -> None:
    from ros2_nodes.bag_topics import cloud_topic, sensor_topics

    assert cloud_topic(bag) == cloud_topic(next(bag.glob("*.mcap"))) == ("/lidar", "sensor")
    assert set(sensor_topics(bag)) == {"/lidar", "/camera"}
    with pytest.raises(ValueError, match=r"no clouds .* on '/camera'; it has them on /lidar"):
        cloud_topic(bag, "/camera")
    with pytest.raises(FileNotFoundError, match="no bag"):
        cloud_topic(bag / "other")
    broken = bag.parent / "broken.mcap"
    broken.write_bytes(b"not a bag")
    with pytest.raises(ValueError, match="not a readable rosbag2 bag"):
        cloud_topic(broken)


def test_a_recording_of_livox_s_own_message_has_a_topic_and_a_frame(tmp_path: Path, ros_env: dict) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    from ros2_nodes.bag_topics import cloud_topic
    from tests.core.test_livox import livox_message

    msgtype = livox.TYPES[0]
    with Writer(tmp_path / "drive", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/livox/lidar", msgtype, typestore=typestore())
        writer.write(
            connection, 1, typestore().serialize_cdr(livox_message(typestore(), msgtype, 5), msgtype)
        )
    if importlib.util.find_spec("livox_ros_driver2") is None:  # ROS could not play it
        with pytest.raises(ValueError, match="source the workspace of livox_ros_driver2"):
            cloud_topic(tmp_path / "drive")
    else:
        assert cloud_topic(tmp_path / "drive") == ("/livox/lidar", "livox_frame")


def test_no_argument_labels_a_simulated_sensor(workspace: Workspace, tiny_file: Path) -> None:
    pytest.importorskip("open3d", reason="the simulator casts rays with open3d")
    # Without a shipped model the small one stands in, and all else is as without arguments.
    launch_test(workspace, **({} if "street" in shipped_models() else {"model": str(tiny_file)}))


def test_the_arguments_are_documented(workspace: Workspace) -> None:
    done = workspace.run(*LAUNCH, "--show-args")
    assert done.returncode == 0, done.stdout
    shown = re.findall(r"^ +'(\w+)':\n +(\S.*)$", done.stdout, re.M)
    assert {name for name, _ in shown} == {
        *(
            "input",
            "bag",
            "bag_rate",
            "model",
            "device",
            "threads",
            "namespace",
            "params_file",
            "use_sim_time",
        ),
        *("autostart", "rviz", "rviz_frame", "log_level"),
    }
    described = dict(shown)
    for name in ("use_sim_time", "autostart", "rviz"):
        assert "Valid choices are: ['true', 'false']" in described[name]
    assert all(len(text) > 20 for text in described.values())


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("bag:=nowhere", "no bag 'nowhere'"),
        ("rviz:=maybe", "maybe"),
        ("threads:=two", "threads"),
        ("bag_rate:=0", "bag_rate"),
        ("inputt:=/points", "there is no argument 'inputt'; did you mean 'input'?"),
    ],
)
def test_a_wrong_argument_ends_with_one_sentence(workspace: Workspace, argument: str, said: str) -> None:
    done = workspace.run(*LAUNCH, argument)
    assert done.returncode != 0
    assert said in done.stdout
    assert "Traceback" not in done.stdout


ROBOT = """
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch_ros.substitutions import FindPackageShare

def generate_launch_description():
    file = [FindPackageShare("pc_perception"), "/launch/segment.launch.py"]
    return LaunchDescription([IncludeLaunchDescription(file, launch_arguments=[("bag", "nowhere")])])
"""


def test_a_launch_file_that_includes_ours_has_its_own_arguments(workspace: Workspace, tmp_path: Path) -> None:
    robot = tmp_path / "robot.launch.py"
    robot.write_text(ROBOT, encoding="utf-8")
    done = workspace.run("ros2", "launch", str(robot), "robot:=r2")
    assert "no bag 'nowhere'" in done.stdout


def test_a_wrong_parameter_ends_ros2_run(workspace: Workspace) -> None:
    done = workspace.run("ros2", "run", "pc_perception", "segment_node", "--ros-args", "-p", "device:=gpu")
    assert done.returncode != 0
    assert "'gpu' is not a device; use auto, cpu, cuda or cuda:N" in done.stdout
    assert "Traceback" not in done.stdout
