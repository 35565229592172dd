# SPDX-License-Identifier: Apache-2.0
"""Look at one part of the installation each: is it there, does it load, what is it good for.

Packages are looked up, not imported, except those that are often installed and still do not load:
torch, Open3D and rclpy are each imported in a process of their own.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from .packages import OPEN3D, Package

Verdict = Literal["ok", "missing", "broken", "note"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked for.
        verdict: ``ok``, ``missing`` (optional and not there), ``broken`` (there and does not work) or
            ``note`` (works, with something to know).
        found: version, device, path or reason.
        enables: what it is good for.
        install: the line to type where something can be done, else empty.
    """

    name: str
    verdict: Verdict
    found: str
    enables: str
    install: str = ""


_SPCONV = ((11, 4), (11, 8), (12, 1), (12, 4), (12, 6))
"""CUDA versions that spconv 2.3.8 has wheels for."""
_SYSTEM_LIBRARIES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
}

_TORCH_PROBE = """
import json, torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
usable = torch.cuda.is_available()
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "names": names,
                  "threads": torch.get_num_threads(), "usable": usable,
                  "capability": torch.cuda.get_device_capability() if usable else None}))
"""


def _version(*distributions: str) -> str | None:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _probe(code: str) -> tuple[bool, str]:
    """Run ``code`` in a fresh interpreter; return whether it worked and the last line it wrote."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return False, "did not answer within 60 s"
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"ended with code {done.returncode}"


def python() -> Finding:
    """Look at the running interpreter and whether this package supports it."""
    inside = sys.prefix != sys.base_prefix
    where = f"environment {sys.prefix}" if inside else "no virtual environment"
    return Finding("python", "ok", platform.python_version(), where)


def torch_facts() -> dict | None:
    """Return torch's version and devices, None where it is not installed, {'error': ...} where broken."""
    if find_spec("torch") is None:
        return None
    worked, answer = _probe(_TORCH_PROBE)
    return json.loads(answer) if worked else {"error": answer}


def torch(facts: dict | None) -> Iterator[Finding]:
    """Look at Torch and its CUDA, from ``torch_facts``."""
    if facts is None:
        yield Finding("torch", "missing", "not installed", "everything", 'pip install "torch>=2.4,<2.14"')
        return
    if "error" in facts:
        install = 'pip install --force-reinstall "torch>=2.4,<2.14"'
        yield Finding("torch", "broken", facts["error"], "everything", install)
        return
    yield Finding("torch", "ok", f"{facts['version']}, {facts['threads']} threads", "all models")
    if facts["usable"]:
        yield Finding("CUDA", "ok", f"{facts['cuda']}: {', '.join(facts['names'])}", "device=cuda")
        return
    enables = "device=cuda; the CPU works without"
    # PyPI's wheels for Linux are CUDA builds.
    line = (
        f"pip install --force-reinstall torch=={facts['version'].split('+')[0]}" if not facts["cuda"] else ""
    )
    if line and shutil.which("nvidia-smi"):
        yield Finding("CUDA", "note", "a driver is there, this torch is a CPU build", enables, line)
    elif line:
        yield Finding("CUDA", "missing", "this torch is a CPU build", f"with an NVIDIA GPU {enables}", line)
    else:
        yield Finding("CUDA", "missing", "no usable NVIDIA GPU", enables)


def numba() -> Finding:
    """Look at the compiler of the CPU kernels."""
    version = _version("numba")
    if version is None:
        return Finding("numba", "missing", "not installed", "fast CPU kernels", "pip install numba")
    code = "import numba.np.ufunc.{0}pool"
    layers = [name for name in ("tbb", "omp") if find_spec("numba") and _probe(code.format(name))[0]]
    layers = [*layers, "workqueue"]
    return Finding("numba", "ok", f"{version}, threading: {', '.join(layers)}", "fast CPU kernels")


def sparse(torch: dict | None) -> Iterator[Finding]:
    """Look at Triton and at the packages that can stand in for our kernels, all of which need a GPU.

    Those are installed where a run must follow a published one; without a GPU they are of no use.
    """
    facts = torch or {}
    cuda = facts.get("cuda") if facts.get("usable") else None
    not_needed = "not needed: our kernels do it; "
    version, enables = _version("triton"), "our kernels on CUDA; without it the operations run in torch there"
    if version:
        yield Finding("triton", "ok", version, enables)
    else:
        yield Finding("triton", "missing", "not installed", enables, "pip install triton")
    if find_spec("spconv"):
        found = next((d.version for d in metadata.distributions() if d.name.startswith("spconv")), "found")
        why = "sparse convolution, by backend=spconv" if cuda else "not used: its CPU results are wrong"
        yield Finding("spconv", "note", found, why)
    elif cuda:
        yield Finding("spconv", "missing", "not installed", f"{not_needed}backend=spconv", _spconv_line(cuda))
    else:
        yield Finding("spconv", "missing", "not installed", f"{not_needed}it is for CUDA alone")
    if find_spec("pointnet2_ops"):
        why = "farthest points and balls, by backend=pointnet2" if cuda else "not used: it needs CUDA"
        yield Finding("pointnet2_ops", "note", "found", why)
    elif cuda:
        enables = f"{not_needed}backend=pointnet2; nvcc builds it"
        yield Finding(
            "pointnet2_ops", "missing", "not installed", enables, _pointnet2_line(facts["capability"])
        )
    else:
        yield Finding("pointnet2_ops", "missing", "not installed", f"{not_needed}it is for CUDA alone")


