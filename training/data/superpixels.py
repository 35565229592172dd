# SPDX-License-Identifier: Apache-2.0
"""SLIC superpixels: Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", 2012.

Parameters mean what they mean in scikit-image, which SLidR uses; segments differ in details (seeds, ties).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

ITERATIONS = 10
_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def slic(rgb: NDArray[np.uint8], n_segments: int, compactness: float, sigma: float) -> NDArray[np.uint8]:
    """Cut a picture into about ``n_segments`` connected segments of similar colour.

    Args:
        rgb: (H, W, 3).
        n_segments: at most 200.
        compactness: weight of distance against that of colour (CIE Lab).
        sigma: of the Gaussian blur before, pixels.

    Returns:
        (H, W) segment of each pixel, numbered from 0 without gaps.

    Raises:
        ValueError: more segments than a byte can number.
    """
    from scipy.ndimage import gaussian_filter

    if not 1 <= n_segments <= 200:
        raise ValueError(f"n_segments must lie in 1 .. 200, got {n_segments}")
    height, width = rgb.shape[:2]
    step = np.sqrt(height * width / n_segments)
    rows, columns = max(round(height / step), 1), max(round(width / step), 1)
    lab = lab_of(gaussian_filter(rgb.astype(np.float32), (sigma, sigma, 0)))
    y = (np.arange(rows) + 0.5) * height / rows
    x = (np.arange(columns) + 0.5) * width / columns
    seeds = np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)
    found = _cluster(np.ascontiguousarray(lab), seeds, float(step), float(compactness), ITERATIONS)
    return _connect(found, int(step * step / 2)).astype(np.uint8)


def lab_of(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert (..., 3) sRGB 0 .. 255 to CIE Lab (D65)."""
    c = rgb.astype(np.float64) / 255
    linear = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    t = linear @ _XYZ.T / _WHITE
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)


@njit(cache=True, nogil=True)
def _cluster(lab, seeds, step, compactness, iterations):  # type: ignore[no-untyped-def]
    """k-means in which every centre looks at pixels within ``step`` of it along each axis."""
    height, width, _ = lab.shape
    n = len(seeds)
    center = np.empty((n, 5))
    for k in range(n):
        y, x = int(seeds[k, 0]), int(seeds[k, 1])
        center[k, 0], center[k, 1] = seeds[k, 0], seeds[k, 1]
        for c in range(3):
            center[k, 2 + c] = lab[y, x, c]
    owner = np.zeros((height, width), np.int64)
    for _ in range(iterations):
        best = np.full((height, width), np.inf)
        for k in range(n):
            cy, cx = center[k, 0], center[k, 1]
            for y in range(max(int(cy - step), 0), min(int(cy + step) + 1, height)):
                for x in range(max(int(cx - step), 0), min(int(cx + step) + 1, width)):
                    color = 0.0
                    for c in range(3):
                        color += (lab[y, x, c] - center[k, 2 + c]) ** 2
                    far = ((y - cy) ** 2 + (x - cx) ** 2) / step**2
                    d = color / compactness**2 + far
                    if d < best[y, x]:
                        best[y, x], owner[y, x] = d, k
        total, count = np.zeros((n, 5)), np.zeros(n)
        for y in range(height):
            for x in range(width):
                k = owner[y, x]
                count[k] += 1
                total[k, 0] += y
                total[k, 1] += x
                for c in range(3):
                    total[k, 2 + c] += lab[y, x, c]
        for k in range(n):
            if count[k] > 0:
                center[k] = total[k] / count[k]
    return owner


@njit(cache=True, nogil=True)
def _connect(owner, least):  # type: ignore[no-untyped-def]
    """Number connected pieces; one smaller than ``least`` joins the piece before it."""
    height, width = owner.shape
    out = np.full((height, width), -1, np.int64)
    stack = np.empty((height * width, 2), np.int64)
    n = 0
    for y0 in range(height):
        for x0 in range(width):
            if out[y0, x0] >= 0:
                continue
            before = -1  # a piece that touches this one
            if x0 > 0:
                before = out[y0, x0 - 1]
            elif y0 > 0:
                before = out[y0 - 1, x0]
            stack[0, 0], stack[0, 1] = y0, x0
            out[y0, x0] = n
            size, i = 1, 0
            while i < size:
                for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                    y, x = stack[i, 0] + dy, stack[i, 1] + dx
                    if 0 <= y < height and 0 <= x < width and out[y, x] < 0 and owner[y, x] == owner[y0, x0]:
                        out[y, x] = n
                        stack[size, 0], stack[size, 1] = y, x
                        size += 1
                i += 1
            if size < least and before >= 0:
                for i in range(size):
                    out[stack[i, 0], stack[i, 1]] = before
            else:
                n += 1
    return out
