# SPDX-License-Identifier: Apache-2.0
"""Serialised messages out of bag files: through rosbags where a file is whole, else read up to the cut."""

from __future__ import annotations

import logging
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pc_perception.io.mcap_scan import scan_mcap
from pc_perception.io.mcap_writer import McapChannel
from pc_perception.io.message_types import typestore
from pc_perception.io.rosbag1_scan import scan_rosbag1

_log = logging.getLogger(__name__)

Scan = Callable[[Path], Iterator[McapChannel | tuple[McapChannel, int, bytes]]]


class BagTruncated(ValueError):
    """The bag breaks off; raised after everything before the break was handed out."""


@dataclass(frozen=True)
class Topic:
    """One topic of a bag.

    Attributes:
        name, msgtype: ``/points``, ``sensor_msgs/msg/PointCloud2``.
        count: how many messages.
        latched: offered as transient local, so that late subscribers get it.
    """

    name: str
    msgtype: str
    count: int = 0
    definition: str = ""
    encoding: str = "ros2msg"
    latched: bool = False


class Source(Protocol):
    """An open bag file."""

    topics: dict[str, Topic]
    is_ros1: bool
    damage: str  # why the file breaks off; empty where it is whole or not yet read to the end

    def messages(self, names: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Yield topic, time of recording in nanoseconds and bytes of the messages on some topics."""

    def decode(self, raw: bytes, msgtype: str) -> Any:
        """Return the message of a type that bytes hold."""

    def close(self) -> None:
        """Close the file."""


class WholeSource:
    """A complete bag, read through rosbags in the order of time."""

    def __init__(self, path: Path) -> None:
        from rosbags.highlevel import AnyReader

        self._reader = AnyReader([path], default_typestore=typestore())
        self._reader.open()
        self.is_ros1 = not self._reader.is2
        self.damage = ""
        self.topics: dict[str, Topic] = {}
        for c in self._reader.connections:
            known = self.topics.get(c.topic)
            qos = getattr(c.ext, "offered_qos_profiles", None) or []
            latched = any(q.durability.name == "TRANSIENT_LOCAL" for q in qos)
            latched = latched or bool(getattr(c.ext, "latching", None))
            encoding = "ros2idl" if c.msgdef.format.name == "IDL" else "ros2msg"
            count = c.msgcount + (known.count if known else 0)
            self.topics[c.topic] = Topic(c.topic, c.msgtype, count, c.msgdef.data, encoding, latched)

    def messages(self, names: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Yield topic, nanoseconds and bytes in the order of time."""
        wanted = [c for c in self._reader.connections if c.topic in names]
        if wanted:
            for connection, stamp_ns, raw in self._reader.messages(wanted):
                yield connection.topic, stamp_ns, raw

    def decode(self, raw: bytes, msgtype: str) -> Any:
        """Return the message, by rosbags."""
        return self._reader.deserialize(raw, msgtype)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class CutSource:
    """A bag file without its index, or cut off: read from its start up to where it breaks."""

    def __init__(self, path: Path) -> None:
        scans: dict[str, Scan] = {".mcap": scan_mcap, ".bag": scan_rosbag1, ".db3": scan_sqlite}
        self._path, self._scan = path, scans[path.suffix]
        self.is_ros1 = path.suffix == ".bag"
        self.topics: dict[str, Topic] = {}
        self.damage = ""
        self._look_through()
        self._types = self._make_types()

    def _look_through(self) -> None:
        try:
            for item in self._scan(self._path):
                channel = item if isinstance(item, McapChannel) else item[0]
                topic = self.topics.get(channel.topic)
                if topic is None:
                    latched = "transient_local" in channel.metadata.get("offered_qos_profiles", "")
                    topic = Topic(channel.topic, channel.msgtype, 0, *channel[2:4], latched)
                if not isinstance(item, McapChannel):
                    topic = replace(topic, count=topic.count + 1)
                self.topics[channel.topic] = topic
        except (EOFError, OSError, struct.error, sqlite3.Error) as error:
            self.damage = str(error)

    def _make_types(self) -> Any:
        from rosbags.typesys import Stores, get_typestore

        known = get_typestore(Stores.ROS1_NOETIC) if self.is_ros1 else typestore()
        types = dict(known.fielddefs)
        for topic in self.topics.values():  # the bag's own definitions win, where they are whole
            try:
                types.update(_parse_definition(topic) if topic.definition else {})
            except Exception as error:  # rosbags' parsers fail in many ways on damaged text
                _log.warning("the definition of %s cannot be read: %s", topic.msgtype, _one_line(error))
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        return store

    def messages(self, names: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Yield topic, nanoseconds and bytes, as far as the file can be read."""
        try:
            for item in self._scan(self._path):
                if not isinstance(item, McapChannel) and item[0].topic in names:
                    yield item[0].topic, item[1], item[2]
        except (EOFError, OSError, struct.error, sqlite3.Error):
            return  # known since the first look, and told at the end by who reads

    def decode(self, raw: bytes, msgtype: str) -> Any:
        """Return the message, by the bag's own definitions."""
        read = self._types.deserialize_ros1 if self.is_ros1 else self._types.deserialize_cdr
        return read(raw, msgtype)

    def close(self) -> None:
        """Do nothing: each scan closes what it opened."""
        return


def _parse_definition(topic: Topic) -> dict[str, Any]:
    from rosbags.typesys import get_types_from_idl, get_types_from_msg

    if topic.encoding == "ros2msg":
        return get_types_from_msg(topic.definition, topic.msgtype)
    types: dict[str, Any] = {}
    for part in topic.definition.split("=" * 80 + "\n"):
        types.update(get_types_from_idl(part.partition("\n")[2]) if part.strip() else {})
    return types


def _one_line(error: Exception) -> str:
    """Return the first line of an error; some of rosbags' repeat the whole definition."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def scan_sqlite(path: Path) -> Iterator[McapChannel | tuple[McapChannel, int, bytes]]:
    """Yield channels and messages of a rosbag2 .db3 file row by row, up to the first damaged page.

    Raises:
        sqlite3.Error: at the damage.
    """
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        # Without it SQLite refuses a file shorter than its header says before reading one page.
        connection.execute("PRAGMA writable_schema=ON")
        channels: dict[int, McapChannel] = {}
        for number, name, msgtype in connection.execute("SELECT id, name, type FROM topics"):
            channels[number] = McapChannel(name, msgtype, "", "ros2msg", {})
            yield channels[number]
        # By row, not by time: the index on time lies anywhere in the file, the rows mostly in order.
        for number, stamp_ns, data in connection.execute(
            "SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id"
        ):
            if number in channels:
                yield channels[number], stamp_ns, data
    finally:
        connection.close()


def open_sources(path: Path) -> list[Source]:
    """Open the bag files at a path: a rosbag2 folder, one .mcap or .db3, or a ROS 1 .bag.

    Raises:
        FileNotFoundError: there is nothing there.
        ValueError: it is not a bag, or nothing in it can be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no bag '{path}'")
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".mcap", ".db3"))
        if (path / "metadata.yaml").is_file():
            try:
                return [WholeSource(path)]
            except ImportError:
                raise
            except Exception:  # rosbags raises many types on damage; each file gets its own try below
                if not files:
                    raise
    if not files or any(f.suffix not in (".mcap", ".db3", ".bag") for f in files):
        raise ValueError(f"'{path}' is not a bag: a folder with .mcap or .db3, or such a file, or .bag")
    return [_open_file(file) for file in files]


def _open_file(path: Path) -> Source:
    try:
        return WholeSource(path)
    except ImportError:
        raise
    except Exception as whole_error:  # rosbags documents no set of errors for damaged files
        try:
            source = CutSource(path)
        except Exception as error:  # as above: whatever is wrong, it is one sentence
            raise ValueError(f"'{path}' cannot be read as a bag: {error}") from whole_error
        if not source.topics:
            reason = source.damage or _one_line(whole_error)
            raise ValueError(f"nothing in the bag '{path}' can be read: {reason}") from whole_error
        return source
