# SPDX-License-Identifier: Apache-2.0
"""Package description for pip and for colcon (ament_python) alike.

Import name = folder name: the one layout that works with `colcon build`, `colcon build
--symlink-install`, `pip install .` and `pip install -e .`.
"""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "pc_perception"
ROOT = Path(__file__).resolve().parent  # colcon --symlink-install runs a link of this file


def files(pattern: str) -> list[str]:
    """Return the paths under the project root that match, relative to it."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


open3d = [
    "open3d-cpu>=0.18; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "open3d>=0.18; sys_platform != 'linux' or platform_machine != 'x86_64'",
]
las = ["laspy>=2.4", "lazrs>=0.5"]
nuscenes = ["nuscenes-devkit>=1.1.11"]  # caps numpy < 2
calibration = ["opencv-python-headless>=4.8"]
shapes = ["scikit-image>=0.22"]  # marching cubes
image = ["transformers>=5.23,<6"]  # ResNet-50 and ViT-S/16; runs without torchvision
cluster = ["distributed>=2024.1"]  # many bags on many machines
dds = ["cyclonedds>=11.0.1,<12; python_version < '3.14'"]  # live topics without ROS
train = [
    "mmengine-lite>=0.10.4",
    "setuptools<81",  # mmengine needs pkg_resources
    "tensorboard>=2.12",
    "h5py>=3.8",
    "scikit-learn>=1.2",
]
test = [
    "pytest>=7.4",
    "hypothesis>=6.80",
    "psutil>=5.9",
    # Comes with torch's CUDA build; beside the CPU build it interprets the GPU kernels for the tests.
    "triton>=3.7; sys_platform == 'linux' and platform_machine == 'x86_64'",
]
lint = ["ruff>=0.5", "mypy>=1.8", "types-PyYAML"]
# What building this package with colcon and importing a sourced rclpy and launch need in a virtual
# environment; `make` adds it where it finds a ROS 2 installation.
ros_test = [
    "colcon-bash",
    "colcon-core",
    "colcon-library-path",
    "colcon-ros",
    "colcon-test-result",
    "catkin-pkg",
    "empy<4",
    "lark",
    "packaging",
    "setuptools<80",
]

setup(
    name=NAME,
    version="0.1.0",
    description="Labels on live point clouds: encoders, training without labels, and ROS 2 nodes",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8")
    if (ROOT / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    author="pc_perception contributors",
    maintainer="pc_perception contributors",
    maintainer_email="maintainers@pc-perception.invalid",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(
        where=str(ROOT),
        include=[
            f"{top}{sub}" for top in (NAME, "ros2_nodes", "training", "calibration") for sub in ("", ".*")
        ],
    ),
    package_data={NAME: ["label_sets/*.yaml", "weights/*.safetensors", "visualization/assets/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", files("launch/*.launch.py")),
        (f"share/{NAME}/config", files("launch/config/*.yaml")),
        (f"share/{NAME}/rviz", files("launch/rviz/*.rviz")),
    ],
    install_requires=[
        "numpy>=1.26",
        "torch>=2.4,<2.14",
        "numba>=0.59",
        "scipy>=1.10",
        "safetensors>=0.4",
        "PyYAML>=6.0",
        "rosbags>=0.10",
        "pillow>=10.1",
        "tqdm>=4.60",
    ],
    extras_require={
        "open3d": open3d,
        "las": las,
        "nuscenes": nuscenes,
        "calibration": calibration,
        "image": image,
        "shapes": shapes,
        "cluster": cluster,
        "dds": dds,
        "fla": ["flash-linear-attention>=0.5"],  # on CUDA, where PC_PERCEPTION_BACKEND=fla asks for it
        "train": train,
        "test": test,
        "lint": lint,
        "ros-test": ros_test,
        "dev": [
            *open3d,
            *las,
            *nuscenes,
            *calibration,
            *image,
            *cluster,
            *dds,
            *shapes,
            *train,
            *test,
            *lint,
        ],
    },
    entry_points={
        "console_scripts": [
            "pc-perception = pc_perception.cli:main",
            "pc-calibrate = calibration.cli:main",
            "pc-train = training.run:main",
            "pc-evaluate = training.evaluate:main",
            "segment_node = ros2_nodes.segment_node:main",
            "classify_node = ros2_nodes.classify_node:main",
            "rgbd_node = ros2_nodes.rgbd_node:main",
            "fuse_node = ros2_nodes.fuse_node:main",
            "calibrate_node = ros2_nodes.calibrate_node:main",
            "perception = ros2_nodes.perception:main",
            "simulated_sensor_node = ros2_nodes.simulated_sensor_node:main",
            "simulated_rgbd_node = ros2_nodes.simulated_rgbd_node:main",
        ],
    },
    # `ros2 run` looks for executables in lib/<package>. Their first line asks the environment for
    # Python, so that an active virtual environment's torch is found. pip ignores these three.
    options={
        "install": {"install_scripts": f"$base/lib/{NAME}"},
        "develop": {"script_dir": f"$base/lib/{NAME}"},
        "build_scripts": {"executable": "/usr/bin/env python3"},
    },
    zip_safe=False,
)
