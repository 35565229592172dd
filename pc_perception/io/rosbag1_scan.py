# SPDX-License-Identifier: Apache-2.0
"""ROS 1 .bag files that were cut off: connections and messages in file order, without the index."""

from __future__ import annotations

import bz2
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from pc_perception.io.mcap_writer import McapChannel

_MAGIC = b"#ROSBAG V2.0\n"
_MESSAGE, _CHUNK, _CONNECTION = 0x02, 0x05, 0x07


def _header(raw: bytes) -> dict[str, bytes]:
    values, at = {}, 0
    while at + 4 <= len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        name, equals, value = raw[at + 4 : at + 4 + size].partition(b"=")
        if not equals:
            raise EOFError("a record's header is damaged")
        values[name.decode("ascii", "replace")] = value
        at += 4 + size
    return values


def _records(raw: bytes) -> Iterator[tuple[dict[str, bytes], bytes]]:
    """Yield (header, data) of the records in a chunk's bytes."""
    at = 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise EOFError("a chunk ends inside a record")
        (n_head,) = struct.unpack_from("<I", raw, at)
        head = raw[at + 4 : at + 4 + n_head]
        at += 4 + n_head
        if len(head) < n_head or at + 4 > len(raw):
            raise EOFError("a chunk ends inside a record")
        (n_data,) = struct.unpack_from("<I", raw, at)
        data = raw[at + 4 : at + 4 + n_data]
        if len(data) < n_data:
            raise EOFError("a chunk ends inside a record")
        at += 4 + n_data
        yield _header(head), data


def scan_rosbag1(path: Path) -> Iterator[McapChannel | tuple[McapChannel, int, bytes]]:
    """Yield every connection once and (connection, stamp in ns, ROS 1 bytes), up to where the file breaks off.

    Raises:
        ValueError: it is not a ROS 1 bag.
        EOFError: after the last readable message.
    """
    channels: dict[int, McapChannel] = {}
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("this is not a ROS 1 bag (version 2.0)")
        n_bytes = os.fstat(file.fileno()).st_size

        def take() -> bytes:
            size = struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0]
            data = file.read(min(size, n_bytes))
            cut.append(len(data) < size)
            return data

        while file.tell() < n_bytes:
            cut: list[bool] = []
            head, data = take(), take()
            if cut[0]:
                raise EOFError("the file ends inside a record")
            header = _header(head)
            opcode = header.get("op", b"\0")[0]
            records: Iterator[tuple[dict[str, bytes], bytes]] = iter([(header, data)])
            if opcode == _CHUNK:
                records = _records(_expand(data, header.get("compression", b"none")))
            elif cut[1]:
                raise EOFError("the file ends inside a record")
            for record_header, record in records:
                yield from _item(record_header, record, channels)
            if cut[1]:
                raise EOFError("the file ends inside a chunk")


def _item(
    header: dict[str, bytes], data: bytes, channels: dict[int, McapChannel]
) -> Iterator[McapChannel | tuple[McapChannel, int, bytes]]:
    opcode = header.get("op", b"\0")[0]
    if opcode not in (_CONNECTION, _MESSAGE) or len(header.get("conn", b"")) != 4:
        return
    (number,) = struct.unpack("<I", header["conn"])
    if opcode == _CONNECTION and number not in channels:
        detail = _header(data)
        package, _, name = detail.get("type", b"").decode("ascii", "replace").partition("/")
        definition = detail.get("message_definition", b"").decode("utf-8", "replace")
        topic = header.get("topic", b"").decode("utf-8", "replace")
        channels[number] = McapChannel(topic, f"{package}/msg/{name}", definition, "ros2msg", {})
        yield channels[number]
    elif opcode == _MESSAGE and number in channels and len(header.get("time", b"")) == 8:
        sec, nanosec = struct.unpack("<II", header["time"])
        yield channels[number], sec * 10**9 + nanosec, data


def _expand(data: bytes, compression: bytes) -> bytes:
    try:
        if compression == b"bz2":
            return bz2.BZ2Decompressor().decompress(data)  # gives what a cut stream still has
        if compression == b"lz4":
            from lz4.frame import LZ4FrameDecompressor

            return LZ4FrameDecompressor().decompress(data)
    except (OSError, RuntimeError) as error:
        raise EOFError(f"a chunk cannot be expanded: {error}") from error
    return data
