# SPDX-License-Identifier: Apache-2.0
"""The encoder: scenes never mix, orders and resets do what they say, size T stays in its bounds."""

import pytest
import torch

from pc_perception.inference.contract import InputContract
from pc_perception.models.layers import GatedDeltaNet, NeighborhoodBlock, SequenceBlock
from pc_perception.models.linear import Linear, set_precision
from pc_perception.models.pyramid import build_pyramid, pack
from pc_perception.models.scene_encoder import SIZES, SceneEncoder, SceneSegmenter
from pc_perception.ops.grouping import voxel_neighbors
from pc_perception.ops.parallel import team
from pc_perception.ops.voxelize import voxelize

from .conftest import TINY, make_cloud


def _close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_pyramid_parents_hold_their_children() -> None:
    xyz = torch.from_numpy(make_cloud(1).xyz)
    pyramid, row = build_pyramid(xyz, 0.4, 4)
    assert len(pyramid.levels) == 4
    torch.testing.assert_close(
        pyramid.levels[0].xyz[row].sub(xyz).abs().amax(), torch.tensor(0.0), atol=0.4, rtol=0
    )
    for fine, coarse in zip(pyramid.levels, pyramid.levels[1:], strict=False):
        assert coarse.edge == 2 * fine.edge
        assert fine.parent is not None
        assert coarse.children is not None
        assert int(fine.parent[-1]) == len(coarse) - 1
        # A child lies in its parent's cube: both centroids are at most one cube apart.
        assert float((coarse.xyz[fine.parent] - fine.xyz).abs().max()) <= coarse.edge
        for parent in (0, len(coarse) // 2, len(coarse) - 1):
            rows = coarse.children.index[coarse.children.starts[parent] : coarse.children.starts[parent + 1]]
            assert bool((fine.parent[rows] == parent).all())
        assert sorted(fine.order(1).tolist()) == list(range(len(fine)))


@pytest.mark.parametrize("arguments", [TINY, *SIZES.values()], ids=["tiny", *SIZES])
def test_packed_scenes_equal_scenes_alone(arguments: dict) -> None:
    contract = InputContract(0.4, ("offset", "height", "range", "intensity"))
    torch.manual_seed(0)
    network = SceneSegmenter(SceneEncoder(contract.n_features, **arguments), 8).eval()
    depth = network.encoder.n_levels
    scenes = [contract.prepare(make_cloud(seed, n), depth) for seed, n in ((1, 2000), (2, 50), (3, 900))]
    with torch.no_grad():
        alone = torch.cat([network(s.features, s.pyramid) for s in scenes])
        packed = network(torch.cat([s.features for s in scenes]), pack([s.pyramid for s in scenes]))
    _close(packed, alone)


@torch.no_grad()
def test_neighborhood_block_equals_edges_written_out() -> None:
    coords = voxelize(torch.from_numpy(make_cloud(4, 400).xyz), 1.0).coords
    lists = voxel_neighbors(coords)
    torch.manual_seed(0)
    block = NeighborhoodBlock(6)
    x, position = torch.randn(len(coords), 6), coords.float()
    strongest = []
    for i in range(len(coords)):
        rows = lists.index[lists.starts[i] : lists.starts[i + 1]]
        edges = block.edge(block.edge_norm(x[rows])) + block.position(position[rows] - position[i])
        strongest.append(edges.amax(0))
    y = x + block.mix(torch.relu(torch.stack(strongest)))
    torch.testing.assert_close(block(x, position, lists), y + block.mlp(y), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_mixer_resets_state_and_convolution() -> None:
    torch.manual_seed(0)
    mixer = GatedDeltaNet(16, 2, 8, 8)
    a, b = torch.randn(70, 16), torch.randn(9, 16)
    together = mixer(torch.cat([a, b]), (0, 70, 79))
    _close(together[:70], mixer(a, (0, 70)))
    _close(together[70:], mixer(b, (0, 9)))
    # The last three tokens of the first scene lie in reach of the convolution of the second.
    changed = a.clone()
    changed[-3:] += 10.0
    _close(mixer(torch.cat([changed, b]), (0, 70, 79))[70:], together[70:])
    # Without the reset they do change what follows, so the test above can fail.
    joined = mixer(torch.cat([a, b]), (0, 79))
    assert float((joined[70:] - together[70:]).abs().max()) > 1e-4


@torch.no_grad()
def test_a_mixer_streams_one_scene_in_pieces() -> None:
    torch.manual_seed(0)
    mixer = GatedDeltaNet(16, 2, 8, 12)
    x, other = torch.randn(100, 16), torch.randn(5, 16)
    whole, _ = mixer.resume(x, (0, 100), None)
    _close(whole, mixer(x, (0, 100)))
    pieces, state = [], None
    for piece in x.split((1, 2, 50, 47)):
        y, state = mixer.resume(piece, (0, len(piece)), state)
        pieces.append(y)
        # What is remembered does not grow, neither with the tokens seen nor with the length of a piece.
        assert state.memory.shape == (1, 2, 8, 12)
        assert state.recent.shape == (1, 3, 2 * 16 + 24)
    _close(torch.cat(pieces), whole)
    _, both = mixer.resume(torch.cat([other, x]), (0, 5, 105), None)
    _close(both.memory[1:], state.memory)
    _close(both.recent[1:], state.recent)


@torch.no_grad()
def test_a_mixer_may_write_reflections() -> None:
    mixers = []
    for negative in (False, True):
        torch.manual_seed(0)
        mixers.append(GatedDeltaNet(16, 2, 8, 8, negative=negative))
    x = torch.randn(40, 16)
    assert mixers[0].state_dict().keys() == mixers[1].state_dict().keys()
    assert float((mixers[0](x, (0, 40)) - mixers[1](x, (0, 40))).abs().max()) > 1e-4


def test_a_mixer_remembers_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    mixer = GatedDeltaNet(16, 2, 8, 8)
    x = torch.randn(90, 16)
    exact = mixer(x, (0, 40, 90))
    with torch.autocast("cpu", torch.bfloat16):
        y, state = mixer.resume(x, (0, 40, 90), None)
    assert state.memory.dtype == torch.float32
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, atol=0.05, rtol=0.05)
    y.float().square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in mixer.parameters())


