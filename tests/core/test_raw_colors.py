# SPDX-License-Identifier: Apache-2.0
"""Pictures as sensors deliver them: mosaics and YUV."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pc_perception.io.rgbd import color_image

pytest.importorskip("cv2", reason="OpenCV converts them: pip install 'pc_perception[calibration]'")

MOSAICS = [f"bayer_{p}{bits}" for p in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)]
HEIGHT, WIDTH = 24, 34


def picture(data: np.ndarray, encoding: str, pad: int = 5, big_endian: bool = False) -> SimpleNamespace:
    rows = np.ascontiguousarray(data).reshape(len(data), -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, pad)))
    return SimpleNamespace(
        height=data.shape[0], width=data.shape[1], encoding=encoding, step=padded.shape[1],
        is_bigendian=big_endian, data=padded.tobytes(),
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_a_scene_of_one_colour_in_yuv_comes_out_as_it_is(encoding: str) -> None:
    y, u, v = 82, 90, 240  # red, by ITU-R BT.601
    luma_at = 0 if "yuy" in encoding else 1
    data = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    data[..., luma_at] = y
    data[:, ::2, 1 - luma_at], data[:, 1::2, 1 - luma_at] = u, v
    assert np.abs(color_image(picture(data, encoding)).astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("encoding", MOSAICS)
def test_a_scene_of_one_colour_comes_out_as_it_is(encoding: str) -> None:
    color = np.array([200, 90, 17])
    pattern = np.array(["rgb".index(c) for c in encoding[6:10]]).reshape(2, 2)
    mosaic = color[np.tile(pattern, (HEIGHT // 2, WIDTH // 2))]
    wide = encoding.endswith("16")
    for big_endian in (False, True) if wide else (False,):
        order = ">" if big_endian else "<"
        data = (mosaic * 256 + 77).astype(f"{order}u2") if wide else mosaic.astype(np.uint8)
        assert (color_image(picture(data, encoding, big_endian=big_endian)) == color).all()


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(ValueError, match="5 pixels cannot be 'yuyv'"):
        color_image(picture(np.zeros((4, 5, 2), np.uint8), "yuyv"))
    with pytest.raises(ValueError, match="bayer_grbg16"):
        color_image(picture(np.zeros((4, 4), np.uint8), "nv21"))
