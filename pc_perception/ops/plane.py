# SPDX-License-Identifier: Apache-2.0
"""The one plane that most points of a cloud lie on, close to level: a floor, a road.

RANSAC (Fischler and Bolles, "Random sample consensus", 1981), then least squares over the inliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve

REFITS = 3


@dataclass(frozen=True)
class Plane:
    """Points p with normal . p + offset = 0.

    Attributes:
        normal: (3,) float64, of unit length, on the side of ``up``.
        offset: metres.
        inliers: (N,) bool, the points within the distance.
    """

    normal: Tensor
    offset: float
    inliers: Tensor


def ground_plane(
    xyz: Tensor,
    distance: float = 0.1,
    max_tilt: float = radians(15),
    up: tuple[float, float, float] = (0.0, 0.0, 1.0),
    n_trials: int = 200,
    seed: int = 0,
    backend: str | None = None,
) -> Plane:
    """Find the plane with the most points near it among those that are nearly level.

    Args:
        xyz: (N, 3) float32 or float64, metres, any strides; NaN and Inf are left out.
        distance: how far an inlier may lie from the plane, metres.
        max_tilt: largest angle between its normal and ``up``, radians.
        up: direction, of any length.
        n_trials: planes through three random points; the first of equally good ones wins.
        seed: the same seed gives the same plane, on all backends (to 1e-5).

    Returns:
        ``Plane``. O(N n_trials), no gradient.

    Raises:
        ValueError: fewer than three finite points, no trial within ``max_tilt``, or arguments out of range.
    """
    if not (distance > 0 and 0 < max_tilt <= np.pi / 2 and n_trials > 0):
        raise ValueError(f"distance {distance}, tilt {max_tilt} and {n_trials} trials must be positive")
    finite = torch.isfinite(xyz).all(1)
    points = xyz.detach()[finite].double()
    if len(points) < 3:
        raise ValueError(f"a plane needs three finite points, the cloud has {len(points)}")
    upward = torch.nn.functional.normalize(torch.tensor(up, dtype=torch.float64, device=xyz.device), dim=0)
    # Around their mean float32 tells the points apart even in map coordinates.
    center = points.mean(0)
    near = (points - center).float()
    normals, offsets = _candidates(near, upward, cos(max_tilt), n_trials, seed)
    if not len(normals):
        raise ValueError(
            f"no plane within {max_tilt:.2f} rad of up in {n_trials} trials; check up, or allow more"
        )
    counts = _count(near, normals.float(), offsets.float(), distance, resolve(xyz.device, backend))
    best = int(torch.nonzero(counts == counts.max())[0])
    normal, offset = _refine(
        near.double(), normals[best], float(offsets[best]), distance, upward, cos(max_tilt)
    )
    inliers = torch.zeros(len(xyz), dtype=torch.bool, device=xyz.device)
    inliers[finite] = (near.double() @ normal + offset).abs() <= distance
    return Plane(normal, offset - float(normal @ center), inliers)


def _candidates(
    points: Tensor, up: Tensor, least_cosine: float, n_trials: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Planes (K, 3) and (K,) float64 through three random points each, those too steep left out."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(points), (n_trials, 3), generator=generator).to(points.device)
    a, b, c = points.double()[rows].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    length = normal.norm(dim=1, keepdim=True)
    normal = normal / length.clamp(min=1e-12)
    normal = torch.where((normal @ up)[:, None] < 0, -normal, normal)
    kept = (length[:, 0] > 1e-12) & (normal @ up >= least_cosine)
    return normal[kept], -(normal * a).sum(1)[kept]


def _refine(
    points: Tensor, normal: Tensor, offset: float, distance: float, up: Tensor, least_cosine: float
) -> tuple[Tensor, float]:
    """Fit the inliers by least squares, a few times; stop where the fit would tilt too far."""
    for _ in range(REFITS):
        inliers = points[(points @ normal + offset).abs() <= distance]
        if len(inliers) < 3:
            break
        middle = inliers.mean(0)
        spread = inliers - middle
        values, vectors = torch.linalg.eigh(spread.T @ spread)
        fit = vectors[:, 0] if float(vectors[:, 0] @ up) >= 0 else -vectors[:, 0]
        if float(fit @ up) < least_cosine or float(values[1]) <= 1e-12 * float(values[2]):
            break  # too steep, or all on one line
        normal, offset = fit, -float(fit @ middle)
    return normal, offset


def _count(points: Tensor, normals: Tensor, offsets: Tensor, distance: float, backend: str) -> Tensor:
    """Number (K,) int64 of points within ``distance`` of each plane; same sums, same roundings on all backends."""
    if backend == "numba":
        counts = np.empty(len(normals), np.int64)
        columns = np.ascontiguousarray(points.numpy().T)
        _near(columns, normals.numpy(), offsets.numpy(), np.float32(distance), counts)
        return torch.from_numpy(counts)
    limit32 = float(np.float32(distance))
    if backend == "triton":
        from .gpu.plane import count_near

        found = torch.empty(len(normals), dtype=torch.int64, device=points.device)
        count_near(points.contiguous(), normals.contiguous(), offsets.contiguous(), limit32, found)
        return found
    x, y, z = points.unbind(1)
    each = (
        (((x * n[0] + y * n[1]) + z * n[2]) + d).abs() <= limit32
        for n, d in zip(normals, offsets, strict=True)
    )
    return torch.stack([near.sum() for near in each])


@njit(cache=True, nogil=True)
def _near(columns, planes, shifts, limit, counts):  # type: ignore[no-untyped-def]
    x, y, z = columns[0], columns[1], columns[2]
    for k in range(len(planes)):
        u, v, w, d = planes[k, 0], planes[k, 1], planes[k, 2], shifts[k]
        total = 0
        for i in range(len(x)):
            total += abs(x[i] * u + y[i] * v + z[i] * w + d) <= limit
        counts[k] = total
