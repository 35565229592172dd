# SPDX-License-Identifier: Apache-2.0
"""Sum, mean and maximum by index against a loop, with their gradients."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops.scatter import scatter_max, scatter_mean, scatter_sum

BACKENDS = ["torch", "numba"]
OPERATIONS = [
    (scatter_sum, lambda rows: rows.sum(0)),
    (scatter_mean, lambda rows: rows.mean(0)),
    (scatter_max, lambda rows: rows.max(0).values),
]


def _inputs(n: int, n_rows: int, seed: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    # Few different values: ties are the rule. Every other column: not contiguous.
    values = torch.randint(-2, 3, (n, 6), generator=g).to(dtype)[:, ::2]
    return values, torch.randint(0, n_rows, (n,), generator=g)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("operation", "of_rows"), OPERATIONS)
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 30), st.integers(1, 8), st.integers(0, 99))
def test_matches_a_loop(operation, of_rows, backend: str, n: int, n_rows: int, seed: int) -> None:  # type: ignore[no-untyped-def]
    values, index = _inputs(n, n_rows, seed, torch.float32)
    out = operation(values, index, n_rows, backend)
    assert out.dtype == torch.float32
    for s in range(n_rows):
        rows = values[index == s]
        torch.testing.assert_close(out[s], of_rows(rows) if len(rows) else torch.zeros(3))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", [scatter_sum, scatter_mean])
def test_gradient(operation, backend: str) -> None:  # type: ignore[no-untyped-def]
    values, index = _inputs(12, 5, 0, torch.float64)
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: operation(v, index, 5, backend), (values,))
    assert torch.autograd.gradgradcheck(lambda v: operation(v, index, 5, backend).square(), (values,))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", [operation for operation, _ in OPERATIONS])
def test_out_takes_the_result(operation, backend: str) -> None:  # type: ignore[no-untyped-def]
    out = torch.full((6, 3), -7.0)
    for seed in range(2):
        values, index = _inputs(12, 6, seed, torch.float32)
        assert operation(values, index, 6, backend, out=out) is out
        assert torch.equal(out, operation(values, index, 6, backend))
    with pytest.raises(ValueError, match="out must be contiguous"):
        operation(values, index, 5, backend, out=out)
    with pytest.raises(ValueError, match="detach the values"):
        operation(values.clone().requires_grad_(), index, 6, backend, out=out)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_of_a_maximum_goes_to_its_first_row(backend: str) -> None:
    values = torch.tensor([[1.0], [3.0], [3.0], [-2.0], [3.0]], dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 0, 0, 2, 2])
    out = scatter_max(values, index, 4, backend)
    assert out.tolist() == [[3.0], [0.0], [3.0], [0.0]]
    (out * torch.tensor([[1.0], [2.0], [4.0], [8.0]])).sum().backward()
    assert values.grad[:, 0].tolist() == [0, 1, 0, 0, 4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_in_its_row(backend: str) -> None:
    values = torch.tensor([[1.0], [torch.nan], [2.0]])
    index = torch.tensor([0, 0, 1])
    for operation, _ in OPERATIONS:
        out = operation(values, index, 2, backend)
        assert bool(out[0].isnan())
        assert float(out[1]) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_refuses_what_does_not_fit(backend: str) -> None:
    values, index = torch.zeros(3, 2), torch.tensor([0, 1, 2])
    for operation, _ in OPERATIONS:
        for wrong in (index - 1, index):
            with pytest.raises(ValueError, match="outside"):
                operation(values, wrong, 2, backend)
        with pytest.raises(ValueError, match=r"\(N, C\)"):
            operation(values, index[:2], 3, backend)
        with pytest.raises(ValueError, match="float32 or float64"):
            operation(values.half(), index, 3, backend)


def test_concurrent_calls() -> None:
    values, index = _inputs(5000, 100, 1, torch.float32)
    expected = scatter_mean(values, index, 100)
    with ThreadPoolExecutor(4) as pool:
        assert all(
            torch.equal(out, expected)
            for out in pool.map(lambda _: scatter_mean(values, index, 100), range(16))
        )
