# SPDX-License-Identifier: Apache-2.0
"""Livox's own cloud message (CustomMsg, what its ``msg_*`` launch files record) as a PointCloud2.

Its points lie in the serialised bytes one behind the other, so they are the PointCloud2's data as they are.
Layout: CustomMsg.msg and CustomPoint.msg of livox_ros_driver2, alike in livox_ros_driver (ROS 1) and
livox_interfaces.
"""

from __future__ import annotations

import array
import struct

from pc_perception.io.message_encoding import CloudMessage, Header, PointField, Stamp

_PACKAGES = ("livox_ros_driver2", "livox_ros_driver", "livox_interfaces")
TYPES = tuple(f"{package}/msg/CustomMsg" for package in _PACKAGES)
_POINT = "uint32 offset_time\nfloat32 x\nfloat32 y\nfloat32 z\nuint8 reflectivity\nuint8 tag\nuint8 line\n"
_MESSAGE = "std_msgs/Header header\nuint64 timebase\nuint32 point_num\nuint8 lidar_id\nuint8[3] rsvd\n"
DEFINITIONS = {
    f"{package}/msg/{kind}": text
    for package in _PACKAGES
    for kind, text in (("CustomPoint", _POINT), ("CustomMsg", _MESSAGE + f"{package}/CustomPoint[] points\n"))
}
"""Of these types and their points, by name, as .msg files have them."""
_FIELDS = [
    PointField("offset_time", 0, 6),  # nanoseconds after the first point
    PointField("x", 4, 7),
    PointField("y", 8, 7),
    PointField("z", 12, 7),
    PointField("reflectivity", 16, 2),
    PointField("tag", 17, 2),
    PointField("line", 18, 2),
]
_POINT_BYTES = 19


def custom_msg(raw: bytes, is_ros1: bool = False) -> CloudMessage:
    """Return the cloud of a serialised CustomMsg; the points are copied once.

    Args:
        raw: CDR as in ROS 2 bags and subscriptions, either byte order; or ROS 1's, packed.

    Raises:
        ValueError: the bytes end before the message does, or go on behind it.
    """
    read = _Reader(raw, is_ros1)
    if is_ros1:
        read.number("I")  # seq
    stamp = Stamp(read.number("i"), read.number("I"))
    frame = read.text()
    read.number("Q")  # time of the first point by the sensor's clock: the stamp says it in the driver's
    read.number("I")  # how many points; their sequence says so again
    read.skip(4)  # lidar_id, rsvd
    n_points = read.number("I")
    # In CDR a point begins at a multiple of four bytes; behind the last one nothing has to follow.
    step = _POINT_BYTES if is_ros1 else 20
    padding = step - _POINT_BYTES if n_points else 0
    end = read.at + n_points * step - padding
    if len(raw) < end:
        raise ValueError(
            f"the message is truncated: {n_points} points need {end - read.at} bytes, {len(raw) - read.at} follow"
        )
    if len(raw) > end + 3:  # CDR may fill up the last four bytes
        raise ValueError(
            f"{len(raw) - end} bytes follow the last of {n_points} points: another layout of them?"
        )
    data = array.array("B")
    data.frombytes(memoryview(raw)[read.at : end])
    data.extend(bytes(padding))
    return CloudMessage(
        Header(stamp, frame), 1, n_points, _FIELDS, step, n_points * step, data,
        is_dense=False, is_bigendian=read.big_endian,
    )  # fmt: skip


class _Reader:
    """Numbers and text from a serialised message, each at its alignment."""

    def __init__(self, raw: bytes, is_ros1: bool) -> None:
        if not is_ros1 and len(raw) < 4:
            raise ValueError(f"the message has {len(raw)} bytes, less than the head of any")
        self.raw, self.aligned = raw, not is_ros1
        self.big_endian = not is_ros1 and raw[1] & 1 == 0
        self.at = self.start = 0 if is_ros1 else 4

    def number(self, code: str) -> int:
        """Return the next integer, of a type of ``struct``."""
        size = struct.calcsize(f"={code}")
        if self.aligned:
            self.skip(-(self.at - self.start) % size)
        self.skip(size)
        return struct.unpack_from(f"{'>' if self.big_endian else '<'}{code}", self.raw, self.at - size)[0]

    def text(self) -> str:
        """Return the next string."""
        size = self.number("I")
        self.skip(size)
        return bytes(self.raw[self.at - size : self.at]).rstrip(b"\0").decode(errors="replace")

    def skip(self, n_bytes: int) -> None:
        """Go on."""
        self.at += n_bytes
        if self.at > len(self.raw):
            raise ValueError(f"the message is truncated: {len(self.raw)} bytes end in its head")
