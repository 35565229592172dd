# SPDX-License-Identifier: Apache-2.0
"""The doctor's verdicts: what is there, what is missing, what is there and does not load."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from pc_perception import doctor
from pc_perception import doctor_probes as probes
from pc_perception.doctor import Finding


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return doctor.diagnose()


def test_everything_is_looked_for_once(findings: list[Finding]) -> None:
    names = [f.name for f in findings]
    assert len(set(names)) == len(names)
    asked = {"python", "torch", "CUDA", "numba", "triton", "spconv", "pointnet2_ops", "open3d", "ROS 2"}
    assert asked <= set(names)
    assert {"mmengine-lite", "nuscenes-devkit", "laspy", "rosbags", "tensorboard"} <= set(names)
    assert all(f.install or f.enables.startswith("not needed") for f in findings if f.verdict == "missing")


def test_what_an_extra_needs_is_looked_for(findings: list[Finding]) -> None:
    extras = ("calibration", "cluster", "dds", "image", "las", "nuscenes", "open3d", "shapes", "train")
    lines = [
        line
        for line in metadata.requires("pc_perception") or []
        if line.endswith(tuple(f'"{e}"' for e in extras))
    ]
    needed = {re.split(r"[^\w-]", line)[0].removesuffix("-cpu") for line in lines}
    assert {"open3d", "cyclonedds", "mmengine-lite"} <= needed
    assert needed - {f.name for f in findings} == {"lazrs", "setuptools"}  # of laspy's and mmengine's lines


def test_what_the_tests_run_on_is_found(findings: list[Finding]) -> None:
    import torch

    by_name = {f.name: f for f in findings}
    assert by_name["torch"].verdict == "ok"
    assert torch.__version__ in by_name["torch"].found
    assert (by_name["CUDA"].verdict == "ok") == torch.cuda.is_available()
    assert by_name["python"].found == sys.version.split()[0]


def test_the_table_and_the_json_hold_every_finding(findings: list[Finding]) -> None:
    table = doctor.format_table(findings)
    assert all(f.name in table and f.install in table for f in findings)
    parsed = json.loads(doctor.format_json(findings))["findings"]
    assert [Finding(**f) for f in parsed] == findings


def only(findings: Iterator[Finding], name: str) -> Finding:
    return next(f for f in findings if f.name == name)


def test_a_missing_package_comes_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "find_spec", lambda name: None)
    finding = only(probes.open3d(), "open3d")
    assert finding.verdict == "missing"
    assert finding.install.startswith("pip install open3d")
    assert probes.torch_facts() is None
    assert only(probes.torch(None), "torch").install == 'pip install "torch>=2.4,<2.14"'


@pytest.mark.parametrize(
    ("cuda", "wheel"), [("11.8", "cu118"), ("12.2", "cu121"), ("12.8", "cu126"), ("13.0", "cu126")]
)
def test_packages_for_cuda_come_with_their_lines(
    cuda: str, wheel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "find_spec", lambda name: None)
    facts = {"cuda": cuda, "usable": True, "capability": [9, 0]}
    assert only(probes.sparse(facts), "spconv").install == f"pip install spconv-{wheel}"
    assert "TORCH_CUDA_ARCH_LIST=9.0 pip install" in only(probes.sparse(facts), "pointnet2_ops").install
    for name in ("spconv", "pointnet2_ops"):
        finding = only(probes.sparse({**facts, "usable": False}), name)
        assert (finding.verdict, finding.install) == ("missing", "")
        assert finding.enables.startswith("not needed")


def test_a_missing_system_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "OSError: libusb-1.0.so.0: cannot open shared object file"
    monkeypatch.setattr(probes, "find_spec", lambda name: object())
    monkeypatch.setattr(probes, "_probe", lambda code: (False, reason))
    monkeypatch.setattr(probes, "_SYSTEM_LIBRARIES", {"libnot-there-1.0.so.0": "libusb-1.0-0"})
    monkeypatch.setattr(sys, "platform", "linux")
    finding = only(probes.open3d(), "open3d")
    assert (finding.verdict, finding.found) == ("broken", reason)
    assert finding.install == "sudo apt-get install -y libusb-1.0-0"
    assert "broken: open3d" in doctor.format_table([finding])


def test_a_gpu_without_a_gpu_build_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes.shutil, "which", lambda name: "/usr/bin/" + name)
    facts = {"version": "2.13.0+cpu", "cuda": None, "names": [], "threads": 2, "usable": False}
    finding = only(probes.torch(facts), "CUDA")
    assert finding.verdict == "note"
    assert finding.install == "pip install --force-reinstall torch==2.13.0"
    monkeypatch.setattr(probes.shutil, "which", lambda name: None)
    finding = only(probes.torch(facts), "CUDA")
    assert (finding.verdict, finding.install) == ("missing", "pip install --force-reinstall torch==2.13.0")
    finding = only(probes.torch({**facts, "cuda": "12.6", "names": ["H200"], "usable": True}), "CUDA")
    assert (finding.verdict, finding.found) == ("ok", "12.6: H200")


def test_ros_of_another_python_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setattr(probes, "_probe", lambda code: (False, "No module named 'rclpy._rclpy_pybind11'"))
    finding = only(probes.ros(), "ROS 2")
    assert finding.verdict == "broken"
    assert "rclpy._rclpy_pybind11" in finding.found


def test_the_interpreter_of_ros2_run_is_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probes.shutil, "which", lambda name: str(Path(sys.executable).parent / name))
    assert probes._run_interpreter().verdict == "ok"
    monkeypatch.setattr(probes.shutil, "which", lambda name: str(tmp_path / name))
    assert probes._run_interpreter().verdict == "note"


def test_a_probe_reports_the_last_line() -> None:
    assert probes._probe("print('a'); print('b')") == (True, "b")
    worked, answer = probes._probe("raise OSError('libx is not here')")
    assert not worked
    assert answer == "OSError: libx is not here"
