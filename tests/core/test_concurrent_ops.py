# SPDX-License-Identifier: Apache-2.0
"""Point operations called from several threads and from spawned loader workers at once."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import DataLoader, Dataset

from pc_perception.ops.chamfer import chamfer_distance
from pc_perception.ops.neighbors import k_nearest
from pc_perception.ops.range_image import range_image
from pc_perception.ops.sampling import farthest_point_sampling
from pc_perception.ops.scatter import scatter_mean
from pc_perception.ops.voxelize import voxelize

N_CLOUDS = 6


def results(i: int) -> list[torch.Tensor]:
    """Results of the operations for cloud ``i``; small and large clouds go different ways."""
    xyz = torch.randn(700 if i % 2 else 3000, 3, generator=torch.Generator().manual_seed(i))
    voxels = voxelize(xyz, 0.2)
    index, distance = k_nearest(xyz, 8)
    return [
        voxels.inverse,
        scatter_mean(xyz, voxels.inverse, len(voxels)),
        index,
        distance,
        farthest_point_sampling(xyz, 64),
        range_image(xyz, (16, 64)).index,
        chamfer_distance(xyz, xyz[:500] + 0.1),
    ]


class Clouds(Dataset[list[torch.Tensor]]):
    """The results as a data set, computed in the worker."""

    def __len__(self) -> int:
        return N_CLOUDS

    def __getitem__(self, i: int) -> list[torch.Tensor]:
        return results(i)


def _check(found: list[list[torch.Tensor]]) -> None:
    for i, values in enumerate(found):
        for value, expected in zip(values, results(i % N_CLOUDS), strict=True):
            assert torch.equal(value, expected)


def test_two_threads() -> None:
    with ThreadPoolExecutor(2) as pool:
        _check(list(pool.map(results, [i % N_CLOUDS for i in range(4 * N_CLOUDS)])))


def test_spawned_workers() -> None:
    loader = DataLoader(Clouds(), batch_size=None, num_workers=2, multiprocessing_context="spawn")
    _check(list(loader))
