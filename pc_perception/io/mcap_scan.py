# SPDX-License-Identifier: Apache-2.0
"""Read MCAP files from start to end without their index: recordings that were cut off or interrupted.

rosbags reads complete files well and needs the index, which comes last, to do so.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pc_perception.io.mcap_writer import MAGIC, McapChannel

_MAX_EXPANSION = 1 << 31


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
