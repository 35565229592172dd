# SPDX-License-Identifier: Apache-2.0
"""The short convolution: what each sequence sees, what it remembers, and its gradients."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pc_perception.ops.short_convolution import convolve_whole, short_convolution

BACKENDS = ("numba", "torch")
OFFSETS = (0, 0, 1, 9, 11, 14, 14, 40)


def _inputs(n: int = 40, n_sequences: int = 7, width: int = 4) -> list[Tensor]:
    g = torch.Generator().manual_seed(n)
    shapes = ((n, 10), (5, 1, width), (n_sequences, width - 1, 5))
    x, kernel, recent = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)
    return [x[:, :5], kernel, recent]  # columns of something wider, as a projection has


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [1, 2, 4])
def test_every_sequence_is_convolved_behind_what_came_before(backend: str, width: int) -> None:
    x, kernel, recent = _inputs(width=width)
    out, left = short_convolution(x, kernel, OFFSETS, recent, backend)
    for s, (start, stop) in enumerate(pairwise(OFFSETS)):
        seen = torch.cat([recent[s], x[start:stop]])
        if stop > start:
            alone = functional.conv1d(seen.T[None], kernel, groups=5)[0].T
            torch.testing.assert_close(out[start:stop], alone)
        assert torch.equal(left[s], seen[len(seen) - width + 1 :])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reset_forgets_the_last_tokens(backend: str) -> None:
    x, kernel, _ = _inputs()
    changed = x.clone()
    changed[6:9] += 10.0
    before, after = (short_convolution(t, kernel, OFFSETS, backend=backend)[0] for t in (x, changed))
    assert torch.equal(before[9:], after[9:])
    assert torch.equal(convolve_whole(x, kernel, OFFSETS, backend), before)
    changed[6:9] = torch.nan
    assert torch.equal(short_convolution(changed, kernel, OFFSETS, backend=backend)[0][9:], before[9:])
    joined = short_convolution(torch.where(changed.isnan(), 10.0, changed), kernel, (0, 40), backend=backend)[
        0
    ]
    assert float((joined[9:12] - after[9:12]).abs().max()) > 1.0
    torch.testing.assert_close(
        joined[12:14], short_convolution(x, kernel, (0, 40), backend=backend)[0][12:14]
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_pieces_are_the_whole(backend: str) -> None:
    x, kernel, recent = _inputs(n_sequences=1)
    whole, left = short_convolution(x, kernel, (0, 40), recent, backend)
    for start, stop in pairwise((0, 1, 2, 2, 17, 40)):
        piece, recent = short_convolution(x[start:stop], kernel, (0, stop - start), recent, backend)
        torch.testing.assert_close(piece, whole[start:stop])
    assert torch.equal(recent, left)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_differences(backend: str) -> None:
    inputs = [t.requires_grad_() for t in _inputs(12, 4)]
    assert torch.autograd.gradcheck(
        lambda x, kernel, recent: short_convolution(x, kernel, (0, 1, 1, 8, 12), recent, backend), inputs
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_tokens(backend: str) -> None:
    x, kernel, recent = _inputs(0, 1)
    out, left = short_convolution(x.requires_grad_(), kernel, (0, 0), recent, backend)
    assert out.shape == (0, 5)
    assert torch.equal(left, recent)
    out.sum().backward()


def test_what_does_not_belong_together_is_refused() -> None:
    x, kernel, recent = _inputs()
    with pytest.raises(ValueError, match="ascend"):
        short_convolution(x, kernel, (0, 39))
    with pytest.raises(ValueError, match=r"\(C, 1, W\)"):
        short_convolution(x, kernel[:4], OFFSETS)
    with pytest.raises(ValueError, match="recent must be"):
        short_convolution(x, kernel, OFFSETS, recent[:3])
    with pytest.raises(ValueError, match="convert one"):
        short_convolution(x, kernel.float(), OFFSETS)
