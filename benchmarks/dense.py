# SPDX-License-Identifier: Apache-2.0
"""Voxels (A4), range images (A5) and Chamfer distances (A9) against what people use today.

Rows of ``python -m benchmarks ops``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import numpy as np
import torch

from benchmarks.harness import Case, Round, installed
from pc_perception.ops.chamfer import chamfer_distance
from pc_perception.ops.parallel import team
from pc_perception.ops.range_image import RangeImage, range_image
from pc_perception.ops.voxelize import Voxels, voxelize

ELEVATION = (-0.45, 0.2)


def sweep(rng: np.random.Generator, n_beams: int, n_azimuths: int) -> np.ndarray:
    """One turn of a spinning sensor 1.8 m above a road between facades: (N, 3) float32 in scan order."""
    azimuth = np.linspace(-pi, pi, n_azimuths, endpoint=False) + rng.uniform(0, 2 * pi / n_azimuths)
    elevation = np.linspace(ELEVATION[0] + 0.01, ELEVATION[1] - 0.01, n_beams)[:, None]
    depth = np.repeat(rng.uniform(4, 60, 40), -(-n_azimuths // 40))[:n_azimuths]
    flat = np.minimum(depth, 1.8 / np.tan(np.maximum(-elevation, 1e-3)))
    flat = flat * rng.normal(1, 0.001, (n_beams, n_azimuths))
    xyz = np.stack(
        np.broadcast_arrays(flat * np.cos(azimuth), flat * np.sin(azimuth), flat * np.tan(elevation)), 2
    )
    return xyz.reshape(-1, 3).astype(np.float32)


def room(rng: np.random.Generator, n: int = 150_000) -> np.ndarray:
    """Points on the six faces of forty boxes in a room of 8 x 6 x 3 m and on the room's own: (N, 3) float32."""
    sizes = np.concatenate([[[8, 6, 3]], rng.uniform(0.3, 1.5, (40, 3))])
    corners = np.concatenate([[[0, 0, 0]], rng.uniform(0, [6.5, 4.5, 1.5], (40, 3))])
    box = rng.choice(41, n, p=np.where(np.arange(41) == 0, 0.5, 0.0125))
    where = rng.random((n, 3))
    where[np.arange(n), rng.integers(0, 3, n)] = rng.integers(0, 2, n)
    return (corners[box] + where * sizes[box]).astype(np.float32)


def _voxels(
    make: Callable[[np.random.Generator], np.ndarray], grid: float, order: str
) -> Callable[[np.random.Generator], Round]:
    def prepare(rng: np.random.Generator) -> Round:
        points = make(rng)
        xyz = torch.from_numpy(points)
        room = Voxels.room(len(xyz))
        room.inverse.fill_(-7)

        def ours() -> Voxels:
            with team():
                return voxelize(xyz, grid, out=room, order=order)

        def by_torch() -> tuple[torch.Tensor, ...]:
            cell = torch.floor(xyz / grid).to(torch.int64)
            cell -= cell.amin(0)
            size = cell.amax(0) + 1
            return torch.unique(
                (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2], return_inverse=True
            )

        def by_numpy() -> tuple[np.ndarray, ...]:
            cell = np.floor(points / np.float32(grid)).astype(np.int64)
            cell -= cell.min(0)
            size = cell.max(0) + 1
            return np.unique((cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2], return_inverse=True)

        def check(voxels: object) -> None:
            assert isinstance(voxels, Voxels)
            cell = torch.floor(xyz.double() / grid).to(torch.int64)
            shift = cell - voxels.coords[voxels.inverse]
            assert bool((shift == shift[0]).all()), "a point is not in its voxel"
            assert len(voxels) == len(torch.unique(cell, dim=0)), "a voxel is missing or double"

        return Round(ours, {"torch.unique": by_torch, "numpy.unique": by_numpy}, check)

    return prepare


