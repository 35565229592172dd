# SPDX-License-Identifier: Apache-2.0
"""classify.launch.py from what colcon built."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from pc_perception.inference.model_file import shipped_models
from tests.launch.conftest import Workspace
from tests.nodes import tiny_model

# In one of the build modes: test_launch.py has both, and what differs is not this launch file.
IN_ONE_MODE = pytest.mark.parametrize("workspace", ["symlinked"], indirect=True)
pytestmark = [pytest.mark.ros, pytest.mark.slow, IN_ONE_MODE]
FILE = Path(__file__).with_name("launch_classify.py")


def test_objects_of_a_simulated_sensor_come_out(workspace: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("open3d", reason="the simulator casts rays with open3d")
    arguments = {"rviz": "false", "threads": "1"}
    if "objects" not in shipped_models():  # without a shipped model the small one stands in
        arguments["model"] = str(tiny_model.write_objects(tmp_path / "objects.safetensors"))
    command = (sys.executable, "-m", "launch_testing.launch_test", str(FILE))
    done = workspace.run(*command, PC_PERCEPTION_LAUNCH_TEST=json.dumps(arguments), timeout_s=300)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^Ran [1-9]", done.stdout, re.M), done.stdout


def test_the_arguments_are_documented(workspace: Workspace) -> None:
    done = workspace.run("ros2", "launch", "pc_perception", "classify.launch.py", "--show-args")
    assert done.returncode == 0, done.stdout
    described = dict(re.findall(r"^ +'(\w+)':\n +(\S.*)$", done.stdout, re.M))
    assert {"input", "bag", "bag_rate", "model", "fixed_frame", "params_file", "rviz", "autostart"} <= set(
        described
    )
    assert all(len(text) > 20 for text in described.values())


def test_a_wrong_parameter_ends_ros2_run(workspace: Workspace) -> None:
    given = ("--ros-args", "-p", "fixed_frame:=/odom")
    done = workspace.run("ros2", "run", "pc_perception", "classify_node", *given)
    assert done.returncode != 0
    assert "'/odom' must not begin with a slash" in done.stdout
    assert "Traceback" not in done.stdout
