# SPDX-License-Identifier: Apache-2.0
"""Write MCAP files so that an interrupted recording loses at most its last half second.

A chunk is handed to the system when it holds a megabyte, or with the first message after half a second:
a process that is killed then takes no more than that with it (a machine that loses power, what the system
had not yet written). Chunks hold whole messages with their schemas, so what is there can be read back by
``mcap_scan``, Foxglove and ``mcap recover``.
"""

from __future__ import annotations

import struct
import time
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

MAGIC = b"\x89MCAP0\r\n"
_CHUNK_BYTES = 1 << 20
_CHUNK_S = 0.5


class McapChannel(NamedTuple):
    """One topic of a file, with what is needed to read its messages."""

    topic: str
    msgtype: str
    definition: str
    encoding: str  # of the definition: ros2msg or ros2idl
    metadata: dict[str, str]


def _text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(raw)) + raw


def _record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def _text_map(values: dict[str, str]) -> bytes:
    return _text(b"".join(_text(k) + _text(v) for k, v in values.items()))


@dataclass
class _Chunk:
    """Messages collected since the last write."""

    body: BytesIO = field(default_factory=BytesIO)
    index: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    start: int = 2**63 - 1
    end: int = 0
    begun: float = field(default_factory=time.monotonic)


class McapWriter:
    """Write an MCAP file of the ROS 2 profile; uncompressed, chunked, indexed on ``close``.

    Raises:
        FileExistsError: the file is there already.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self._file.write(MAGIC + _record(0x01, _text("ros2") + _text("pc_perception")))
        self._at = self._file.tell()
        self._chunk = _Chunk()
        self._schemas: dict[str, bytes] = {}
        self._channels: list[bytes] = []
        self._chunk_index: list[bytes] = []
        self.counts: list[int] = []
        self.start, self.end = 2**63 - 1, 0

    def add_channel(self, channel: McapChannel) -> int:
        """Announce a topic; return its id for ``write``."""
        if channel.msgtype not in self._schemas:
            content = struct.pack("<H", len(self._schemas) + 1) + _text(channel.msgtype)
            content += _text(channel.encoding) + _text(channel.definition)
            self._schemas[channel.msgtype] = _record(0x03, content)
            self._chunk.body.write(self._schemas[channel.msgtype])
        schema_id = list(self._schemas).index(channel.msgtype) + 1
        number = len(self._channels)
        content = struct.pack("<HH", number, schema_id) + _text(channel.topic) + _text("cdr")
        self._channels.append(_record(0x04, content + _text_map(channel.metadata)))
        self._chunk.body.write(self._channels[-1])
        self.counts.append(0)
        return number

    def write(self, channel: int, stamp_ns: int, data: bytes | memoryview) -> None:
        """Add one serialised message."""
        chunk = self._chunk
        chunk.index.setdefault(channel, []).append((stamp_ns, chunk.body.tell()))
        chunk.start, chunk.end = min(chunk.start, stamp_ns), max(chunk.end, stamp_ns)
        head = struct.pack("<BQHIQQ", 0x05, 22 + len(data), channel, self.counts[channel], stamp_ns, stamp_ns)
        chunk.body.write(head)
        chunk.body.write(data)
        self.counts[channel] += 1
        if chunk.body.tell() >= _CHUNK_BYTES or time.monotonic() - chunk.begun > _CHUNK_S:
            self.flush()

    def flush(self) -> None:
        """Write out what was collected."""
        chunk, self._chunk = self._chunk, _Chunk()
        body = chunk.body.getbuffer()
        if not len(body):
            return
        start = chunk.start if chunk.index else 0
        head = struct.pack("<QQQI", start, chunk.end, len(body), zlib.crc32(body)) + _text("")
        head += struct.pack("<Q", len(body))
        chunk_at = self._at
        self._put(struct.pack("<BQ", 0x06, len(head) + len(body)) + head)
        self._put(body)
        chunk_length, index_at, offsets = self._at - chunk_at, self._at, b""
        for channel, entries in chunk.index.items():
            offsets += struct.pack("<HQ", channel, self._at)
            packed = b"".join(struct.pack("<QQ", *entry) for entry in entries)
            self._put(_record(0x07, struct.pack("<H", channel) + _text(packed)))
        if chunk.index:
            self.start, self.end = min(self.start, chunk.start), max(self.end, chunk.end)
        content = struct.pack("<QQQQ", start, chunk.end, chunk_at, chunk_length) + _text(offsets)
        content += (
            struct.pack("<Q", self._at - index_at) + _text("") + struct.pack("<QQ", len(body), len(body))
        )
        self._chunk_index.append(_record(0x08, content))

    def close(self) -> None:
        """Write out the rest, the index and the footer."""
        if self._file.closed:
            return
        self.flush()
        self._put(_record(0x0F, struct.pack("<I", 0)))
        summary_at = self._at
        groups = []
        for opcode, records in (
            (3, list(self._schemas.values())),
            (4, self._channels),
            (8, self._chunk_index),
        ):
            groups.append((opcode, self._at))
            self._put(b"".join(records))
        groups.append((11, self._at))
        self._put(self._statistics())
        ends = [at for _, at in groups[1:]] + [self._at]
        offsets_at = self._at
        for (opcode, at), end in zip(groups, ends, strict=True):
            if end > at:
                self._put(_record(0x0E, struct.pack("<BQQ", opcode, at, end - at)))
        self._put(_record(0x02, struct.pack("<QQI", summary_at, offsets_at, 0)) + MAGIC)
        self._file.close()

    def _statistics(self) -> bytes:
        counts = b"".join(struct.pack("<HQ", k, n) for k, n in enumerate(self.counts))
        total = sum(self.counts)
        sizes = (len(self._schemas), len(self._channels), 0, 0, len(self._chunk_index))
        content = struct.pack("<QHIIII", total, *sizes)
        content += struct.pack("<QQ", self.start if total else 0, self.end) + _text(counts)
        return _record(0x0B, content)

    def _put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while len(view):  # an unbuffered file may take less than all
            written = self._file.write(view)
            view = view[written or 0 :]
        self._at += len(data)
