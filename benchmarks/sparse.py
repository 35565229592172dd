# SPDX-License-Identifier: Apache-2.0
"""Submanifold convolution (A10) and labels from voxels to points (A13). Rows of ``python -m benchmarks ops``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.dense import sweep
from benchmarks.harness import Case, Round, installed
from pc_perception.ops.kernel_maps import submanifold_map
from pc_perception.ops.sparse_convolution import sparse_convolution
from pc_perception.ops.voxelize import voxelize

CHANNELS = 32
TORCH, SPCONV = "searchsorted + index_add", "spconv, one thread"
OFFSETS = [(x, y, z) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def _search_pairs(coords: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the input and output rows of each offset by one sort and 27 binary searches."""
    place = torch.tensor([1, 1 << 21, 1 << 42])
    key = ((coords + 1) * place).sum(1)
    ordered, order = key.sort()
    pairs = []
    for offset in OFFSETS:
        wanted = key + (torch.tensor(offset) * place).sum()
        slot = torch.searchsorted(ordered, wanted).clamp_(max=len(key) - 1)
        out_row = (ordered[slot] == wanted).nonzero()[:, 0]
        pairs.append((order[slot[out_row]], out_row))
    return pairs


def convolution(
    rng: np.random.Generator, peer: str, map_included: bool = False, n_voxels: int = 16_800
) -> Round:
    """Convolve with the map built beforehand, as every layer after a level's first one does, or build it as well."""
    coords = voxelize(torch.from_numpy(sweep(rng, 32, 1085)), 0.1).coords[:n_voxels]
    assert len(coords) == n_voxels, f"the scene holds only {len(coords)} voxels"
    features = torch.from_numpy(rng.normal(size=(len(coords), CHANNELS)).astype(np.float32))
    weight = torch.from_numpy(rng.normal(size=(27, CHANNELS, CHANNELS)).astype(np.float32)) / 30
    kernel_map, pairs = submanifold_map(coords), _search_pairs(coords)

    def ours() -> torch.Tensor:
        with torch.inference_mode():
            return sparse_convolution(
                features, weight, submanifold_map(coords) if map_included else kernel_map
            )

    def by_torch(dtype: torch.dtype = torch.float32) -> torch.Tensor:
        x, w = features.to(dtype), weight.to(dtype)
        out = torch.zeros(len(x), CHANNELS, dtype=dtype)
        for k, (in_row, out_row) in enumerate(_search_pairs(coords) if map_included else pairs):
            out.index_add_(0, out_row, x[in_row] @ w[k])
        return out

    def check(result: object) -> None:
        assert isinstance(result, torch.Tensor)
        torch.testing.assert_close(result.double(), by_torch(torch.float64), atol=1e-4, rtol=1e-4)

    if peer == TORCH:
        return Round(ours, {peer: by_torch}, check)
    if not installed("spconv"):
        return Round(ours, {}, check)
    by_spconv = _spconv(coords, features, weight, map_included)
    check(by_spconv())
    return Round(ours, {peer: by_spconv}, check)


def _spconv(
    coords: torch.Tensor, features: torch.Tensor, weight: torch.Tensor, map_included: bool
) -> Callable[[], torch.Tensor]:
    """With one thread: of several, each overwrites what others have added."""
    import spconv.pytorch as spconv

    indices = torch.cat([torch.zeros(len(coords), 1, dtype=torch.int64), coords.flip(1)], 1).int()
    shape = (coords.amax(0) + 1).flip(0).tolist()
    layer = spconv.SubMConv3d(CHANNELS, CHANNELS, 3, bias=False, indice_key="level")
    with torch.no_grad():
        layer.weight.copy_(weight.view(3, 3, 3, CHANNELS, CHANNELS).permute(4, 0, 1, 2, 3))
    kept = spconv.SparseConvTensor(features, indices, shape, 1)

    def call() -> torch.Tensor:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                tensor = spconv.SparseConvTensor(features, indices, shape, 1) if map_included else kept
                result = layer(tensor)
                kept.indice_dict = result.indice_dict
                return result.features
        finally:
            torch.set_num_threads(threads)

    return call


def propagation(rng: np.random.Generator, beams: int, azimuths: int, grid: float = 0.05) -> Round:
    """Give every point the label of its voxel; the peers search the nearest voxel centre."""
    xyz = sweep(rng, beams, azimuths)
    points = torch.from_numpy(xyz)
    voxels = voxelize(points, grid)
    labels = torch.from_numpy(rng.integers(0, 16, len(voxels)).astype(np.uint8))
    out = torch.full((len(xyz),), 255, dtype=torch.uint8)
    heart = xyz[voxels.first.numpy()]

    def ours() -> torch.Tensor:
        return torch.index_select(labels, 0, voxels.inverse, out=out)

    peers: dict[str, Callable[[], object]] = {}
    if installed("scipy"):
        from scipy.spatial import cKDTree

        peers["scipy"] = lambda: labels.numpy()[cKDTree(heart).query(xyz, 1, workers=2)[1]]
    if installed("pykdtree"):
        from pykdtree.kdtree import KDTree

        peers["pykdtree"] = lambda: labels.numpy()[KDTree(heart).query(xyz, 1)[1]]
    if installed("small_gicp"):
        import small_gicp

        tree, query = heart.astype(np.float64), xyz.astype(np.float64)
        peers["small_gicp"] = lambda: labels.numpy()[
            small_gicp.KdTree(tree, 2).batch_nearest_neighbor_search(query, 2)[0]
        ]

    def check(result: object) -> None:
        assert isinstance(result, torch.Tensor)
        assert np.array_equal(result.numpy(), labels.numpy()[voxels.inverse.numpy()])

    return Round(ours, peers, check)


CASES = [
    Case("A10", "SubM 32 -> 32, 16,800 voxels", lambda rng: convolution(rng, TORCH), 5, 0.6),
    Case("A10", "the same", lambda rng: convolution(rng, SPCONV), 5, 0.6),
    Case("A10", "the same, map included", lambda rng: convolution(rng, TORCH, True), 5, 0.6),
    Case("A10", "the same, map included", lambda rng: convolution(rng, SPCONV, True), 5, 0.6),
    Case("A13", "N32, 5 cm", lambda rng: propagation(rng, 32, 1085), 100, 0.01),
    Case("A13", "N64, 5 cm", lambda rng: propagation(rng, 64, 1875), 100, 0.03),
]