def _image(n_beams: int, n_azimuths: int) -> Callable[[np.random.Generator], Round]:
    shape = (n_beams, n_azimuths)

    def prepare(rng: np.random.Generator) -> Round:
        points = sweep(rng, n_beams, n_azimuths)
        xyz = torch.from_numpy(points)

        def ours() -> RangeImage:
            with team():
                return range_image(xyz, shape, ELEVATION)

        def by_sorting() -> np.ndarray:
            """Sort by falling range and let nearer points overwrite, as training code of RangeNet++ does."""
            depth = np.linalg.norm(points, 2, axis=1)
            column = np.floor((1 - np.arctan2(points[:, 1], points[:, 0]) / pi) / 2 * n_azimuths)
            row = np.floor(
                (ELEVATION[1] - np.arcsin(points[:, 2] / depth)) / (ELEVATION[1] - ELEVATION[0]) * n_beams
            )
            column = np.clip(column, 0, n_azimuths - 1).astype(np.int32)
            row = np.clip(row, 0, n_beams - 1).astype(np.int32)
            order = np.argsort(depth)[::-1]
            nearest, index = np.zeros(shape, np.float32), np.full(shape, -1, np.int64)
            nearest[row[order], column[order]] = depth[order]
            index[row[order], column[order]] = order
            return nearest

        def check(image: object) -> None:
            assert isinstance(image, RangeImage)
            same = np.isclose(image.range.numpy(), by_sorting(), atol=1e-4).mean()
            assert same > 0.995, f"only {same:.4f} of the pixels agree"  # borders fall either way in float32

        return Round(ours, {"numpy sort": by_sorting}, check)

    return prepare


def _patches(backward: bool) -> Callable[[np.random.Generator], Round]:
    def prepare(rng: np.random.Generator) -> Round:
        a, b = (torch.from_numpy(rng.random((3328, 32, 3), dtype=np.float32)) for _ in "ab")
        a.requires_grad_(backward)

        def run(distance: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
            def call() -> torch.Tensor:
                a.grad = None
                value = distance()
                if backward:
                    value.backward()
                return value.detach()

            return call

        def by_cdist() -> torch.Tensor:
            square = torch.cdist(a, b).square()
            return square.amin(2).mean() + square.amin(1).mean()

        def by_broadcast() -> torch.Tensor:
            square = (a[:, :, None] - b[:, None]).square().sum(3)
            return square.min(2).values.mean() + square.min(1).values.mean()

        def check(value: object) -> None:
            found = None if a.grad is None else a.grad.clone()
            expected = run(by_broadcast)()
            torch.testing.assert_close(value, expected)
            if found is not None:
                torch.testing.assert_close(found, a.grad)

        return Round(
            run(lambda: chamfer_distance(a, b)),
            {"cdist": run(by_cdist), "broadcast": run(by_broadcast)},
            check,
        )

    return prepare


def _clouds(rng: np.random.Generator) -> Round:
    p, q = (rng.random((8192, 3), dtype=np.float32) for _ in "pq")
    a, b = torch.from_numpy(p), torch.from_numpy(q)
    peers: dict[str, Callable[[], object]] = {}
    if installed("scipy"):
        from scipy.spatial import cKDTree

        def by_scipy() -> float:
            there, back = cKDTree(q).query(p, workers=2)[0], cKDTree(p).query(q, workers=2)[0]
            return float((there**2).mean() + (back**2).mean())

        peers["cKDTree"] = by_scipy
    if installed("open3d"):
        import open3d

        def by_open3d() -> float:
            x, y = (open3d.geometry.PointCloud(open3d.utility.Vector3dVector(t)) for t in (p, q))
            there, back = (np.asarray(u.compute_point_cloud_distance(v)) for u, v in ((x, y), (y, x)))
            return float((there**2).mean() + (back**2).mean())

        peers["open3d"] = by_open3d

    def check(value: object) -> None:
        torch.testing.assert_close(value, chamfer_distance(a, b, backend="torch"))

    return Round(lambda: chamfer_distance(a, b), peers, check)


CASES = [
    *(
        Case("A4", f"{name}, {what}", _voxels(make, grid, order), target, floor)
        for order, what in (("first", "by first point"), ("z", "in Z-order"))
        for name, make, grid, target, floor in (
            ("N32, 5 cm", lambda rng: sweep(rng, 32, 1085), 0.05, 7, 0.04),
            ("N64, 5 cm", lambda rng: sweep(rng, 64, 1875), 0.05, 5, 0.12),
            ("room of 150,000, 2 cm", room, 0.02, 2.5, 0.15),
        )
    ),
    Case("A5", "N32, 32 x 1085", _image(32, 1085), 15, 0.1),
    Case("A5", "N64, 64 x 1875", _image(64, 1875), 20, 0.2),
    Case("A9", "3,328 patches 32 x 32, forward", _patches(False), 5, 0.3),
    Case("A9", "3,328 patches, and backward", _patches(True), 20, 0.3),
    Case("A9", "8,192 x 8,192", _clouds, 2),
]
