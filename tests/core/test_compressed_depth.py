# SPDX-License-Identifier: Apache-2.0
"""Compressed depth, packed as image_transport packs it: the same clouds as of raw depth."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pc_perception.cli import main
from pc_perception.io.bags import BagReader, BagWriter
from pc_perception.io.compressed_depth import depth_encoding, uncompressed_depth
from pc_perception.io.image_messages import fill_camera_info, fill_image
from pc_perception.io.message_types import new_message
from pc_perception.io.rgbd import depth_image

FAR_M, QUANTIZATION = 10.0, 100.0


def png(values: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def rvl(values: np.ndarray) -> bytes:
    """Pack (H, W) uint16 by the paper's scheme, number by number."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while True:
            nibble, number = number & 7, number >> 3
            nibbles.append(nibble | (8 if number else 0))
            if not number:
                return

    flat, i, previous = values.ravel().astype(int), 0, 0
    while i < len(flat):
        zeros = next((k for k, v in enumerate(flat[i:]) if v), len(flat) - i)
        i += zeros
        others = next((k for k, v in enumerate(flat[i:]) if not v), len(flat) - i)
        put(zeros)
        put(others)
        for value in flat[i : i + others]:
            step, previous = value - previous, value
            put(2 * step if step >= 0 else -2 * step - 1)
        i += others
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        sum(n << (28 - 4 * k) for k, n in enumerate(nibbles[j : j + 8])) for j in range(0, len(nibbles), 8)
    ]
    return struct.pack(f"<II{len(words)}I", values.shape[1], values.shape[0], *words)


def packed(values: np.ndarray, codec: str = "png", name: str | None = None) -> Any:
    """Return the CompressedImage of uint16 millimetres or float32 metres, as the transport makes it."""
    A = B = 0.0
    encoding = "16UC1"
    if values.dtype == np.float32:  # inverse depth, as finely as the square of the distance allows
        encoding = "32FC1"
        A = QUANTIZATION * (QUANTIZATION + 1)
        B = 1 - A / FAR_M
        valid = np.isfinite(values) & (values < FAR_M)
        values = np.where(valid, A / np.where(valid, values, 1) + B, 0).astype(np.uint16)
    msg = new_message("sensor_msgs/msg/CompressedImage")
    data = struct.pack("<iff", 0, A, B) + (rvl(values) if codec == "rvl" else png(values))
    msg.format = f"{encoding}; compressedDepth {codec}" if name is None else name
    msg.data = np.frombuffer(data, np.uint8)
    return msg


def some_depth(seed: int = 0, height: int = 24, width: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    depth = np.rint(2000 + 900 * np.sin(np.arange(height * width) / 90)).reshape(height, width)
    depth[rng.random(depth.shape) < 0.2] = 0
    return depth.astype(np.uint16)


@pytest.mark.parametrize(
    ("codec", "name"),
    [("png", None), ("rvl", None), ("png", "16UC1; compressedDepth"), ("png", "mono16; compressedDepth png")],
)
def test_millimetres_come_back_as_they_were(codec: str, name: str | None) -> None:
    depth = some_depth()
    msg = packed(depth, codec, name)
    assert depth_encoding(msg) in ("16UC1", "mono16")
    assert np.array_equal(depth_image(uncompressed_depth(msg)), depth.astype(np.float32) * np.float32(0.001))


def test_metres_come_back_as_finely_as_they_are_kept() -> None:
    metres = some_depth().astype(np.float32) / 1000
    metres[metres == 0] = np.nan
    for codec in ("png", "rvl"):
        found = depth_image(uncompressed_depth(packed(metres, codec)))
        assert np.array_equal(np.isnan(found), np.isnan(metres))
        step = metres**2 / (QUANTIZATION * (QUANTIZATION + 1))
        assert (np.abs(found - metres) <= step * 1.05)[~np.isnan(metres)].all()


def test_the_other_transport_has_no_head() -> None:
    depth, msg = some_depth(), new_message("sensor_msgs/msg/CompressedImage")
    msg.format, msg.data = "16UC1; png compressed ", np.frombuffer(png(depth), np.uint8)
    assert np.array_equal(depth_image(uncompressed_depth(msg)), depth.astype(np.float32) * np.float32(0.001))
    color = SimpleNamespace(format="rgb8; jpeg compressed bgr8", data=b"")
    assert depth_encoding(color) == ""
    with pytest.raises(ValueError, match="none of depth"):
        uncompressed_depth(color)


@settings(deadline=None)  # kernels are compiled, large pictures allocated
@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 6), st.integers(1, 40))))
def test_rvl_is_lossless(values: np.ndarray) -> None:
    found = uncompressed_depth(packed(values, "rvl"))
    assert np.array_equal(found.data.view(np.uint16).reshape(values.shape), values)


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_damage_is_told(codec: str) -> None:
    msg = packed(some_depth(), codec)
    whole = bytes(msg.data)
    for data in (b"", whole[:11], whole[:14], whole[:60], whole[:12] + b"\xff" * 40):
        msg.data = np.frombuffer(data, np.uint8)
        with pytest.raises(ValueError, match="compressed"):
            uncompressed_depth(msg)


