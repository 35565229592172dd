# SPDX-License-Identifier: Apache-2.0
"""The Hilbert curve visits every voxel once and never jumps."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops.serialize import BITS, gather, hilbert, spread, z_order

BACKENDS = ["torch", "numba"]
coordinate = st.integers(0, 2**BITS - 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_hilbert_fills_a_cube_without_jumps(axes: tuple[int, int, int], backend: str) -> None:
    cube = torch.cartesian_prod(*[torch.arange(8)] * 3)
    codes = hilbert(cube, axes, backend)
    assert sorted(codes.tolist()) == list(range(512))
    assert bool((cube[codes.argsort()].diff(dim=0).abs().sum(1) == 1).all())
    assert torch.equal(codes, hilbert(cube[:, list(axes)], backend=backend))
    assert len({int(c) for c in hilbert(cube >> 1, axes, backend)}) == 64


@settings(deadline=None, max_examples=60)
@given(st.tuples(coordinate, coordinate, coordinate), st.sampled_from(BACKENDS))
def test_the_next_code_belongs_to_a_face_neighbour(voxel: tuple[int, int, int], backend: str) -> None:
    here = torch.tensor([voxel])
    steps = torch.cat([torch.eye(3, dtype=torch.int64), -torch.eye(3, dtype=torch.int64)])
    around = here + steps
    around = around[((around >= 0) & (around < 2**BITS)).all(1)]
    code = int(hilbert(here, backend=backend))
    codes = hilbert(around, backend=backend).tolist()
    assert 0 <= code < 8**BITS
    assert code + 1 in codes or code == 8**BITS - 1
    assert code - 1 in codes or code == 0


def test_hilbert_backends_agree_and_parents_are_a_shift_away() -> None:
    coords = torch.randint(0, 2**BITS, (1000, 6), generator=torch.Generator().manual_seed(0))[:, ::2]
    torch_codes, codes = (hilbert(coords, backend=backend) for backend in BACKENDS)
    assert torch.equal(torch_codes, codes)
    family = (coords >> 1 << 1)[:, None] + torch.cartesian_prod(*[torch.arange(2)] * 3)
    assert bool((hilbert(family.reshape(-1, 3)).view(-1, 8) >> 3 == codes[:, None] >> 3).all())
    assert len(hilbert(torch.zeros(0, 3, dtype=torch.int64))) == 0


@pytest.mark.parametrize("wrong", [-1, 2**BITS])
def test_hilbert_refuses_what_would_fold(wrong: int) -> None:
    with pytest.raises(ValueError, match="subtract their minimum"):
        hilbert(torch.tensor([[0, wrong, 0]]))


@given(coordinate)
def test_gather_undoes_spread(v: int) -> None:
    assert gather(spread(v)) == v
    assert int(z_order(torch.tensor([[v, 0, 0]]))) == spread(v)
