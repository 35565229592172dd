# SPDX-License-Identifier: Apache-2.0
"""What the soak and the timed nodes are fed: small messages, parameters, and where the answers come."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL, inverse, pose
from pc_perception.io.image_messages import fill_camera_info, fill_image
from pc_perception.io.message_encoding import encode_cloud
from pc_perception.io.message_types import CLOUD

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
CAMERA = "camera_optical_frame"
N_VARIANTS = 5
_K = np.array([[90.0, 0, 79.5], [0, 90.0, 47.5], [0, 0, 1]])
_HEIGHT, _WIDTH = 96, 160

Message = Any


@dataclass
class Feed:
    """One target's inputs and answers.

    Attributes:
        inputs: message type by topic.
        variants: messages by topic, several that take turns; their stamps are set when they are sent.
        answer: topic and type of what comes back for every good input.
        arguments: of the target's command line, after what all have.
        file: what ``~/reload`` reads, a copy that may be replaced and spoilt.
    """

    inputs: dict[str, str]
    variants: list[dict[str, Message]]
    answer: tuple[str, str]
    arguments: list[str] = field(default_factory=list)
    file: Path | None = None

    def messages(self, i: int, stamp_ns: int, spoilt: bool) -> dict[str, Message]:
        """Return the ``i``-th input; of a spoilt one the first message breaks off in the middle."""
        found = self.variants[i % len(self.variants)]
        for msg in found.values():
            msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        if not spoilt:
            return found
        topic = next(iter(found))
        broken = copy(found[topic])
        broken.data = broken.data[: len(broken.data) // 2]
        return {**found, topic: broken}


def make_feed(target: str, points: int, folder: Path) -> Feed:
    """Return what a target is fed; its files lie in ``folder``."""
    return {
        "serve": _serve,
        "segment_node": _segment,
        "classify_node": _classify,
        "rgbd_node": _rgbd,
        "fuse_node": _fuse,
        "calibrate_node": _calibrate,
    }[target](points, folder)


def _serve(points: int, folder: Path) -> Feed:
    from pc_perception.io.message_types import cloud_message

    model = _shipped("street", folder)
    clouds = [{"points": cloud_message(values)} for values in _sweeps(points)]
    return Feed({"points": CLOUD}, clouds, ("segmentation", CLOUD), ["--model", str(model)], model)


def _segment(points: int, folder: Path) -> Feed:
    model = _shipped("street", folder)
    arguments = parameters(model=model, threads=1, target_frame="odom")
    return Feed({"points": CLOUD}, _lidar(_sweeps(points)), ("segmentation", CLOUD), arguments, model)


def _classify(points: int, folder: Path) -> Feed:
    model = _shipped("objects", folder)
    arguments = parameters(model=model, threads=1, fixed_frame="odom")
    return Feed({"points": CLOUD}, _lidar(_sweeps(points)), ("instances", CLOUD), arguments, model)


def _rgbd(points: int, folder: Path) -> Feed:
    """Depth that is not registered, so that every frame needs TF."""
    new, model = _new_message(), _shipped("room", folder)
    height = round((points / 4 * 3) ** 0.5)
    width = height * 4 // 3
    K = np.array([[0.9 * width, 0, width / 2], [0, 0.9 * width, height / 2], [0, 0, 1]])
    variants = []
    for k in range(N_VARIANTS):
        metres = np.tile(np.linspace(1.0 + 0.1 * k, 3.0, width, dtype=np.float32), (height, 1))
        color = np.full((height, width, 3), 40 * k + 20, np.uint8)
        variants.append(
            {
                "depth": fill_image(new(IMAGE), metres, CAMERA, 0),
                "rgb": fill_image(new(IMAGE), color, "rgb_optical_frame", 0),
                "camera_info": fill_camera_info(new(INFO), K, width, height, CAMERA, 0),
                "rgb_camera_info": fill_camera_info(new(INFO), K, width, height, "rgb_optical_frame", 0),
            }
        )
    inputs = {"depth": IMAGE, "rgb": IMAGE, "camera_info": INFO, "rgb_camera_info": INFO}
    arguments = parameters(model=model, threads=1, decimation=1, registered="false")
    return Feed(inputs, variants, ("segmentation", CLOUD), arguments, model)


def _fuse(points: int, folder: Path) -> Feed:
    file = _calibration(folder)
    arguments = parameters(cameras="[camera]", calibrations=f"[{file}]", fixed_frame="odom")
    arguments += parameters(use_label_images="false")
    inputs = {"points": CLOUD, "camera/image_raw": IMAGE}
    return Feed(inputs, _rig(points), ("colored", CLOUD), arguments, file)


def _calibrate(points: int, folder: Path) -> Feed:
    """Drift is measured again and again; what answers every picture is its camera_info."""
    file = _calibration(folder)
    arguments = parameters(cameras="[camera]", calibrations=f"[{file}]", fixed_frame="odom", threads=1)
    arguments += parameters(check_period_s=30.0, check_gap_s=0.5, check_frames=2)
    inputs = {"points": CLOUD, "camera/image_raw": IMAGE}
    return Feed(inputs, _rig(points), ("camera/camera_info", INFO), arguments, file)


def _sweeps(points: int) -> list[Any]:
    from benchmarks.live import messages

    return messages(16, points, N_VARIANTS)


def _lidar(sweeps: list[Any]) -> list[dict[str, Message]]:
    from ros2_nodes.conversions import cloud_message

    return [{"points": cloud_message(values)} for values in sweeps]


def _rig(points: int) -> list[dict[str, Message]]:
    """A dark wall 10 m ahead with a bright panel at 6 m before it, for a camera in the LiDAR's place."""
    from ros2_nodes.conversions import cloud_message

    new, variants = _new_message(), []
    n_rings = 24
    elevation = np.radians(np.linspace(-20, 20, n_rings))[:, None]
    azimuth = np.radians(np.linspace(38, -38, points // n_rings))[None]
    rays = np.stack(np.broadcast_arrays(np.ones_like(azimuth), np.tan(azimuth), np.tan(elevation)), -1)
    for k in range(N_VARIANTS):
        middle = np.radians(4.0 * k - 8.0)
        panel = (np.abs(azimuth - middle) < 0.17) & (np.abs(elevation) < 0.12)
        xyz = (rays * np.where(panel, 6.0, 10.0)[..., None]).reshape(-1, 3).astype(np.float32)
        ring = np.repeat(np.arange(n_rings), points // n_rings).astype(np.uint16)
        time = np.tile(np.linspace(0, 0.09, points // n_rings), n_rings).astype(np.float32)
        image = np.full((_HEIGHT, _WIDTH, 3), 60, np.uint8)
        u = _K[0, 2] - _K[0, 0] * np.tan(middle + np.array([0.17, -0.17]))
        v = _K[1, 2] + _K[1, 1] * np.tan([-0.12, 0.12])
        image[int(v[0]) : int(v[1]), int(u[0]) : int(u[1])] = 210
        cloud = PointCloud(xyz, {"ring": ring, "time": time}, "lidar")
        picture = fill_image(new(IMAGE), image, CAMERA, 0)
        variants.append({"points": cloud_message(encode_cloud(cloud)), "camera/image_raw": picture})
    return variants


def _calibration(folder: Path) -> Path:
    from calibration.camera import CameraModel
    from calibration.result import Calibration, Extrinsics, Quality

    known = Quality("made up", 0, 0)
    mount = Extrinsics(inverse(pose(R=R_BODY_OPTICAL)), camera_frame=CAMERA, lidar_frame="lidar")
    return Calibration(CameraModel(_WIDTH, _HEIGHT, _K), mount, known, known).save(folder / "camera.yaml")


def _shipped(name: str, folder: Path) -> Path:
    from pc_perception.inference.model_file import shipped_models

    return Path(shutil.copy(shipped_models()[name], folder / f"{name}.safetensors"))


def parameters(**values: object) -> list[str]:
    """Return the command line's words that set a node's parameters."""
    return [part for name, value in values.items() for part in ("-p", f"{name}:={value}")]


def _new_message() -> Callable[[str], Message]:
    from ros2_nodes.conversions import new_message

    return new_message
