# SPDX-License-Identifier: Apache-2.0
"""The optional packages: what each is good for, and the line to type where it is missing."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """An optional package: what it is imported as, where it comes from, what it is good for."""

    module: str
    distributions: tuple[str, ...]
    enables: str
    install: str


_OPEN3D = "open3d-cpu" if (sys.platform, platform.machine()) == ("linux", "x86_64") else "open3d"
OPEN3D = Package("open3d", ("open3d",), "simulate, demo, sim: data, reading meshes", f"pip install {_OPEN3D}")
PACKAGES = (
    Package("safetensors", ("safetensors",), "model files", "pip install safetensors"),
    Package("rosbags", ("rosbags",), "bags (mcap, sqlite3, ROS 1) without ROS", "pip install rosbags"),
    Package("PIL", ("pillow",), "pictures (--picture)", "pip install pillow"),
    Package("laspy", ("laspy",), "las and laz files", 'pip install "laspy[lazrs]"'),
    Package("skimage", ("scikit-image",), "meshes (complete, generate)", "pip install scikit-image"),
    Package(
        "cv2",
        ("opencv-python-headless", "opencv-python"),
        "pc-calibrate",
        "pip install opencv-python-headless",
    ),
    Package(
        "cyclonedds",
        ("cyclonedds",),
        "serve: live topics without ROS",
        'pip install "cyclonedds>=11.0.1,<12"',
    ),
    Package("distributed", ("distributed",), "segment --cluster", "pip install distributed"),
    Package(
        "mmengine",
        ("mmengine-lite", "mmengine"),
        "training",
        'pip install mmengine-lite "setuptools<81" tensorboard',
    ),
    Package("tensorboard", ("tensorboard",), "training, its curves", "pip install tensorboard"),
    Package("h5py", ("h5py",), "objects in h5 files", "pip install h5py"),
    Package("sklearn", ("scikit-learn",), "probes of features", "pip install scikit-learn"),
    Package(
        "transformers",
        ("transformers",),
        "large picture trunks (CMCR)",
        'pip install "transformers>=5.23,<6"',
    ),
    Package("nuscenes", ("nuscenes-devkit",), "the nuScenes data set", "pip install nuscenes-devkit"),
)


def missing(error: ImportError) -> str | None:
    """Return what an import failed for and the line that installs it; None where it is none of these packages."""
    found = re.search(r"No module named '(\w+)", str(error))  # in the text: loaders' workers pass on no more
    package = next((p for p in (OPEN3D, *PACKAGES) if found and p.module == found[1]), None)
    if package is None:
        return None
    return (
        f"this needs {package.distributions[0]} ({package.enables}), not installed; type: {package.install}"
    )
