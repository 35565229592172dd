# SPDX-License-Identifier: Apache-2.0
"""Which pictures of a recording belong to its clouds: nearest in time, placed by /tf, measured by CameraInfo."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.geometry import inverse
from pc_perception.io.bags import BagReader, BagTruncated
from pc_perception.io.compressed_depth import depth_encoding
from pc_perception.io.pointcloud2 import header_of
from pc_perception.io.rgbd import color_image
from pc_perception.io.tf_tree import TransformTree

from .cameras import MAX_APART_S, Camera

LISTING = "cameras.json"
_IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
_INFO = "sensor_msgs/msg/CameraInfo"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagCamera:
    """One camera of a recording.

    Attributes:
        channel: its namespace, ``cam_front`` of ``/cam_front/camera_info``.
        topic: of its pictures, chosen as ``bag_cameras`` says.
        info: its first CameraInfo.
    """

    channel: str
    topic: str
    info: Any

    def intrinsics(self) -> NDArray[np.float64]:
        """Return the (3, 3) K of the pictures, P's where they are rectified.

        Raises:
            ValueError: there are none, or the lens bends pictures that nobody has straightened.
        """
        rectified = "rect" in self.topic.rsplit("/", 2)[-2 if self.topic.endswith("/compressed") else -1]
        P = np.asarray(self.info.p, float).reshape(3, 4)
        K = P[:, :3] if rectified and P.any() else np.asarray(self.info.k, float).reshape(3, 3)
        if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
            raise ValueError(f"{self.channel} has no intrinsics in its camera_info; calibrate it")
        if not rectified and np.any(self.info.d):
            raise ValueError(
                f"{self.channel} has lens distortion and '{self.topic}' is not rectified; record image_rect "
                "(ros2 run image_proc rectify_node)"
            )
        return K


def bag_cameras(bag: BagReader) -> list[BagCamera]:
    """Return the colour cameras of a recording: every CameraInfo with pictures in its namespace.

    Of several topics of one camera the rectified one is taken, else the compressed one. Pictures without
    CameraInfo are told of.

    Raises:
        ValueError: there is none.
    """
    pictures = [
        name for name, t in bag.topics.items() if t.msgtype in _IMAGES and t.count and _is_color(bag, name)
    ]
    found = []
    for name, topic in sorted(bag.topics.items()):
        if topic.msgtype != _INFO or not topic.count:
            continue
        space = name.rpartition("/")[0]
        own = [p for p in pictures if p.startswith(f"{space}/")]
        if own:
            best = max(own, key=lambda p: ("rect" in p, p.endswith("/compressed")))
            found.append(BagCamera(space.strip("/").replace("/", "_") or "camera", best, bag.first(name)))
            pictures = [p for p in pictures if p not in own]
    for name in pictures:
        _log.warning("%s: there is no camera_info for '%s'; its pictures are not used", bag.path, name)
    if not found:
        raise ValueError(f"'{bag.path}' has no camera: it needs pictures and camera_info in one namespace")
    return found


def lay_out(bag: BagReader, clouds: Sequence[tuple[str, int]], folder: Path) -> None:
    """Write the pictures that belong to clouds, and ``cameras.json`` with their places.

    Args:
        bag: an open recording.
        clouds: frame and stamp of each cloud, nanoseconds.
        folder: to write into; the pictures go into its ``pictures``.

    Raises:
        ValueError: the recording has no camera.
    """
    cameras, tree = bag_cameras(bag), bag.transforms()
    taken: dict[str, dict[int, str]] = {camera.topic: {} for camera in cameras}
    for topic, msg in _messages(bag, list(taken)):
        frame, stamp_ns = header_of(msg)
        taken[topic][stamp_ns] = frame
    stamps = {topic: np.array(sorted(found), np.int64) for topic, found in taken.items()}
    wanted = {topic: {_nearest(s, t) for _, t in clouds} for topic, s in stamps.items()}
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    files: dict[tuple[str, int], Path] = {}
    for topic, msg in _messages(bag, list(taken)):
        stamp_ns = header_of(msg)[1]
        if stamp_ns in wanted[topic]:
            name = topic.strip("/").replace("/", "_")
            files[topic, stamp_ns] = _write(msg, folder / "pictures" / f"{name}-{stamp_ns}")
    rows = []
    for frame, stamp_ns in clouds:
        try:
            rows.append([_placed(c, frame, stamp_ns, taken, stamps, tree, files) for c in cameras])
        except ValueError as error:
            rows.append(str(error))  # type: ignore[arg-type]
    (folder / LISTING).write_text(json.dumps(rows), encoding="utf-8")


def read_cameras(folder: Path, sample: str, row: Any, cache: Path) -> tuple[Camera, ...]:
    """Return the cameras of one cloud from its row in ``cameras.json``.

    Raises:
        ValueError: they cannot be used; the message names the sample.
    """
    if isinstance(row, str):
        raise ValueError(f"sample {sample}: {row}")
    return tuple(
        Camera(
            c["channel"],
            folder / "pictures" / c["file"],
            (c["size"][0], c["size"][1]),
            np.array(c["K"]),
            np.array(c["T_camera_lidar"]),
            sample,
            cache,
        )
        for c in row
    )


def _placed(
    camera: BagCamera,
    frame: str,
    stamp_ns: int,
    taken: Mapping[str, Mapping[int, str]],
    stamps: Mapping[str, NDArray[np.int64]],
    tree: TransformTree,
    files: Mapping[tuple[str, int], Path],
) -> dict[str, Any]:
    """Return the row of a camera for a cloud of ``frame`` at ``stamp_ns``."""
    if not len(stamps[camera.topic]):
        raise ValueError(f"{camera.channel} has no picture that can be read")
    near = _nearest(stamps[camera.topic], stamp_ns)
    apart_s = abs(near - stamp_ns) / 1e9
    if apart_s > MAX_APART_S:
        raise ValueError(
            f"{camera.channel} was taken {apart_s:.2f} s from the sweep, at most {MAX_APART_S} s are allowed"
        )
    # Through what both hang on, which does not move with the vehicle: it drives on between the two.
    fixed = tree.root(frame)
    try:
        T_fixed_camera = tree.lookup(fixed, taken[camera.topic][near], near)
        T = inverse(T_fixed_camera) @ tree.lookup(fixed, frame, stamp_ns)
    except ValueError as error:
        raise ValueError(f"{camera.channel} cannot be placed: {error}") from None
    return {
        "channel": camera.channel,
        "file": files[camera.topic, near].name,
        "size": [int(camera.info.width), int(camera.info.height)],
        "K": camera.intrinsics().tolist(),
        "T_camera_lidar": T.tolist(),
    }


def _nearest(stamps: NDArray[np.int64], stamp_ns: int) -> int:
    return int(stamps[np.abs(stamps - stamp_ns).argmin()]) if len(stamps) else -1


def _write(msg: Any, stem: Path) -> Path:
    """Write a picture as the recording has it, an uncompressed one as PNG; a broken one is told when it is used."""
    if not hasattr(msg, "encoding"):
        file = stem.with_suffix(".png" if "png" in msg.format else ".jpg")
        file.write_bytes(bytes(msg.data))
        return file
    from PIL import Image

    file = stem.with_suffix(".png")
    try:
        Image.fromarray(color_image(msg)).save(file, compress_level=1)
    except ValueError as error:
        file.write_bytes(b"")
        _log.warning("%s: %s", file.name, error)
    return file


def _messages(bag: BagReader, names: Sequence[str]) -> Any:
    try:
        for topic, _, msg in bag.read(names):
            yield topic.name, msg
    except BagTruncated as error:
        _log.warning("%s: %s", bag.path, error)


def _is_color(bag: BagReader, name: str) -> bool:
    msg = bag.first(name)
    if msg is None or depth_encoding(msg):
        return False
    return "compressedDepth" not in getattr(msg, "format", "")  # of an encoding that is not known
