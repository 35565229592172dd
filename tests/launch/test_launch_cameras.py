# SPDX-License-Identifier: Apache-2.0
"""The launch files of cameras, calibration and all nodes in one process, from what colcon built."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.launch.conftest import Workspace

# In one of the build modes: test_launch.py has both, and what differs is not these launch files.
IN_ONE_MODE = pytest.mark.parametrize("workspace", ["symlinked"], indirect=True)
pytestmark = [pytest.mark.ros, pytest.mark.slow, IN_ONE_MODE]
FILE = Path(__file__).with_name("launch_topics.py")
CLOUD, IMAGE, LABELS = "sensor_msgs/PointCloud2", "sensor_msgs/Image", "vision_msgs/LabelInfo"
FILES = {
    "rgbd.launch.py": {
        "topics": {
            "/segmentation": CLOUD,
            "/label_image": IMAGE,
            "/label_image_color": IMAGE,
            "/label_info": LABELS,
            "/legend": "visualization_msgs/MarkerArray",
        },
        "diagnostics": {"rgbd_node: frames": 0},
    },
    "fuse.launch.py": {
        "topics": {"/colored": CLOUD, "/segmentation": CLOUD, "/label_info": LABELS},
        "diagnostics": {"fuse_node: calibration": 0, "fuse_node: cameras": 1},
    },
    "calibrate.launch.py": {
        "topics": {"/cam_0/calibration_status": "diagnostic_msgs/DiagnosticStatus", "/points": CLOUD},
        "diagnostics": {"calibrate_node: calibration cam_0": 1},
    },
    "perception.launch.py": {
        "topics": {
            "/segmentation": CLOUD,
            "/rgbd/segmentation": CLOUD,
            "/label_image": IMAGE,
            "/fused/segmentation": CLOUD,
            "/fused/colored": CLOUD,
        },
        "arguments": {"nodes": "segment,rgbd,fuse"},
        "diagnostics": {
            "segment_node: sensor check": 1,
            "rgbd_node: frames": 0,
            "fuse_node: calibration": 0,
        },
    },
}


@pytest.mark.parametrize("file", FILES)
def test_simulated_sensors_are_served(workspace: Workspace, file: str) -> None:
    pytest.importorskip("open3d", reason="the simulator casts rays with open3d")
    wanted = {**FILES[file], "file": file}
    wanted["arguments"] = {"rviz": "false", **FILES[file].get("arguments", {})}
    command = (sys.executable, "-m", "launch_testing.launch_test", str(FILE))
    done = workspace.run(*command, PC_PERCEPTION_LAUNCH_TEST=json.dumps(wanted), timeout_s=300)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^Ran [1-9]", done.stdout, re.M), done.stdout


@pytest.mark.parametrize("file", FILES)
def test_the_arguments_are_documented(workspace: Workspace, file: str) -> None:
    done = workspace.run("ros2", "launch", "pc_perception", file, "--show-args")
    assert done.returncode == 0, done.stdout
    described = dict(re.findall(r"^ +'(\w+)':\n +(\S.*)$", done.stdout, re.M))
    assert {"namespace", "params_file", "rviz", "autostart", "use_sim_time", "log_level"} <= set(described)
    assert all(len(text) > 20 for text in described.values())


@pytest.mark.parametrize(
    ("file", "argument", "said"),
    [
        ("rgbd.launch.py", "depth:=/depth", "camera_info:="),
        ("fuse.launch.py", "bag:=nowhere", "no bag 'nowhere'"),
        ("perception.launch.py", "nodes:=segment,radar", "there is no node 'radar'"),
        ("perception.launch.py", "points:=/points", "there is no argument 'points'; there are nodes, input"),
    ],
)
def test_a_wrong_argument_ends_with_one_sentence(
    workspace: Workspace, file: str, argument: str, said: str
) -> None:
    done = workspace.run("ros2", "launch", "pc_perception", file, argument)
    assert done.returncode != 0
    assert said in done.stdout
    assert "Traceback" not in done.stdout


def test_an_unknown_node_ends_perception(workspace: Workspace) -> None:
    done = workspace.run("ros2", "run", "pc_perception", "perception", "radar")
    assert done.returncode != 0
    assert "perception: there is no node 'radar'" in done.stdout
    assert "Traceback" not in done.stdout
