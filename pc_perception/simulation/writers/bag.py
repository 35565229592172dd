# SPDX-License-Identifier: Apache-2.0
"""Simulated drives and RGB-D walks as ROS 2 recordings (mcap), written with no ROS installed.

Drives: ``/points`` (frame lidar), ``/tf`` map -> base_link, ``/tf_static`` base_link -> lidar and cameras,
``/<camera>/image_raw/compressed`` with ``/<camera>/camera_info``. RGB-D: ``/points`` organised,
``/camera/color/image_raw`` rgb8, ``/camera/depth/image_raw`` 16UC1 millimetres, their camera_info, ``/tf``
map -> the optical frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation_to_quaternion
from pc_perception.io.bag_writer import BagWriter
from pc_perception.io.label_messages import set_header
from pc_perception.io.message_types import new_message
from pc_perception.simulation.camera import CameraFrame
from pc_perception.simulation.drive import DriveFrame


def write_drive_bag(path: str | Path, frames: Iterable[DriveFrame], *, with_labels: bool = True) -> int:
    """Write a drive and return the number of sweeps.

    Args:
        path: ``something.mcap`` for one file, else a rosbag2 folder.
        frames: taken one at a time.
        with_labels: keep the fields label, instance and part (raw simulation_street ids); a recording to
            pre-train on without labels has none.

    Raises:
        FileExistsError: the path exists.
    """
    n_sweeps = 0
    with BagWriter(path) as bag:
        for frame in frames:
            stamp = frame.stamp_ns
            if n_sweeps == 0:
                mounts = {"lidar": frame.T_base_lidar}
                mounts |= {_optical(name): T for name, T in frame.T_base_cameras.items()}
                _write_mounts(bag, mounts, stamp)
            bag.write_transform("map", "base_link", frame.T_world_base, stamp)
            for name, image in frame.images.items():
                topic = f"/{name.lower()}"
                bag.write_compressed_image(
                    f"{topic}/image_raw/compressed", _jpeg(image.rgb), _optical(name), stamp
                )
                height, width = image.depth.shape
                bag.write_camera_info(f"{topic}/camera_info", image.K, width, height, _optical(name), stamp)
            bag.write_cloud("/points", frame.cloud if with_labels else _unlabelled(frame.cloud))
            n_sweeps += 1
    return n_sweeps


def write_rgbd_bag(path: str | Path, frames: Iterable[tuple[PointCloud, CameraFrame]]) -> int:
    """Write RGB-D frames (``rgbd.rgbd_frames``) with their labels and return their number."""
    n_frames = 0
    with BagWriter(path) as bag:
        for cloud, frame in frames:
            stamp, height, width = cloud.stamp_ns, *frame.depth.shape
            bag.write_transform("map", cloud.frame, frame.T_world_camera, stamp)
            millimetres = np.clip(np.rint(frame.depth * 1000.0), 0, 65535).astype(np.uint16)
            for kind, image in (("color", frame.rgb), ("depth", millimetres)):
                bag.write_camera_info(
                    f"/camera/{kind}/camera_info", frame.K, width, height, cloud.frame, stamp
                )
                bag.write_image(f"/camera/{kind}/image_raw", image, cloud.frame, stamp)
            bag.write_cloud("/points", cloud)
            n_frames += 1
    return n_frames


def _write_mounts(bag: BagWriter, mounts: dict[str, NDArray], stamp_ns: int) -> None:
    """Write all static transforms as one message: who comes late gets only the last one of a latched topic."""
    msg = new_message("tf2_msgs/msg/TFMessage")
    for child, T in mounts.items():
        item = new_message("geometry_msgs/msg/TransformStamped")
        set_header(item, "base_link", stamp_ns)
        item.child_frame_id = child
        t, q = item.transform.translation, item.transform.rotation
        t.x, t.y, t.z = (float(v) for v in T[:3, 3])
        q.x, q.y, q.z, q.w = (float(v) for v in rotation_to_quaternion(T[:3, :3]))
        msg.transforms.append(item)
    bag.write("/tf_static", "tf2_msgs/msg/TFMessage", msg, stamp_ns, latched=True)


def _optical(camera: str) -> str:
    return f"{camera.lower()}_optical_frame"


def _unlabelled(cloud: PointCloud) -> PointCloud:
    fields = {n: v for n, v in cloud.fields.items() if n not in ("label", "instance", "part")}
    return PointCloud(cloud.xyz, fields, cloud.frame, cloud.stamp_ns, cloud.grid_shape)


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    out = BytesIO()
    Image.fromarray(rgb).save(out, format="JPEG", quality=90)
    return out.getvalue()
