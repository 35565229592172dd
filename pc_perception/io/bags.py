# SPDX-License-Identifier: Apache-2.0
"""Recordings: rosbag2 (mcap, sqlite3) and ROS 1 bags, with no ROS installed. Writing is in ``bag_writer``."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from pc_perception.cloud import PointCloud
from pc_perception.io import livox
from pc_perception.io.bag_sources import BagTruncated, Source, Topic, open_sources
from pc_perception.io.bag_writer import BagWriter
from pc_perception.io.depth_bags import IMAGE_TYPES, depth_clouds, depth_topics
from pc_perception.io.message_types import CLOUD_TYPES, to_cdr, typestore
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.io.tf_tree import TransformTree

__all__ = ["BagReader", "BagTruncated", "BagWriter", "Topic", "is_bag"]

_TF = "tf2_msgs/msg/TFMessage"
_log = logging.getLogger(__name__)


def is_bag(path: str | Path) -> bool:
    """Tell by name whether a path is a recording: .mcap, .db3, .bag, or a folder of such."""
    path = Path(path)
    if path.is_dir():
        return any(p.suffix in (".mcap", ".db3") for p in path.iterdir())
    return path.suffix in (".mcap", ".db3", ".bag")


class BagReader:
    """Read a recording; a context manager.

    Attributes:
        topics: every topic by name, with type and count.
        left_out: messages that could not be used so far: (topic, bag stamp in ns) -> why. The log says it too.

    Raises:
        FileNotFoundError, ValueError: on entering, where there is nothing readable.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.topics: dict[str, Topic] = {}
        self.left_out: dict[tuple[str, int], str] = {}
        self._sources: list[Source] = []

    def __enter__(self) -> BagReader:
        self._sources = open_sources(self.path)
        for source in self._sources:
            for name, topic in source.topics.items():
                before = self.topics[name].count if name in self.topics else 0
                self.topics[name] = Topic(name, topic.msgtype, before + topic.count, *_rest(topic))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for source in self._sources:
            source.close()
        self._sources = []

    @property
    def cloud_topics(self) -> list[str]:
        """Names of the topics of clouds that have messages."""
        return sorted(n for n, t in self.topics.items() if t.msgtype in CLOUD_TYPES and t.count)

    def default_topic(self) -> str:
        """Return the one topic to take clouds from: of ``CLOUD_TYPES``, else a depth image.

        Raises:
            ValueError: there is none, or there are several; the message lists what there is.
        """
        found = self.cloud_topics or depth_topics(self)
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"the bag has several topics with clouds; name one (--topic): {', '.join(found)}"
            )
        raise ValueError(
            f"the bag '{self.path}' has no clouds: no PointCloud2, CustomMsg or depth image. {self.listing()}"
        )

    def messages(self, names: Collection[str] | None = None) -> Iterator[tuple[Topic, int, bytes]]:
        """Yield (topic, bag stamp in ns, serialised message) of the named topics, of all where None.

        The bytes are ROS 2's (CDR), for ``BagWriter.copy`` and ``decode``; ROS 1 messages are converted.

        Raises:
            BagTruncated: at the end, where the bag breaks off.
            ValueError: a name is not in the bag.
        """
        for source, topic, stamp_ns, raw in self._raw(names):
            if not source.is_ros1:
                yield topic, stamp_ns, raw
                continue
            try:
                converted = to_cdr(source.decode(raw, topic.msgtype), topic.msgtype)
            except Exception as error:  # also a type that ROS 2 does not have
                self.leave_out(topic.name, stamp_ns, error)
                continue
            yield replace(topic, definition=""), stamp_ns, converted

    def decode(self, topic: Topic, raw: bytes) -> Any:
        """Return the message object of what ``messages`` yielded, of Livox's own message its PointCloud2.

        Raises:
            ValueError: the bytes are not such a message.
        """
        source = next(s for s in self._sources if topic.name in s.topics)
        try:
            if topic.msgtype in livox.TYPES:
                return livox.custom_msg(raw)
            if source.is_ros1:
                return typestore().deserialize_cdr(raw, topic.msgtype)
            return source.decode(raw, topic.msgtype)
        except Exception as error:  # rosbags' deserialisers fail in many ways on damaged bytes
            raise ValueError(f"a message of '{topic.name}' cannot be decoded: {error}") from error

    def read(self, names: Collection[str] | None = None) -> Iterator[tuple[Topic, int, Any]]:
        """Yield (topic, bag stamp in ns, message object as by ``decode``); what cannot be decoded is left out.

        Raises:
            BagTruncated, ValueError: as ``messages``.
        """
        for source, topic, stamp_ns, raw in self._raw(names):
            try:
                msg = _decoded(source, raw, topic.msgtype)
            except Exception as error:  # rosbags' deserialisers fail in many ways on damaged bytes
                self.leave_out(topic.name, stamp_ns, error)
                continue
            yield topic, stamp_ns, msg

    def clouds(self, topic: str | None = None) -> Iterator[tuple[int, PointCloud]]:
        """Yield (bag stamp in ns, cloud) of a topic of ``CLOUD_TYPES``, or of a depth image's.

        Args:
            topic: its name; None takes ``default_topic``.

        Raises:
            BagTruncated: at the end, where the bag breaks off.
            ValueError: there is no such topic, or it holds no clouds; the message lists those there are.
        """
        name = topic if topic is not None else self.default_topic()
        self._check_names([name])
        msgtype = self.topics[name].msgtype
        if msgtype in IMAGE_TYPES:
            yield from depth_clouds(self, name)
            return
        if msgtype not in CLOUD_TYPES:
            raise ValueError(f"topic '{name}' is a {msgtype}, not a cloud or depth image. {self.listing()}")
        for _, stamp_ns, msg in self.read([name]):
            try:
                cloud = cloud_from_msg(msg)
            except ValueError as error:
                self.leave_out(name, stamp_ns, error)
                continue
            yield stamp_ns, cloud

    def transforms(self, **tree_arguments: int) -> TransformTree:
        """Return all of /tf and /tf_static (any TFMessage topic; static by its name); arguments as the tree's."""
        tree = TransformTree(**tree_arguments)
        names = [n for n, t in self.topics.items() if t.msgtype in (_TF, "tf/msg/tfMessage")]
        if not names:
            return tree
        try:
            for topic, _, msg in self.read(names):
                tree.add_message(msg, static=topic.name.endswith("static"))
        except BagTruncated:
            _log.warning("the transforms of '%s' end where the bag breaks off", self.path)
        return tree

    def _raw(self, names: Collection[str] | None) -> Iterator[tuple[Source, Topic, int, bytes]]:
        wanted = set(self.topics if names is None else names)
        self._check_names(wanted)
        n_messages, damage = 0, ""
        for source in self._sources:
            stream = source.messages(wanted)
            while True:
                try:
                    name, stamp_ns, raw = next(stream)
                except StopIteration:
                    break
                except Exception as error:  # a chunk or page in the middle is damaged
                    damage = str(error) or type(error).__name__
                    break
                n_messages += 1
                yield source, self.topics[name], stamp_ns, raw
            damage = damage or source.damage
        if damage:
            raise BagTruncated(
                f"the bag '{self.path}' is cut off or damaged ({damage}); {n_messages} messages could be read "
                "and were used, copy it again for the rest"
            )

    def _check_names(self, names: Collection[str]) -> None:
        missing = sorted(set(names) - set(self.topics))
        if missing:
            raise ValueError(f"the bag '{self.path}' has no topic '{missing[0]}'. {self.listing()}")

    def listing(self) -> str:
        """Return one line that names the topics."""
        kinds = [f"{t.name} ({t.msgtype.rpartition('/')[2]}, {t.count})" for t in self.topics.values()]
        return f"Its topics are: {', '.join(sorted(kinds)) or 'none'}"

    def leave_out(self, name: str, stamp_ns: int, error: Exception) -> None:
        """Note and log a message that cannot be used; once, however often it is come by."""
        if (name, stamp_ns) not in self.left_out:
            _log.warning("a message of '%s' at %d ns was left out: %s", name, stamp_ns, error)
        self.left_out[name, stamp_ns] = str(error)

    def first(self, name: str) -> Any:
        """Return the first readable message of a topic, or None."""
        try:
            return next((msg for _, _, msg in self.read([name])), None)
        except BagTruncated:
            return None


def _decoded(source: Source, raw: bytes, msgtype: str) -> Any:
    return livox.custom_msg(raw, source.is_ros1) if msgtype in livox.TYPES else source.decode(raw, msgtype)


def _rest(topic: Topic) -> tuple[str, str, bool]:
    return topic.definition, topic.encoding, topic.latched
