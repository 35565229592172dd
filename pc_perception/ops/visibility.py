# SPDX-License-Identifier: Apache-2.0
"""Which projected points does a camera see, and which are behind others of the same cloud?"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

MAX_HALF_PX = 60.0
"""Half the side of the largest square that one point covers."""


def visible(
    uv: NDArray,
    depth: NDArray,
    half_px: NDArray,
    shape: tuple[int, int],
    slack_m: float = 0.2,
    slack_share: float = 0.03,
) -> NDArray[np.bool_]:
    """Test projected points against a depth buffer of the cloud itself.

    A sparse cloud has gaps through which one would see what stands behind. So every point covers a rectangle,
    as large as the distance to its neighbours, and hides whatever projects into it and is further away.

    Args:
        uv: (N, 2) pixels; NaN and what lies outside of the image are not seen.
        depth: (N,) metres along the optical axis; not positive is not seen.
        half_px: (N, 2) half the sides of each point's rectangle, pixels.
        shape: (height, width) of the image.
        slack_m, slack_share: a point is hidden where another is nearer by more than ``slack_m`` metres and this
            share of its depth, so that slanted surfaces do not hide themselves.

    Returns:
        (N,) bool. O(N times the rectangles' area).

    Raises:
        ValueError: the arrays do not have one row a point.
    """
    n = len(uv)
    if uv.shape != (n, 2) or depth.shape != (n,) or half_px.shape != (n, 2):
        raise ValueError(f"need (N, 2), (N,) and (N, 2), got {uv.shape}, {depth.shape} and {half_px.shape}")
    out = np.zeros(n, np.bool_)
    nearest = np.full(shape, np.inf, np.float32)
    _cover_and_test(
        np.ascontiguousarray(uv, np.float32),
        np.ascontiguousarray(depth, np.float32),
        np.ascontiguousarray(half_px, np.float32),
        nearest,
        np.float32(slack_m),
        np.float32(slack_share),
        out,
    )
    return out


@njit(cache=True, nogil=True)
def _cover_and_test(uv, depth, half_px, nearest, slack_m, slack_share, out):  # type: ignore[no-untyped-def]
    height, width = nearest.shape
    limit = np.float32(MAX_HALF_PX)
    for i in range(len(uv)):
        u, v, z = uv[i, 0], uv[i, 1], depth[i]
        if not (z > 0 and u >= -0.5 and v >= -0.5 and u < width - 0.5 and v < height - 0.5):
            continue
        out[i] = True
        a, b = min(half_px[i, 0], limit), min(half_px[i, 1], limit)
        left, right = max(int(np.rint(u - a)), 0), min(int(np.rint(u + a)), width - 1)
        top, bottom = max(int(np.rint(v - b)), 0), min(int(np.rint(v + b)), height - 1)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                if z < nearest[row, column]:
                    nearest[row, column] = z
    for i in range(len(uv)):
        if out[i]:
            near = nearest[int(np.rint(uv[i, 1])), int(np.rint(uv[i, 0]))]
            out[i] = depth[i] <= near + slack_m + slack_share * depth[i]
