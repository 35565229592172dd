# SPDX-License-Identifier: Apache-2.0
"""Images with the clouds taken at their time: from folders and from recordings."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.camera import CameraModel
from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse, transform
from pc_perception.io.bags import BagReader
from pc_perception.io.files import SUFFIXES, read_cloud
from pc_perception.io.pointcloud2 import cloud_from_msg, header_of
from pc_perception.io.rgbd import color_image
from pc_perception.io.tf_tree import TransformTree

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm")
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_INFO, _CLOUD = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/PointCloud2"


@dataclass(frozen=True)
class Frame:
    """One image and one cloud of the same moment.

    Attributes:
        name: for messages.
        image: (H, W, 3) or (H, W) uint8.
        cloud: in the LiDAR's frame at the image's time.
        camera_frame: name of the optical frame, if known.
    """

    name: str
    image: NDArray[np.uint8]
    cloud: PointCloud
    camera_frame: str = ""


@dataclass(frozen=True)
class Recording:
    """Frames and what came with them.

    Attributes:
        frames: in order of time.
        camera: intrinsics, if the source has any.
        T_camera_lidar: the mount, if the source has one.
    """

    frames: Sequence[Frame]
    camera: CameraModel | None = None
    T_camera_lidar: NDArray[np.float64] | None = None


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 red, green, blue of a picture file.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"'{path}' is not a picture") from error


def image_files(path: str | Path) -> list[Path]:
    """Return the pictures of a folder, or those that match a pattern such as ``images/left-*.png``, sorted.

    Raises:
        FileNotFoundError: there is none.
    """
    return _matching(path, _PICTURES, "picture")


def from_folders(images: str | Path, clouds: str | Path) -> Recording:
    """Pair pictures and clouds by name: ``pose1.png`` with ``pose1.pcd`` or ``pose1_full.pcd``.

    Args:
        images, clouds: folders, or patterns where a folder holds several clouds for an image.

    Raises:
        FileNotFoundError, ValueError: nothing is there, nothing pairs, or an image has two clouds.
    """
    pictures = image_files(images)
    pool = _matching(clouds, SUFFIXES, "cloud")
    frames = []
    for picture in pictures:
        mine = [c for c in pool if c.stem == picture.stem or c.stem.startswith(f"{picture.stem}_")]
        if len(mine) > 1:
            raise ValueError(
                f"'{picture.name}' has {len(mine)} clouds ({', '.join(c.name for c in mine)}); "
                "choose with a pattern, for example --clouds 'clouds/*_full.pcd'"
            )
        if mine:
            frames.append(Frame(picture.stem, read_image(picture), read_cloud(mine[0])))
    if not frames:
        raise ValueError(
            f"none of {len(pictures)} pictures and {len(pool)} clouds have a name in common, "
            f"for example '{pictures[0].name}' and '{pool[0].name}'"
        )
    return Recording(frames)


def _matching(path: str | Path, suffixes: Sequence[str], kind: str) -> list[Path]:
    found = Path(path).iterdir() if Path(path).is_dir() else map(Path, glob(str(path)))
    files = sorted(p for p in found if p.suffix.lower() in suffixes)
    if not files:
        raise FileNotFoundError(f"there is no {kind} in '{path}' ({', '.join(suffixes)})")
    return files


def images_of_bag(
    path: str | Path, topic: str | None = None, every_s: float = 1.0
) -> Iterator[tuple[str, NDArray]]:
    """Yield (name, image) of a recording's image topic, at most one in ``every_s`` seconds.

    Raises:
        ValueError: there is no such topic, or several to choose from.
    """
    with BagReader(path) as bag:
        name = topic or _only(bag, _IMAGES, "image")
        last = -np.inf
        for _, stamp_ns, msg in bag.read([name]):
            if stamp_ns - last >= every_s * 1e9:
                last = stamp_ns
                yield f"{stamp_ns * 1e-9:.3f}", color_image(msg)


def from_bag(
    path: str | Path,
    image_topic: str | None = None,
    cloud_topic: str | None = None,
    fixed_frame: str | None = None,
    every_s: float = 0.5,
    slop_s: float = 0.06,
) -> Recording:
    """Pair a recording's images with the clouds nearest in time.

    Args:
        fixed_frame: a frame of /tf that does not move (odom, map): clouds are then carried to the image's time.
        every_s: at most one frame in so many seconds.
        slop_s: largest difference of the stamps.

    Returns:
        Frames, the camera of the CameraInfo of the image's frame, and the mount of /tf, where there are such.

    Raises:
        ValueError: topics are missing or ambiguous, clouds change their frame, or nothing pairs.
    """
    with BagReader(path) as bag:
        clouds_name = cloud_topic or _only(bag, (_CLOUD,), "PointCloud2")
        images_name = image_topic or _only(bag, _IMAGES, "image")
        infos = [n for n, t in bag.topics.items() if t.msgtype == _INFO]
        tree = bag.transforms()
        clouds: list[tuple[int, Any]] = []
        images: list[tuple[int, Any]] = []
        cameras: dict[str, Any] = {}
        for topic, _, msg in bag.read([clouds_name, images_name, *infos]):
            frame, stamp_ns = header_of(msg)
            if topic.name == clouds_name:
                clouds.append((stamp_ns, msg))
            elif topic.name == images_name:
                if not images or stamp_ns - images[-1][0] >= every_s * 1e9:
                    images.append((stamp_ns, msg))
            else:
                cameras.setdefault(frame, msg)
    clouds.sort(key=lambda pair: pair[0])
    frames = []
    for stamp_ns, msg in images:
        near = _nearest(clouds, stamp_ns, slop_s)
        if near is not None:
            frames.append(_frame(stamp_ns, msg, cloud_from_msg(near), tree, fixed_frame))
    if not frames:
        raise ValueError(
            f"no image of '{images_name}' has a cloud of '{clouds_name}' within {slop_s} s; check the clocks"
        )
    names = sorted({f.cloud.frame for f in frames})
    if len(names) > 1:
        raise ValueError(f"the clouds of '{clouds_name}' are in several frames: {', '.join(names)}")
    info = cameras.get(frames[0].camera_frame)
    mount = None
    if {frames[0].camera_frame, names[0]} <= tree.frames:
        mount = tree.lookup(frames[0].camera_frame, names[0], images[0][0])
    return Recording(frames, None if info is None else CameraModel.from_info(info), mount)


def _nearest(clouds: Sequence[tuple[int, Any]], stamp_ns: int, slop_s: float) -> Any | None:
    at = bisect_left(clouds, stamp_ns, key=lambda pair: pair[0])
    near = min(clouds[max(at - 1, 0) : at + 1], key=lambda pair: abs(pair[0] - stamp_ns), default=None)
    return near[1] if near is not None and abs(near[0] - stamp_ns) <= slop_s * 1e9 else None


def _frame(stamp_ns: int, msg: Any, cloud: PointCloud, tree: TransformTree, fixed_frame: str | None) -> Frame:
    if fixed_frame is not None:
        T_fixed_then = tree.lookup(fixed_frame, cloud.frame, cloud.stamp_ns)
        T_fixed_now = tree.lookup(fixed_frame, cloud.frame, stamp_ns)
        cloud = replace(
            cloud, xyz=transform(inverse(T_fixed_now) @ T_fixed_then, cloud.xyz), stamp_ns=stamp_ns
        )
    return Frame(f"{stamp_ns * 1e-9:.3f}", color_image(msg), cloud, header_of(msg)[0])


def _only(bag: BagReader, types: Sequence[str], kind: str) -> str:
    names = sorted(n for n, t in bag.topics.items() if t.msgtype in types and t.count)
    if len(names) != 1:
        raise ValueError(
            f"the bag '{bag.path}' has {len(names)} {kind} topics{': ' if names else ''}{', '.join(names)}; "
            f"{'choose one' if names else 'record one'}"
        )
    return names[0]