@torch.no_grad()
def test_mixer_is_causal() -> None:
    torch.manual_seed(0)
    mixer = GatedDeltaNet(16, 2, 8, 8)
    x = torch.randn(130, 16)
    later = x.clone()
    later[100:] += 1.0
    before, after = mixer(x, (0, 130)), mixer(later, (0, 130))
    _close(before[:100], after[:100])
    assert float((before[100:] - after[100:]).abs().max()) > 1e-3


@torch.no_grad()
def test_sequence_block_follows_its_order() -> None:
    torch.manual_seed(0)
    block = SequenceBlock(16, 2, 8, 8)
    x, order = torch.randn(50, 16), torch.randperm(50)
    _close(block(x, order, (0, 50))[order], block(x[order], torch.arange(50), (0, 50)))


@torch.no_grad()
def test_shuffled_scenes_come_back_to_their_places() -> None:
    torch.manual_seed(0)
    block = SequenceBlock(16, 2, 8, 8)
    scenes = [torch.randn(n, 16) for n in (30, 1, 19)]
    resets, x = (0, 30, 31, 50), torch.cat(scenes)
    # Shuffled within each scene: every scene is what it is alone, in the same order.
    within = [torch.randperm(len(scene)) for scene in scenes]
    order = torch.cat([o + start for o, start in zip(within, resets, strict=False)])
    alone = [block(t, o, (0, len(t))) for t, o in zip(scenes, within, strict=True)]
    _close(block(x, order, resets), torch.cat(alone))
    # A block whose mixer writes nothing gives every token back where it was.
    block.mixer.out.weight.zero_()
    assert torch.equal(block(x, torch.randperm(50), (0, 50)), x)


def test_gradients_reach_every_parameter() -> None:
    contract = InputContract(0.4, ("offset", "height", "intensity"))
    scene = contract.prepare(make_cloud(5, 1500), 3)
    network = SceneSegmenter(SceneEncoder(contract.n_features, **TINY), 8)
    network(scene.features, scene.pyramid).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_size_t_bounds() -> None:
    contract = InputContract(0.2, ("offset", "height", "range", "intensity"))
    network = SceneSegmenter(SceneEncoder(contract.n_features), 8)
    assert sum(p.numel() for p in network.parameters()) <= 2_400_000


def test_gradients_are_the_same_on_both_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(400, 3, generator=generator) * 4
    pyramid, _ = build_pyramid(xyz, 0.5, 2)
    features = torch.randn(len(pyramid.levels[0]), 5, generator=generator)
    found = []
    for backend in ("torch", "numba"):  # what a GPU trains with, and a CPU
        monkeypatch.setenv("PC_PERCEPTION_BACKEND", backend)
        torch.manual_seed(1)
        encoder = SceneEncoder(5, (8, 16), (1, 1), (0, 2), 2, 4, 4)
        encoder(features, pyramid).square().sum().backward()
        found.append({name: p.grad for name, p in encoder.named_parameters()})
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.03)])
def test_block_for_inference_equals_the_one_for_training(precision: str, tolerance: float) -> None:
    coords = torch.unique(torch.randint(0, 12, (700, 3), generator=torch.Generator().manual_seed(1)), dim=0)
    lists = voxel_neighbors(coords)
    block = NeighborhoodBlock(24)
    x, position = torch.randn(len(coords), 24), 20 + coords + torch.rand(len(coords), 3)
    with torch.no_grad():
        expected = block(x, position, lists)
    block.requires_grad_(False)
    assert set_precision(block, precision, torch.device("cpu")) == precision
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with torch.inference_mode(), team():
            torch.testing.assert_close(block(x, position, lists), expected, rtol=tolerance, atol=tolerance)


def test_precision_rounds_linear_layers_alone() -> None:
    layer = Linear(64, 64)
    x = torch.randn(5, 64)
    exact = layer(x)
    set_precision(layer, "bfloat16", torch.device("cpu"))
    rounded = layer(x)
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).detach().abs().max()) < 0.05
    set_precision(layer, "float32", torch.device("cpu"))
    assert torch.equal(layer(x), exact)
    with pytest.raises(ValueError, match="precision"):
        set_precision(layer, "int3", torch.device("cpu"))
