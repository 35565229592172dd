# SPDX-License-Identifier: Apache-2.0
"""Sweeps replayed from CUDA graphs get the labels that the ordinary way gives; what does not fit goes that way."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import Segmenter

from .conftest import TINY, make_cloud, make_segmenter


def _pair() -> tuple[Segmenter, Segmenter]:
    """The same model twice on the GPU; the first has no graphs."""
    found = []
    for usable in (False, True):
        pytest.importorskip("triton")
        one = make_segmenter(TINY)
        model = Segmenter(one.network, one.contract, one.label_set, torch.device("cuda"), "float32")
        model.graphs.usable = usable
        found.append(model)
    return found[0], found[1]


def _assert_alike(plain: Segmenter, graphs: Segmenter, cloud: PointCloud) -> None:
    expected, found = plain(cloud), graphs(cloud)
    assert len(found.labels) == len(cloud)
    assert (found.labels == expected.labels).mean() > 0.999
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=2e-3)


@pytest.mark.parametrize("n", [1, 300, 5000])
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_replays_clouds_of_like_size(n: int) -> None:
    plain, graphs = _pair()
    for seed, fewer in enumerate((0, 0, n // 50, n // 2, 0, n // 3)):
        _assert_alike(plain, graphs, make_cloud(seed, n - fewer))
    assert len(graphs.graphs.graphs) == 1
    made = graphs.graphs.n_made
    for seed in range(20):
        _assert_alike(plain, graphs, make_cloud(seed, n - seed * n // 40))
    assert graphs.graphs.n_made == made


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_grows_where_voxels_do_not_fit_and_leaves_maps_to_the_ordinary_way() -> None:
    plain, graphs = _pair()
    wide, narrow = make_cloud(0), make_cloud(1)
    narrow.xyz[:] *= np.float32(0.05)
    for cloud in (narrow, narrow, wide, wide, narrow):
        _assert_alike(plain, graphs, cloud)
    (graph,) = graphs.graphs.graphs.values()
    assert graph.capacities[0] > 1000
    far = PointCloud(wide.xyz + np.float32([500, 900, 0]), wide.fields, wide.frame)
    made = graphs.graphs.n_made
    for _ in range(3):
        _assert_alike(plain, graphs, far)
    assert graphs.graphs.n_made == made


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_points_that_come_twice_nan_and_missing_fields() -> None:
    plain, graphs = _pair()
    cloud = make_cloud(2)
    twice = np.repeat(np.arange(1500), 2)
    xyz = cloud.xyz[twice]
    xyz[10] = np.nan
    for fields in ({"intensity": cloud.fields["intensity"][twice]}, {}):
        for _ in range(3):
            _assert_alike(plain, graphs, PointCloud(xyz, fields, "lidar"))
    assert len(graphs.graphs.graphs) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_many_small_clouds_get_a_graph_of_their_size() -> None:
    plain, graphs = _pair()
    for cloud in (make_cloud(0, 20_000), make_cloud(1, 20_000), *(make_cloud(s, 500) for s in range(10))):
        _assert_alike(plain, graphs, cloud)
    (graph,) = graphs.graphs.graphs.values()
    assert graph.n_points < 5000


def test_a_cpu_has_no_graphs() -> None:
    model = make_segmenter(TINY)
    for _ in range(2):
        model(make_cloud(0, 300))
    assert not model.graphs.graphs


def test_a_segmenter_can_be_copied() -> None:
    model = make_segmenter(TINY)
    copied = deepcopy(model)
    assert copied.graphs.network is copied.network
    assert np.array_equal(copied(make_cloud(0, 300)).labels, model(make_cloud(0, 300)).labels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_second_segmenter_of_the_network_leaves_the_graphs_of_the_first_right() -> None:
    pytest.importorskip("triton")
    one, cloud = make_segmenter(TINY), make_cloud(4)
    given = one.network, one.contract, one.label_set, torch.device("cuda"), "bfloat16"
    first = Segmenter(*given)
    for _ in range(2):
        expected = first(cloud).labels
    second = Segmenter(*given)
    filler = [torch.randn(256, 256, device="cuda") for _ in range(50)]
    for model in (first, second):  # sums are added in any order: a label may turn
        assert (model(cloud).labels == expected).mean() > 0.999
    assert filler
