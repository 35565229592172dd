# SPDX-License-Identifier: Apache-2.0
"""Images with the clouds taken at their time: from folders and from recordings."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.camera import CameraModel
from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse
from pc_perception.io.bags import BagReader
from pc_perception.io.files import SUFFIXES, read_cloud
from pc_perception.io.message_types import CLOUD_TYPES
from pc_perception.io.pointcloud2 import cloud_from_msg, header_of
from pc_perception.io.rgbd import color_image
from pc_perception.io.tf_tree import TransformTree
from pc_perception.undistort import carried

_log = logging.getLogger(__name__)

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm")
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_TF_ENDS_NS = 20_000_000
"""So far beyond the ends of /tf a moving sensor's pose is still taken to be the last one."""
_INFO = "sensor_msgs/msg/CameraInfo"


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
    undistort: bool = True,
) -> Recording:
    """Pair a recording's images with the clouds nearest in time; clouds of no image are not kept in memory.

    Args:
        fixed_frame: a frame of /tf that does not move (odom, map): clouds are then carried to the image's time.
        every_s: at most one frame in so many seconds.
        slop_s: largest difference of the stamps.
        undistort: with ``fixed_frame``: points that have a ``time`` were measured then, while the vehicle moved.

    Returns:
        Frames, the camera of the CameraInfo of the image's frame, and the mount of /tf, where there are such.
        Frames at the ends, where /tf does not reach, are left out with a warning.

    Raises:
        ValueError: topics are missing or ambiguous, clouds change their frame, nothing pairs, or no frame has
            its transforms.
    """
    with BagReader(path) as bag:
        clouds_name = cloud_topic or _only(bag, CLOUD_TYPES, "cloud")
        images_name = image_topic or _only(bag, _IMAGES, "image")
        tree = bag.transforms(**({} if fixed_frame is None else {"tolerance_ns": _TF_ENDS_NS}))
        images, infos = _images_and_infos(bag, images_name, every_s)
        read = (msg for _, _, msg in bag.read([clouds_name]))
        near = _nearest(read, [stamp_ns for stamp_ns, _ in images], slop_s)
    if not near:
        raise ValueError(
            f"no image of '{images_name}' has a cloud of '{clouds_name}' within {slop_s} s; check the clocks"
        )
    matched = [(*images[k], msg) for k, msg in sorted(near.items())]
    frames = _frames(matched, tree, fixed_frame, undistort)
    names = sorted({f.cloud.frame for f in frames})
    if len(names) > 1:
        raise ValueError(f"the clouds of '{clouds_name}' are in several frames: {', '.join(names)}")
    camera, lidar = frames[0].camera_frame, names[0]
    mount = tree.lookup(camera, lidar, images[0][0]) if {camera, lidar} <= tree.frames else None
    return Recording(frames, CameraModel.from_info(infos[camera]) if camera in infos else None, mount)


def _images_and_infos(
    bag: BagReader, images_name: str, every_s: float
) -> tuple[list[tuple[int, Any]], dict[str, Any]]:
    """Return stamps in nanoseconds and messages of the images, thinned, and the first CameraInfo of each frame."""
    images: list[tuple[int, Any]] = []
    infos: dict[str, Any] = {}
    for topic, _, msg in bag.read([images_name, *(n for n, t in bag.topics.items() if t.msgtype == _INFO)]):
        frame, stamp_ns = header_of(msg)
        if topic.name != images_name:
            infos.setdefault(frame, msg)
        elif not images or stamp_ns - images[-1][0] >= every_s * 1e9:
            images.append((stamp_ns, msg))
    return images, infos


def _nearest(clouds: Iterable[Any], stamps_ns: Sequence[int], slop_s: float) -> dict[int, Any]:
    """Return the cloud message nearest to each stamp, by the stamp's index; none beyond ``slop_s``."""
    found: dict[int, tuple[int, Any]] = {}
    for msg in clouds:
        stamp_ns = header_of(msg)[1]
        at = bisect_left(stamps_ns, stamp_ns)
        for k in range(max(at - 1, 0), min(at + 1, len(stamps_ns))):
            gap = abs(stamps_ns[k] - stamp_ns)
            if gap <= slop_s * 1e9 and (k not in found or gap < found[k][0]):
                found[k] = (gap, msg)
    return {k: msg for k, (_, msg) in found.items()}


def _frames(
    matched: Sequence[tuple[int, Any, Any]], tree: TransformTree, fixed: str | None, undistort: bool
) -> list[Frame]:
    """Return frames of an image's stamp and message and a cloud's; those beyond /tf are left out with a warning.

    Raises:
        ValueError: none is left.
    """
    frames, untold = [], ""
    for stamp_ns, image, msg in matched:
        cloud = cloud_from_msg(msg)
        try:
            if fixed is not None:
                cloud = _carried(cloud, tree, fixed, stamp_ns, undistort)
        except ValueError as error:
            untold = str(error)
            continue
        frames.append(Frame(f"{stamp_ns * 1e-9:.3f}", color_image(image), cloud, header_of(image)[0]))
    if not frames:
        raise ValueError(f"no frame can be carried by '{fixed}': {untold}")
    if untold:
        _log.warning("%d of %d frames are left out: %s", len(matched) - len(frames), len(matched), untold)
    return frames


def _carried(
    cloud: PointCloud, tree: TransformTree, fixed: str, stamp_ns: int, undistort: bool
) -> PointCloud:
    """Return the cloud at another time, its sensor carried through the frame ``fixed`` that stands still."""
    T_now_fixed = inverse(tree.lookup(fixed, cloud.frame, stamp_ns))
    return carried(cloud, lambda t: T_now_fixed @ tree.lookup(fixed, cloud.frame, t), stamp_ns, undistort)


def _only(bag: BagReader, types: Sequence[str], kind: str) -> str:
    names = sorted(n for n, t in bag.topics.items() if t.msgtype in types and t.count)
    if len(names) != 1:
        raise ValueError(
            f"the bag '{bag.path}' has {len(names)} {kind} topics{': ' if names else ''}{', '.join(names)}; "
            f"{'choose one' if names else 'record one'}"
        )
    return names[0]