def _spconv_line(cuda: str) -> str:
    """Wheels are named after CUDA's version; one of an older version runs beside a newer one."""
    version = tuple(int(part) for part in cuda.split(".")[:2])
    fitting = [v for v in _SPCONV if v <= version] or _SPCONV[:1]
    return "pip install spconv-cu{}{}".format(*fitting[-1])


def _pointnet2_line(capability: Sequence[int]) -> str:
    """There is no wheel, and its setup.py names GPUs that today's nvcc does not know, over those asked for."""
    folder = "Pointnet2_PyTorch/pointnet2_ops_lib"
    return (
        "git clone https://github.com/erikwijmans/Pointnet2_PyTorch && "
        f"sed -i /TORCH_CUDA_ARCH_LIST/d {folder}/setup.py && "
        f"TORCH_CUDA_ARCH_LIST={'.'.join(map(str, capability))} pip install --no-build-isolation ./{folder}"
    )


def _missing_libraries() -> list[str]:
    missing = []
    for library, package in _SYSTEM_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    return missing


def open3d() -> Iterator[Finding]:
    """Look at Open3D, and the libraries of the system that it loads."""
    enables = OPEN3D.enables
    if find_spec("open3d") is None:
        yield Finding("open3d", "missing", "not installed", enables, OPEN3D.install)
        return
    worked, answer = _probe("import open3d; print(open3d.__version__)")
    if worked:
        yield Finding("open3d", "ok", answer, enables)
        return
    packages = _missing_libraries() if sys.platform == "linux" else []
    line = (
        f"sudo apt-get install -y {' '.join(packages)}"
        if packages
        else "pip install --force-reinstall open3d"
    )
    yield Finding("open3d", "broken", answer, enables, line)


def package(package: Package) -> Finding:
    """Look at one optional package of ``PACKAGES``."""
    if find_spec(package.module) is None:
        return Finding(package.distributions[0], "missing", "not installed", package.enables, package.install)
    version = _version(*package.distributions) or "found"
    return Finding(package.distributions[0], "ok", version, package.enables)


def ros() -> Iterator[Finding]:
    """Look at the sourced ROS 2 and the packages of it that the nodes use."""
    distribution = os.environ.get("ROS_DISTRO")
    enables = "live topics: ros2 launch pc_perception segment.launch.py"
    if distribution is None:
        installed = sorted(Path("/opt/ros").glob("*/setup.bash"))
        if installed:
            yield Finding("ROS 2", "note", "installed, not sourced", enables, f"source {installed[-1]}")
        else:
            line = "https://docs.ros.org/en/jazzy/Installation.html says how; none of the rest needs it"
            yield Finding("ROS 2", "missing", "not installed", enables, line)
        return
    worked, answer = _probe("import rclpy; print(rclpy.__file__)")
    if not worked:
        line = f"make PYTHON=/usr/bin/python3 install   # the Python that ROS {distribution} was built for"
        yield Finding("ROS 2", "broken", f"{distribution}: rclpy: {answer}", enables, line)
        return
    yield Finding("ROS 2", "ok", f"{distribution}, rclpy", enables)
    rmw = os.environ.get("RMW_IMPLEMENTATION", "the distribution's default")
    cyclone = "CYCLONEDDS_URI is set" if os.environ.get("CYCLONEDDS_URI") else ""
    yield Finding("middleware", "ok", rmw, cyclone)
    if find_spec("vision_msgs") is None:
        line = f"sudo apt-get install -y ros-{distribution}-vision-msgs"
        yield Finding("vision_msgs", "missing", "not installed", "label_info, objects (optional)", line)
    else:
        yield Finding("vision_msgs", "ok", "found", "label_info, objects")
    yield _run_interpreter()


def _run_interpreter() -> Finding:
    """Nodes start with ``env python3``: the first python3 of PATH must be this one, or see torch too."""
    first = shutil.which("python3") or ""
    enables = "ros2 run and ros2 launch use this Python"
    if first and Path(first).parent.resolve() == Path(sys.executable).parent.resolve():
        return Finding("ros2 run", "ok", first, enables)
    line = f"source {sys.prefix}/bin/activate" if sys.prefix != sys.base_prefix else ""
    return Finding("ros2 run", "note", f"would use {first or 'no python3'}", enables, line)


def shipped_models() -> Finding:
    """Look at the model files that came with this package."""
    folder = resources.files("pc_perception") / "weights"
    found = (
        sorted(f.name[:-12] for f in folder.iterdir() if f.name.endswith(".safetensors"))
        if folder.is_dir()
        else []
    )
    if found:
        return Finding("models", "ok", ", ".join(found), "pc-perception segment FILE")
    return Finding("models", "missing", "none is shipped", "pc-perception segment FILE", "")