@settings(deadline=None)  # kernels are compiled, large pictures allocated
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for encoding in ("16UC1", "32FC1"):
        for words in ("compressedDepth rvl", "compressedDepth png"):
            msg = SimpleNamespace(format=f"{encoding}; {words}", data=data, header=None)
            with suppress(ValueError):
                uncompressed_depth(msg)


@settings(deadline=None)  # kernels are compiled, large pictures allocated
@given(st.integers(8, 40), st.binary(min_size=1, max_size=4))
def test_damaged_heads_of_pictures_are_read_or_refused(place: int, data: bytes) -> None:
    """The sizes among them: a picture may say that it has more pixels than there is memory for."""
    whole = bytearray(png(some_depth()))
    whole[place : place + len(data)] = data
    crc = zlib.crc32(bytes(whole[12:29])).to_bytes(4, "big")
    whole[29:33] = crc
    msg = SimpleNamespace(format="16UC1; compressedDepth png", data=bytes(12) + bytes(whole), header=None)
    with suppress(ValueError):
        uncompressed_depth(msg)


def test_a_picture_of_too_many_pixels_is_refused() -> None:
    whole = bytearray(png(some_depth()))
    whole[16:24] = struct.pack(">II", 40_000, 40_000)
    whole[29:33] = zlib.crc32(bytes(whole[12:29])).to_bytes(4, "big")
    huge = struct.pack("<iffII", 0, 0, 0, 1 << 13, 1 << 13)
    for data, codec in ((bytes(12) + bytes(whole), "png"), (huge, "rvl")):
        msg = SimpleNamespace(format=f"16UC1; compressedDepth {codec}", data=data, header=None)
        with pytest.raises(ValueError, match="compressed"):
            uncompressed_depth(msg)


def test_a_recording_of_nothing_but_compressed_images_is_labelled(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    K = np.array([[40.0, 0, 16], [0, 40.0, 12], [0, 0, 1]])
    colors = rng.integers(0, 255, (24, 32, 3), np.uint8)
    with BagWriter(tmp_path / "camera.mcap") as bag:
        for k in range(3):
            stamp = 10**9 * (k + 1)
            info = fill_camera_info(new_message("sensor_msgs/msg/CameraInfo"), K, 32, 24, "cam", stamp)
            bag.write("/depth/camera_info", "sensor_msgs/msg/CameraInfo", info, stamp)
            picture = packed(some_depth(k), "rvl" if k == 2 else "png")
            picture.header = info.header
            if k == 0:
                picture.data = picture.data[:50]  # costs itself alone
            bag.write("/depth/image/compressedDepth", "sensor_msgs/msg/CompressedImage", picture, stamp)
            color = png(colors)[: 20 if k == 0 else None]
            bag.write_compressed_image("/color/image/compressed", color, "cam", stamp, "png")
    with BagReader(tmp_path / "camera.mcap") as bag:
        assert bag.default_topic() == "/depth/image/compressedDepth"
        clouds = [cloud for _, cloud in bag.clouds()]
        assert len(bag.left_out) == 1
    assert [cloud.grid_shape for cloud in clouds] == [(24, 32)] * 2
    assert np.array_equal(
        np.nan_to_num(clouds[0].xyz[:, 2]).reshape(24, 32), some_depth(1) * np.float32(0.001)
    )
    assert np.array_equal(clouds[0].fields["rgb"], colors.reshape(-1, 3))
    out = tmp_path / "labelled.mcap"
    arguments = ["segment", str(tmp_path / "camera.mcap"), "--out", str(out), "--model", str(model_path)]
    assert main(arguments) == 1
    assert "1 of 3 messages were left out" in capsys.readouterr().err
    with BagReader(out) as bag:
        assert len(list(bag.clouds())) == 2


def test_raw_depth_is_taken_where_both_are_there(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "camera.mcap") as bag:
        raw = fill_image(new_message("sensor_msgs/msg/Image"), some_depth(), "cam", 1)
        bag.write("/depth/image", "sensor_msgs/msg/Image", raw, 1)
        bag.write("/depth/image/compressedDepth", "sensor_msgs/msg/CompressedImage", packed(some_depth()), 1)
    with BagReader(tmp_path / "camera.mcap") as bag:
        assert bag.default_topic() == "/depth/image"
