# SPDX-License-Identifier: Apache-2.0
"""Random crops, flips and masks of pictures whose points go with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .cameras import Camera, Pixels

PATCH = 16
"""Edge of the squares that masking takes out, pixels."""


@dataclass(frozen=True)
class CropSettings:
    """How pictures are cropped (CMCR's and SLidR's values).

    Attributes:
        height, width: pixels of the result.
        area: share of the picture, (low, high).
        aspect: width / height, (low, high).
        flip: chance to mirror left and right.
        least_pairs, least_share: a crop that keeps neither more points nor a larger share is drawn anew ...
        tries: ... this often; the best one stays.
    """

    height: int = 224
    width: int = 416
    area: tuple[float, ...] = (0.3, 1.0)
    aspect: tuple[float, ...] = (14 / 9, 17 / 9)
    flip: float = 0.5
    least_pairs: int = 1024
    least_share: float = 0.75
    tries: int = 10

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        for name, (low, high) in (("area", (0.0, 1.0)), ("aspect", (0.1, 10.0))):
            pair = getattr(self, name)
            if len(pair) != 2 or not low < pair[0] <= pair[1] <= high:
                raise ValueError(
                    f"crop.{name} must be two numbers in {low} .. {high}, low and high; got {pair}"
                )
        if self.height < PATCH or self.width < PATCH or self.tries < 1:
            raise ValueError(f"crop.height and width must be at least {PATCH}, tries at least 1")


@dataclass(frozen=True)
class Crop:
    """A cut out of one picture and the points that it shows.

    Attributes:
        rgb: (H, W, 3) uint8.
        segments: (H, W) uint8, the superpixel of each pixel; None where none were asked for.
        point: (P,) int64 rows of the cloud.
        pixel: (P, 2) int64, (v, u).
        depth: (P,) float32 metres.
    """

    rgb: NDArray[np.uint8]
    segments: NDArray[np.uint8] | None
    point: NDArray[np.int64]
    pixel: NDArray[np.int64]
    depth: NDArray[np.float32]


def draw_box(pixels: Pixels, size: tuple[int, int], how: CropSettings, rng: Generator) -> NDArray[np.float32]:
    """Draw the part of a picture of ``size`` (width, height) that is cut out.

    Returns:
        (4,) left, upper, right, lower as shares of the width and height.
    """
    best, most = np.array([0, 0, 1, 1], np.float32), -1
    for _ in range(how.tries):
        area, aspect = rng.uniform(*how.area), np.exp(rng.uniform(*np.log(how.aspect)))
        # Shares of the picture: aspect counts pixels, so the picture's own comes in.
        stretch = aspect * size[1] / size[0]
        width, height = np.minimum([np.sqrt(area * stretch), np.sqrt(area / stretch)], 1)
        left, upper = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        box = np.array([left, upper, left + width, upper + height], np.float32)
        n = int(inside(pixels.place, box).sum())
        if n > most:
            best, most = box, n
        if n > how.least_pairs or n > how.least_share * len(pixels.point):
            break
    return best


def inside(place: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(P,) bool, True for places (P, 2) within a box."""
    u, v = place.T  # by columns: NumPy's reductions of rows of two take ten times as long
    return (u >= box[0]) & (v >= box[1]) & (u < box[2]) & (v < box[3])


def cut(camera: Camera, pixels: Pixels, how: CropSettings, rng: Generator, superpixels: bool = False) -> Crop:
    """Cut a random part out of a camera's picture, resize it, mirror it perhaps; points follow.

    Raises:
        ValueError: as ``Camera.picture``.
    """
    from PIL import Image

    box, mirrored = draw_box(pixels, camera.size, how, rng), rng.random() < how.flip

    def resized(array: NDArray, filter_: int) -> NDArray:
        edges = box.astype(float) * ((array.shape[1], array.shape[0]) * 2)
        found = np.asarray(
            Image.fromarray(np.asarray(array)).resize((how.width, how.height), filter_, tuple(edges))
        )
        return np.ascontiguousarray(found[:, ::-1]) if mirrored else found

    shown = pixels.select(inside(pixels.place, box))
    uv = (shown.place - box[:2]) / (box[2:] - box[:2]) * (how.width, how.height)
    uv = np.minimum(uv.astype(np.int64), (how.width - 1, how.height - 1))
    if mirrored:
        uv[:, 0] = how.width - 1 - uv[:, 0]
    return Crop(
        rgb=resized(camera.picture(), Image.Resampling.BILINEAR),
        segments=resized(camera.superpixels(), Image.Resampling.NEAREST) if superpixels else None,
        point=shown.point,
        pixel=np.ascontiguousarray(uv[:, ::-1]),
        depth=shown.depth,
    )


def draw_mask(size: tuple[int, int], picture: float, patch: float, rng: Generator) -> NDArray[np.bool_]:
    """Draw which pixels of a picture are hidden.

    Args:
        size: (height, width).
        picture: chance that anything is hidden.
        patch: chance of each whole square of ``PATCH`` pixels then; what is beyond the last one is never hidden.

    Returns:
        (height, width) bool, True where hidden.
    """
    hidden = np.zeros(size, np.bool_)
    if rng.random() < picture:
        rows, columns = size[0] // PATCH, size[1] // PATCH
        squares = rng.random((rows, columns)) < patch
        hidden[: rows * PATCH, : columns * PATCH] = squares.repeat(PATCH, 0).repeat(PATCH, 1)
    return hidden
