# SPDX-License-Identifier: Apache-2.0
"""MCAP files: a writer that loses at most the last chunk, and a scan that reads files cut off anywhere.

rosbags reads complete files well and needs their index to do so; a recording that was interrupted has
none. Every chunk written here is on its way to the disk before the next begins and holds whole messages
with their schemas, so what is there can be read back by ``scan_mcap``, Foxglove and ``mcap recover``.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAGIC = b"\x89MCAP0\r\n"
_CHUNK_BYTES = 1 << 20
_MAX_EXPANSION = 1 << 31


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
        if chunk.body.tell() >= _CHUNK_BYTES:
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


class _Cursor:
    """Read a record's fields in order; going past its end is an error."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data, self.at = memoryview(data), 0

    def take(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.data):
            raise EOFError("the record is shorter than its fields")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, code: str) -> int:
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        return str(self.take(self.number("I")), "utf-8", "replace")

    def text_map(self) -> dict[str, str]:
        inner, values = _Cursor(self.take(self.number("I"))), {}
        while inner.at < len(inner.data):
            key = inner.text()
            values[key] = inner.text()
        return values


def scan_mcap(path: Path) -> Iterator[McapChannel | tuple[McapChannel, int, bytes]]:
    """Yield the channels and messages of a file in the order they were written, up to where it breaks off.

    Yields:
        Every channel once, before its messages; (channel, stamp in ns, serialised message).

    Raises:
        ValueError: it is not an MCAP file.
        EOFError: after the last readable message, where the file is cut off or damaged.
    """
    with path.open("rb") as file:
        if file.read(8) != MAGIC:
            raise ValueError("this is not an MCAP file: its first bytes are not MCAP's")
        state = _ScanState()
        for opcode, content in _records(file):
            if opcode == 0x06:
                yield from state.chunk(content)
            elif opcode == 0x0F:
                return
            else:
                yield from state.record(opcode, content)
        raise EOFError("the file ends before its end mark")


def _records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    n_bytes = os.fstat(file.fileno()).st_size
    while head := file.read(9):
        if len(head) < 9:
            raise EOFError("the file ends inside a record")
        opcode, size = struct.unpack("<BQ", head)
        content = file.read(min(size, n_bytes))  # a damaged size must not decide what is allocated
        if len(content) < size:
            if opcode == 0x06:  # an uncompressed chunk is readable up to the cut
                yield opcode, content
            raise EOFError("the file ends inside a record")
        yield opcode, content


class _ScanState:
    def __init__(self) -> None:
        self.schemas: dict[int, tuple[str, str, str]] = {}
        self.channels: dict[int, McapChannel] = {}

    def record(
        self, opcode: int, content: bytes | memoryview
    ) -> Iterator[McapChannel | tuple[McapChannel, int, bytes]]:
        cursor = _Cursor(content)
        if opcode == 0x03:
            number = cursor.number("H")
            self.schemas[number] = (cursor.text(), cursor.text(), cursor.text())
        elif opcode == 0x04:
            number, schema = cursor.number("H"), cursor.number("H")
            topic, _encoding = cursor.text(), cursor.text()
            name, encoding, definition = self.schemas.get(schema, ("", "", ""))
            channel = McapChannel(topic, name, definition, encoding, cursor.text_map())
            if self.channels.get(number) != channel:
                self.channels[number] = channel
                yield channel
        elif opcode == 0x05:
            number, _sequence = cursor.number("H"), cursor.number("I")
            stamp_ns, _published = cursor.number("Q"), cursor.number("Q")
            if number in self.channels:
                yield self.channels[number], stamp_ns, bytes(cursor.data[cursor.at :])

    def chunk(self, content: bytes) -> Iterator[McapChannel | tuple[McapChannel, int, bytes]]:
        cursor = _Cursor(content)
        cursor.take(16)
        size, crc = cursor.number("Q"), cursor.number("I")
        compression, packed_size = cursor.text(), cursor.number("Q")
        packed = cursor.data[cursor.at : cursor.at + packed_size]
        body = _expand(packed, compression, size) if len(packed) == packed_size or not compression else b""
        if len(packed) == packed_size and crc and zlib.crc32(body) != crc:
            raise EOFError("a chunk's checksum is wrong")
        inner = _Cursor(body)
        while inner.at < len(inner.data):
            opcode, length = inner.number("B"), inner.number("Q")
            yield from self.record(opcode, inner.take(length))


def _expand(packed: memoryview, compression: str, size: int) -> bytes | memoryview:
    if not compression:
        return packed
    if size > _MAX_EXPANSION:
        raise EOFError(f"a chunk claims to expand to {size} bytes")
    try:
        if compression == "lz4":
            from lz4.frame import decompress

            return decompress(bytes(packed))
        if compression == "zstd":
            try:
                from compression import zstd  # Python 3.14
            except ImportError:
                from backports import zstd
            return zstd.decompress(bytes(packed))
    except Exception as error:  # each library raises its own, undocumented types
        raise EOFError(f"a chunk cannot be expanded: {error}") from error
    raise EOFError(f"a chunk is compressed by '{compression}', which is not known")
