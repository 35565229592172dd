# SPDX-License-Identifier: Apache-2.0
"""Neighbour search (A6), farthest point sampling (A7) and point tokens (A8) against other packages.

Rows of ``python -m benchmarks ops``. Peers are taken when they can be
imported: scipy, pykdtree, small_gicp for neighbours, fpsample at h = 3, 5, 7, 9 for sampling. Every
round checks ours against the reference on that round's scene; see ``harness`` for how a ratio is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Case, Round, installed
from pc_perception.ops.neighbors import k_nearest
from pc_perception.ops.sampling import farthest_point_sampling

HEIGHTS = (3, 5, 7, 9)
THREADS = 2


def sweep(rng: np.random.Generator, n_beams: int, n_azimuths: int) -> NDArray[np.float32]:
    """Return the points that a spinning LiDAR 1.8 m over a plane sees, with boxes as obstacles; beam by beam."""
    elevation = np.deg2rad(np.linspace(-25, 12, n_beams))[:, None]
    azimuth = np.linspace(-np.pi, np.pi, n_azimuths, endpoint=False)[None]
    wall = np.repeat(rng.uniform(4, 60, 40), -(-n_azimuths // 40))[:n_azimuths]
    ground = 1.8 / np.maximum(-np.tan(elevation), 1e-3)
    distance = np.minimum(ground, wall[None]) + rng.normal(0, 0.02, (n_beams, n_azimuths))
    x, y, z = np.cos(azimuth), np.sin(azimuth), np.broadcast_to(np.tan(elevation), distance.shape)
    return (
        (np.stack(np.broadcast_arrays(x, y, z), -1) * distance[..., None]).reshape(-1, 3).astype(np.float32)
    )


def _knn_peers(xyz: NDArray[np.float32], k: int) -> dict[str, Callable[[], object]]:
    """Build and query a tree of each package; two threads where it has threads."""
    peers: dict[str, Callable[[], object]] = {}
    if installed("scipy"):
        from scipy.spatial import cKDTree

        peers["scipy"] = lambda: cKDTree(xyz).query(xyz, k, workers=THREADS)
    if installed("pykdtree"):
        from pykdtree.kdtree import KDTree

        peers["pykdtree"] = lambda: KDTree(xyz).query(xyz, k)
    if installed("small_gicp"):
        import small_gicp

        wide = xyz.astype(np.float64)
        peers["small_gicp"] = lambda: small_gicp.KdTree(wide, THREADS).batch_knn_search(wide, k, THREADS)
    return peers


def neighbors(rng: np.random.Generator, beams: int, azimuths: int, shuffled: bool = False) -> Round:
    xyz = sweep(rng, beams, azimuths)
    if shuffled:
        rng.shuffle(xyz)
    points = torch.from_numpy(xyz)
    out = torch.full((len(xyz), 16), -7), torch.full((len(xyz), 16), torch.nan)

    def check(result: object) -> None:
        rows = rng.integers(0, len(xyz), 200)
        expected = k_nearest(points, 16, points[rows], backend="torch")[0]
        if not torch.equal(out[0][rows], expected):
            raise SystemExit("A6: neighbours differ from the reference")

    return Round(partial(k_nearest, points, 16, out=out), _knn_peers(xyz, 16), check)


def sampling(rng: np.random.Generator, xyz: NDArray[np.float32], m: int) -> Round:
    points = torch.from_numpy(xyz)
    peers: dict[str, Callable[[], object]] = {}
    if installed("fpsample"):
        import fpsample

        for h in (h for h in HEIGHTS if 2**h < len(xyz) / 8):
            peers[f"fpsample h={h}"] = partial(fpsample.bucket_fps_kdline_sampling, xyz, m, h, 0)

    def check(result: object) -> None:
        # The first samples do not depend on how many follow. fpsample is no judge: it starts where it likes.
        first = farthest_point_sampling(points, min(m, 100), backend="torch")
        if not isinstance(result, torch.Tensor) or not torch.equal(result[: len(first)], first):
            raise SystemExit("A7: samples differ from the reference")

    return Round(partial(farthest_point_sampling, points, m), peers, check)


def tokens(rng: np.random.Generator) -> Round:
    """Centres and groups of sixteen objects, as Point-MAE's tokeniser makes them."""
    xyz = rng.normal(size=(16, 1024, 3)).astype(np.float32)
    clouds = torch.from_numpy(xyz)

    def ours() -> torch.Tensor:
        chosen = farthest_point_sampling(clouds, 64)
        centers = clouds.gather(1, chosen[..., None].expand(-1, -1, 3))
        return k_nearest(clouds, 32, centers)[0]

    peers: dict[str, Callable[[], object]] = {}
    if installed("fpsample", "scipy"):
        import fpsample
        from scipy.spatial import cKDTree

        def theirs() -> None:
            for cloud in xyz:
                chosen = fpsample.bucket_fps_kdline_sampling(cloud, 64, 3, 0)
                cKDTree(cloud).query(cloud[chosen], 32)

        peers["fpsample+scipy"] = theirs
    return Round(ours, peers)


def _ball(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    return rng.normal(size=(n, 3)).astype(np.float32)


CASES = [
    Case("A6", "N32, 34,720, k 16", lambda rng: neighbors(rng, 32, 1085), 1.5, 0.5),
    Case("A6", "N64, 120,000, k 16", lambda rng: neighbors(rng, 64, 1875), 1.5, 1.7),
    Case("A6", "N32 shuffled", lambda rng: neighbors(rng, 32, 1085, True), 1.5, 0.5),
    Case("A7", "1,024 -> 64", lambda rng: sampling(rng, _ball(rng, 1024), 64), 1.0, 0.01),
    Case("A7", "8,192 -> 1,024", lambda rng: sampling(rng, _ball(rng, 8192), 1024), 1.0, 0.2),
    Case("A7", "N32 -> 4,096", lambda rng: sampling(rng, sweep(rng, 32, 1085), 4096), 1.0, 1.0),
    Case("A7", "N64 -> 16,384", lambda rng: sampling(rng, sweep(rng, 64, 1875), 16_384), 1.0, 5.0),
    Case("A8", "16 x (1,024 -> 64, k 32)", tokens, 5.0, 0.2),
]
