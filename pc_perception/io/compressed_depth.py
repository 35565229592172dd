# SPDX-License-Identifier: Apache-2.0
"""Compressed depth images, as image_transport's `compressedDepth` and `compressed` write them.

Layout: compressed_depth_image_transport. ``format`` is ``16UC1; compressedDepth png`` or the like; twelve bytes
(codec, then A and B, two float32) come before the picture. Millimetres are kept as they are, metres as the
whole numbers v of depth = A / (v - B), 0 for none. RVL: Wilson, Fast Lossless Depth Image Compression, 2017.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

MILLIMETRES, METRES = ("16UC1", "mono16"), "32FC1"
MOST_PIXELS, MOST_DEPTHS = 1 << 26, 1 << 24
"""More are refused before there is memory for them: a damaged head can say anything."""
_HEAD = struct.Struct("<iff")
_SIZE = struct.Struct("<II")


@dataclass
class DepthMessage:
    """The attributes of sensor_msgs/Image."""

    header: Any
    height: int
    width: int
    encoding: str
    step: int
    data: NDArray[np.uint8]
    is_bigendian: bool = False


def depth_encoding(msg: Any) -> str:
    """Return the encoding of an Image or CompressedImage of depth; nothing where it is none."""
    encoding, words = _format_of(msg)
    is_lossless = hasattr(msg, "encoding") or "compressedDepth" in words or "png" in words
    return encoding if encoding in (*MILLIMETRES, METRES) and is_lossless else ""


def uncompressed_depth(msg: Any) -> Any:
    """Return the depth Image of a CompressedImage; where it is an Image already, itself.

    Raises:
        ValueError: it is no depth, or damaged.
    """
    if hasattr(msg, "encoding"):
        return msg
    encoding, words = _format_of(msg)
    data = bytes(msg.data)
    if not depth_encoding(msg) or (encoding == METRES and "compressedDepth" not in words):
        raise ValueError(f"the format '{msg.format}' is none of depth, such as '16UC1; compressedDepth png'")
    A = B = 0.0
    if "compressedDepth" in words:
        if len(data) < _HEAD.size:
            raise ValueError(f"the compressed depth has {len(data)} bytes, less than its head")
        _, A, B = _HEAD.unpack_from(data)
        data = data[_HEAD.size :]
    values = _read_rvl(data) if "rvl" in words else _read_png(data)
    if encoding == METRES:
        if not (A > 0 and np.isfinite([A, B]).all()):
            raise ValueError(f"the compressed depth says A {A:g} and B {B:g}; A must be positive")
        with np.errstate(divide="ignore", over="ignore"):
            values = np.where(
                values > max(B, 0), np.float32(A) / (values - np.float32(B)), np.float32(np.nan)
            )
    pixels = np.ascontiguousarray(values, np.float32 if encoding == METRES else np.uint16)
    height, width = pixels.shape
    return DepthMessage(
        msg.header, height, width, encoding, width * pixels.itemsize, pixels.reshape(-1).view(np.uint8)
    )


def _format_of(msg: Any) -> tuple[str, list[str]]:
    """Return what a picture is of, and the words on how it is compressed."""
    if hasattr(msg, "encoding"):
        return msg.encoding, []
    encoding, _, rest = msg.format.partition(";")
    return encoding.strip(), rest.split()


@contextmanager
def opened(data: bytes, most_pixels: int = MOST_PIXELS) -> Iterator[Any]:
    """Open a picture of at most so many pixels with Pillow.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: it cannot be decoded.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("compressed images need Pillow: pip install pillow") from error
    too_large = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(BytesIO(data)) as picture:
            if picture.width * picture.height > most_pixels:
                raise ValueError(f"it says that it has {picture.width} x {picture.height} pixels")
            yield picture
    except UnidentifiedImageError as error:
        raise ValueError(
            f"the compressed image cannot be decoded: its {len(data)} bytes are no picture"
        ) from error
    except (OSError, ValueError, SyntaxError, *too_large) as error:  # SyntaxError: a broken PNG, says Pillow
        raise ValueError(f"the compressed image cannot be decoded: {error}") from error


def _read_png(data: bytes) -> NDArray[np.uint16]:
    with opened(data, MOST_DEPTHS) as picture:
        if not picture.mode.startswith("I"):
            raise ValueError(f"its pixels are '{picture.mode}', not 16 bits of grey")
        return np.asarray(picture).astype(np.uint16)


def _read_rvl(data: bytes) -> NDArray[np.uint16]:
    if len(data) < _SIZE.size:
        raise ValueError("the compressed depth ends before its size")
    width, height = _SIZE.unpack_from(data)
    words = np.frombuffer(data, "<u4", (len(data) - _SIZE.size) // 4, _SIZE.size)
    if not 0 < width * height <= MOST_DEPTHS:
        raise ValueError(f"the compressed depth says {width} x {height} pixels in {len(data)} bytes")
    values = np.zeros(width * height, np.uint16)
    if not _unpack_rvl(words, values):
        raise ValueError("the compressed depth is truncated or damaged")
    return values.reshape(height, width)


@njit(cache=True, nogil=True)
def _next_number(words: np.ndarray, place: int) -> tuple[int, int]:
    """Return the number of variable length at the nibble ``place`` (-1: none), and the place behind it."""
    value, shift = 0, 0
    while place < 8 * len(words) and shift < 30:
        nibble = (words[place >> 3] >> np.uint32(28 - 4 * (place & 7))) & np.uint32(15)
        place += 1
        value |= int(nibble & np.uint32(7)) << shift
        shift += 3
        if nibble < 8:
            return value, place
    return -1, place


@njit(cache=True, nogil=True)
def _unpack_rvl(words: np.ndarray, values: np.ndarray) -> bool:
    """Fill (P,) uint16 zeros with the runs of ``words``: how many zeros, how many others, their differences."""
    done, place, previous = 0, 0, 0
    while done < len(values):
        zeros, place = _next_number(words, place)
        others, place = _next_number(words, place)
        if zeros < 0 or others < 0 or zeros + others == 0 or done + zeros + others > len(values):
            return False
        done += zeros
        for _ in range(others):
            folded, place = _next_number(words, place)
            if folded < 0:
                return False
            previous += -(folded + 1 >> 1) if folded & 1 else folded >> 1
            values[done] = previous
            done += 1
    return True
