# SPDX-License-Identifier: Apache-2.0
"""Walks across scenes: what sees what, and what single scenes keep."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import CONTRACT, TINY, little_street

from pc_perception.models.pyramid import Pyramid, pack
from pc_perception.models.scene_encoder import SceneEncoder
from pc_perception.models.walks import Walk, along_curves
from training.methods.cross_sample import ORDERS, AcrossScenes

SCENES = [CONTRACT.prepare(little_street(s), 3) for s in range(3)]


def encoder() -> SceneEncoder:
    torch.manual_seed(0)
    return SceneEncoder(CONTRACT.n_features, **(TINY | {"mixers": (0, 1, 2)})).eval()


def encode(scenes: list[int], walk: Walk, features: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
    """Encode the packed scenes; one tensor for each."""
    columns = features or [SCENES[s].features for s in scenes]
    pyramid = pack([SCENES[s].pyramid for s in scenes])
    with torch.no_grad():
        out = encoder()(torch.cat(columns), pyramid, walk)
    return list(out.split([len(c) for c in columns]))


def level(scenes: list[int], depth: int = 1):  # type: ignore[no-untyped-def]
    packed: Pyramid = pack([SCENES[s].pyramid for s in scenes])
    return packed.levels[depth]


def test_one_scene_in_sequence_is_the_single_scene() -> None:
    assert torch.equal(encode([0], AcrossScenes("concat", 1))[0], encode([0], along_curves)[0])


def test_scenes_that_make_a_sequence_each_are_the_single_scenes() -> None:
    together = encode([0, 1, 2], AcrossScenes("concat", 1))
    for s, out in enumerate(together):
        torch.testing.assert_close(out, encode([s], along_curves)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_other_scenes_of_a_sequence_matter_and_of_another_do_not(order: str) -> None:
    columns = [SCENES[s].features for s in (0, 1)]
    other = [columns[0], columns[1] + 1]

    def first(n_scenes: int, features: list[torch.Tensor]) -> torch.Tensor:
        torch.manual_seed(1)  # the same random order both times
        return encode([0, 1], AcrossScenes(order, n_scenes), features)[0]

    torch.testing.assert_close(first(1, columns), first(1, other), atol=1e-5, rtol=1e-5)
    assert float((first(2, columns) - first(2, other)).abs().max()) > 1e-3


def test_a_walk_forwards_is_causal() -> None:
    columns = [SCENES[s].features for s in (0, 1)]

    def forwards(level, block):  # type: ignore[no-untyped-def]
        return AcrossScenes("concat", 2)(level, 0)

    kept = encode([0, 1], forwards, columns)
    changed = encode([0, 1], forwards, [columns[0], columns[1] + 1])
    torch.testing.assert_close(kept[0], changed[0], atol=1e-5, rtol=1e-5)
    earlier = encode([0, 1], forwards, [columns[0] + 1, columns[1]])
    assert float((earlier[1] - kept[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("block", [0, 1, 2])
def test_orders_are_permutations_inside_their_sequences(order: str, block: int) -> None:
    voxels = level([0, 1, 2, 0])
    rows, resets = AcrossScenes(order, 2)(voxels, block)
    assert sorted(rows.tolist()) == list(range(len(voxels)))
    scene = np.searchsorted(voxels.offsets, rows.numpy(), side="right") - 1
    assert (resets[0], resets[-1], len(resets)) == (0, len(voxels), 3)
    for a, b in pairwise(resets):
        inside = set(scene[a:b].tolist())
        assert inside in ({0, 1}, {2, 3})
        turns = int(np.count_nonzero(np.diff(scene[a:b])))
        assert turns == 1 if order != "shuffle_all" else turns > 10


def test_shuffles_are_new_each_time_and_repeat_with_the_seed() -> None:
    walk, voxels = AcrossScenes("shuffle_all", 2), level([0, 1])
    torch.manual_seed(5)
    first, second = walk(voxels, 0)[0], walk(voxels, 0)[0]
    torch.manual_seed(5)
    assert torch.equal(first, walk(voxels, 0)[0])
    assert not torch.equal(first, second)


def test_a_permutation_and_its_inverse_leave_rows_in_place() -> None:
    """Whatever the order, a mixer that does nothing to tokens does nothing to rows."""
    mixer = encoder().stages[2].mixers[0]
    torch.nn.init.zeros_(mixer.mixer.out.weight)
    voxels = level([0, 1], 2)
    x = torch.randn(len(voxels), 32)
    with torch.no_grad():
        assert torch.equal(mixer(x, *AcrossScenes("shuffle_all", 2)(voxels, 0)), x)


def test_unknown_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="csp_order 'sorted'"):
        AcrossScenes("sorted", 1)
    with pytest.raises(ValueError, match="at least 1 scene"):
        AcrossScenes("concat", 0)
