# SPDX-License-Identifier: Apache-2.0
"""The clouds of a recorded RGB-D camera: depth, raw or compressed, with its camera_info and its colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from pc_perception.cloud import PointCloud
from pc_perception.io.bag_sources import BagTruncated
from pc_perception.io.compressed_depth import depth_encoding, uncompressed_depth
from pc_perception.io.pointcloud2 import header_of
from pc_perception.io.rgbd import RgbdPairing, cloud_from_depth, image_size

if TYPE_CHECKING:
    from pc_perception.io.bags import BagReader

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
T = TypeVar("T")


def depth_topics(bag: BagReader) -> list[str]:
    """Return the topics of depth images; the compressed ones where there are no others."""
    for msgtype in IMAGE_TYPES:
        names = sorted(n for n, t in bag.topics.items() if t.msgtype == msgtype and t.count)
        found = [n for n in names if (msg := bag.first(n)) is not None and depth_encoding(msg)]
        if found:
            return found
    return []


def depth_clouds(bag: BagReader, name: str) -> Iterator[tuple[int, PointCloud]]:
    """Yield (bag stamp in ns, organised cloud) of a topic of depth images.

    Raises:
        BagTruncated: at the end, where the bag breaks off.
        ValueError: the topic holds no depth, or there is no CameraInfo for it.
    """
    first = bag.first(name)
    if first is None or not depth_encoding(first):
        raise ValueError(f"'{name}' is no depth image. {bag.listing()}")
    depth = _first_good(bag, name, uncompressed_depth)
    if depth is None:
        raise ValueError(f"not one depth image of '{name}' can be decoded; record it again")
    info_topic = _partner(bag, name, depth, (_INFO_TYPE,))
    if info_topic is None:
        raise ValueError(f"the bag has no CameraInfo for the depth of '{name}'. {bag.listing()}")
    color_topic = _partner(bag, name, depth, IMAGE_TYPES)
    pairing = RgbdPairing(color_topic is not None)
    broken: BagTruncated | None = None
    try:
        for topic, stamp_ns, msg in bag.read([n for n in (name, info_topic, color_topic) if n is not None]):
            try:
                if topic.name == name:
                    pairing.add_depth(stamp_ns, uncompressed_depth(msg))
                elif topic.name == info_topic:
                    pairing.add_info(msg)
                else:
                    pairing.add_color(msg)
            except ValueError as error:
                bag.leave_out(topic.name, stamp_ns, error)
            yield from _paired(bag, name, pairing)
    except BagTruncated as error:
        broken = error
    yield from _paired(bag, name, pairing, finished=True)
    if broken is not None:
        raise broken


def _paired(
    bag: BagReader, name: str, pairing: RgbdPairing, finished: bool = False
) -> Iterator[tuple[int, PointCloud]]:
    for stamp_ns, depth, info, color in pairing.ready(finished):
        try:
            yield stamp_ns, cloud_from_depth(depth, info, color)
        except ValueError as error:
            bag.leave_out(name, stamp_ns, error)


def _partner(bag: BagReader, name: str, depth: Any, msgtypes: tuple[str, ...]) -> str | None:
    """Return the topic of a type that belongs to a depth image: same frame, same size, nearest name."""
    frame, best = header_of(depth)[0], None
    for other, topic in bag.topics.items():
        if other == name or topic.msgtype not in msgtypes or not topic.count:
            continue
        msg = bag.first(other)
        if msg is None or (topic.msgtype in IMAGE_TYPES and depth_encoding(msg)):
            continue
        if _first_good(bag, other, image_size) != (depth.height, depth.width):
            continue
        score = (header_of(msg)[0] == frame, _shared_prefix(name, other))
        if best is None or score > best[0]:
            best = (score, other)
    return best[1] if best else None


def _first_good(bag: BagReader, name: str, use: Callable[[Any], T]) -> T | None:
    """Return what ``use`` makes of the first message of a topic that it takes."""
    try:
        for _, _, msg in bag.read([name]):
            with suppress(ValueError):
                return use(msg)
    except BagTruncated:
        pass
    return None


def _shared_prefix(a: str, b: str) -> int:
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
