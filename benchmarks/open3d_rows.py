# SPDX-License-Identifier: Apache-2.0
"""Our point operations against Open3D's: would an adapter pay? Rows of ``python -m benchmarks ops``."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.dense import room, sweep
from benchmarks.harness import Case, Round, installed
from pc_perception.ops.clusters import euclidean_clusters
from pc_perception.ops.neighbors import k_nearest
from pc_perception.ops.parallel import team
from pc_perception.ops.sampling import farthest_point_sampling
from pc_perception.ops.voxelize import Voxels, pool_features, voxelize

ROW = "Open3D"
K = 16


def _cloud(xyz: np.ndarray):  # type: ignore[no-untyped-def]
    import open3d

    return open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz.astype(np.float64)))


def down_sampling(xyz: np.ndarray, grid: float) -> Round:
    """The mean point of every voxel; Open3D's lattice starts elsewhere, hence a few per cent more or fewer of them."""
    points, cloud, memory = torch.from_numpy(xyz), _cloud(xyz), Voxels.room(len(xyz))

    def ours() -> torch.Tensor:
        with team():
            return pool_features(points, voxelize(points, grid, out=memory, order="first"))

    def check(means: object) -> None:
        assert isinstance(means, torch.Tensor)
        assert abs(len(means) / len(cloud.voxel_down_sample(grid).points) - 1) < 0.1, (
            "numbers of voxels differ"
        )

    return Round(ours, {"legacy": lambda: cloud.voxel_down_sample(grid)}, check)


def neighbors(xyz: np.ndarray) -> Round:
    """The 16 nearest of every point, search structure included."""
    from open3d.core import Tensor
    from open3d.core.nns import NearestNeighborSearch

    points = torch.from_numpy(xyz)

    def theirs() -> np.ndarray:
        tensor = Tensor.from_numpy(xyz)
        search = NearestNeighborSearch(tensor)
        search.knn_index()
        return search.knn_search(tensor, K)[1].numpy()

    def check(found: object) -> None:
        assert isinstance(found, tuple)
        np.testing.assert_allclose(found[1].square().numpy(), theirs(), rtol=1e-3, atol=1e-5)

    return Round(lambda: k_nearest(points, K), {"tensor": theirs}, check)


def sampling(xyz: np.ndarray, m: int) -> Round:
    """Farthest points, from point 0."""
    points, cloud = torch.from_numpy(xyz), _cloud(xyz)
    return Round(
        lambda: farthest_point_sampling(points, m), {"legacy": lambda: cloud.farthest_point_down_sample(m)}
    )


def clusters(xyz: np.ndarray, distance: float) -> Round:
    """Connected components; DBSCAN finds the same where a single point is a core."""
    points, cloud = torch.from_numpy(xyz), _cloud(xyz)

    def theirs() -> np.ndarray:
        return np.asarray(cloud.cluster_dbscan(distance, 1))

    def check(labels: object) -> None:
        assert isinstance(labels, torch.Tensor)
        assert int(labels.max()) == theirs().max(), "numbers of clusters differ"

    return Round(lambda: euclidean_clusters(points, distance), {"legacy": theirs}, check)


CASES = [
    Case(ROW, "voxel means, N32, 5 cm", lambda rng: down_sampling(sweep(rng, 32, 1085), 0.05), 1.0),
    Case(ROW, "voxel means, room, 2 cm", lambda rng: down_sampling(room(rng), 0.02), 1.0),
    Case(ROW, "16 nearest, N32", lambda rng: neighbors(sweep(rng, 32, 1085)), 1.0),
    Case(ROW, "16 nearest, N64", lambda rng: neighbors(sweep(rng, 64, 1875)), 1.0),
    Case(ROW, "farthest points, 1,024 -> 64", lambda rng: sampling(room(rng, 1024), 64), 1.0),
    Case(ROW, "farthest points, 8,192 -> 1,024", lambda rng: sampling(room(rng, 8192), 1024), 1.0),
    Case(ROW, "farthest points, N32 -> 4,096", lambda rng: sampling(sweep(rng, 32, 1085), 4096), 1.0),
    Case(ROW, "clusters, N32, 0.5 m", lambda rng: clusters(sweep(rng, 32, 1085), 0.5), 1.0),
]
CASES = CASES if installed("open3d") else []
