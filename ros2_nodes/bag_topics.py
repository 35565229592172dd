# SPDX-License-Identifier: Apache-2.0
"""Find what sensors sent in a rosbag2 bag before it is played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pc_perception.io import livox
from pc_perception.io.message_types import CLOUD_TYPES

CAMERA_TYPES = tuple(f"sensor_msgs/msg/{kind}" for kind in ("Image", "CompressedImage", "CameraInfo"))


def cloud_topic(bag: str | Path, topic: str = "") -> tuple[str, str]:
    """Return which topic of a bag to label, and the frame of its first cloud.

    Args:
        bag: folder of a bag, or one of its .mcap or .db3 files.
        topic: the one to take; empty takes the cloud topic with most messages.

    Raises:
        FileNotFoundError: there is no such bag.
        ValueError: it cannot be read, has no such topic, or is of a message type that is not installed.
    """
    from .conversions import missing_type

    path = Path(bag)
    counts = {
        t.topic_metadata.name: (t.message_count, t.topic_metadata.type)
        for t in _topics(path)
        if t.topic_metadata.type in CLOUD_TYPES and t.message_count
    }
    chosen = topic or max(counts, key=lambda name: counts[name], default="")
    if chosen not in counts:
        where = f"'{topic}'; it has them on {', '.join(sorted(counts))}" if counts else "any topic"
        raise ValueError(f"'{bag}' has no clouds ({', '.join(CLOUD_TYPES[:2])}) on {where}")
    msgtype = counts[chosen][1]
    if problem := missing_type(msgtype):
        raise ValueError(f"'{bag}' cannot be played: {problem}, or label it by `pc-perception segment`")
    return chosen, _first_frame(path, chosen, msgtype)


def sensor_topics(bag: str | Path) -> list[str]:
    """Return the topics of a bag that a node of ours could listen to: clouds, pictures, intrinsics.

    Raises:
        FileNotFoundError: there is no such bag.
        ValueError: it cannot be read.
    """
    kinds = {*CLOUD_TYPES, *CAMERA_TYPES}
    return [t.topic_metadata.name for t in _topics(Path(bag)) if t.topic_metadata.type in kinds]


def _topics(path: Path) -> list[Any]:
    if not path.exists():
        raise FileNotFoundError(f"no bag '{path}': give a rosbag2 folder or its .mcap or .db3 file")
    from rosbag2_py import Info

    try:
        return Info().read_metadata(str(path), _storage(path)).topics_with_message_count
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"'{path}' is not a readable rosbag2 bag ({error}); for other recordings use `pc-perception segment`"
        ) from None


def _storage(path: Path) -> str:
    return {".mcap": "mcap", ".db3": "sqlite3"}.get(path.suffix, "")


def _first_frame(path: Path, topic: str, msgtype: str) -> str:
    from rclpy.serialization import deserialize_message
    from rosbag2_py import ConverterOptions, SequentialReader, StorageFilter, StorageOptions
    from sensor_msgs.msg import PointCloud2

    reader = SequentialReader()
    reader.open(StorageOptions(uri=str(path), storage_id=_storage(path)), ConverterOptions("cdr", "cdr"))
    reader.set_filter(StorageFilter(topics=[topic]))
    raw = reader.read_next()[1]
    msg = livox.custom_msg(raw) if msgtype in livox.TYPES else deserialize_message(raw, PointCloud2)
    return msg.header.frame_id
