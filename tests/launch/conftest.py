# SPDX-License-Identifier: Apache-2.0
"""The package, built by colcon in both of its modes, and the environment to run it from."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.nodes.conftest import LOOPBACK

ROOT = Path(__file__).resolve().parents[2]
MODES = {"copied": [], "symlinked": ["--symlink-install"]}


def missing() -> str:
    """Say what is not there to build and launch the package, or return an empty text."""
    for module in ("rclpy", "launch_testing_ros", "ros2launch", "colcon_core", "colcon_ros"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not there: source a ROS 2 installation and install the ros-test extra"
    return "" if shutil.which("ros2") else "ros2 is not on PATH: source a ROS 2 installation first"


@dataclass(frozen=True)
class Workspace:
    """A folder in which colcon has built the package, and the environment with it sourced."""

    folder: Path
    env: dict[str, str]
    mode: str = ""

    def run(self, *command: str, timeout_s: float = 120.0, **env: str) -> subprocess.CompletedProcess:
        """Run a command with the workspace sourced; its output is text, stderr included."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )


@pytest.fixture(scope="session")
def ros_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a user in an active virtual environment, in a DDS domain of its own."""
    if reason := missing():
        pytest.skip(reason)
    from domain_coordinator import domain_id

    with domain_id() as domain:
        yield {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ROS_DOMAIN_ID": str(domain),
            "ROS_LOG_DIR": str(tmp_path_factory.mktemp("log")),
            "CYCLONEDDS_URI": os.environ.get("CYCLONEDDS_URI", LOOPBACK),
            "OMP_NUM_THREADS": "1",
        }


@pytest.fixture(scope="session", params=MODES)
def workspace(
    request: pytest.FixtureRequest, ros_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """The package built by colcon; its kernels share one compilation cache."""
    folder = tmp_path_factory.mktemp(request.param)
    command = [sys.executable, "-m", "colcon", "--log-base", "log", "build", "--base-paths", str(ROOT)]
    command += ["--packages-select", "pc_perception", *MODES[request.param]]
    built = Workspace(folder, ros_env).run(*command)
    assert built.returncode == 0, built.stdout
    sourced = Workspace(folder, ros_env).run("bash", "-c", "source install/setup.bash && env -0")
    env = dict(line.split("=", 1) for line in sourced.stdout.split("\0") if "=" in line)
    cache = tmp_path_factory.getbasetemp() / "numba"
    return Workspace(folder, {**env, "NUMBA_CACHE_DIR": str(cache)}, request.param)


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.nodes import tiny_model

    return tiny_model.write(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def write_bag(folder: Path, n_clouds: int, n_points: int, rate_hz: int) -> Path:
    """Write a rosbag2 bag with an empty camera topic and clouds on /lidar."""
    import numpy as np
    from rclpy.serialization import serialize_message
    from rosbag2_py import ConverterOptions, SequentialWriter, StorageOptions, TopicMetadata
    from sensor_msgs_py.point_cloud2 import create_cloud_xyz32
    from std_msgs.msg import Header

    writer = SequentialWriter()
    writer.open(StorageOptions(uri=str(folder), storage_id="mcap"), ConverterOptions("cdr", "cdr"))
    for i, (name, kind) in enumerate({"/camera": "Image", "/lidar": "PointCloud2"}.items()):
        metadata = {"name": name, "type": f"sensor_msgs/msg/{kind}", "serialization_format": "cdr"}
        writer.create_topic(TopicMetadata(id=i, **metadata))
    points = np.random.default_rng(0).uniform(-20, 20, (n_points, 3)).astype(np.float32)
    for i in range(n_clouds):
        header, stamp_ns = Header(frame_id="sensor"), 1_700_000_000 * 10**9 + i * 10**9 // rate_hz
        header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 10**9)
        writer.write("/lidar", serialize_message(create_cloud_xyz32(header, points)), stamp_ns)
    del writer
    return folder


@pytest.fixture(scope="session")
def bag(ros_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of four seconds of small clouds."""
    return write_bag(tmp_path_factory.mktemp("bag") / "drive", 20, 2000, 5)
