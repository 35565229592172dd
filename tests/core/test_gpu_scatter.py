# SPDX-License-Identifier: Apache-2.0
"""The Triton scatter kernels, in Triton's interpreter where there is no GPU, against the reference."""

import pytest
import torch

from pc_perception.ops.scatter import scatter_max, scatter_mean, scatter_sum

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OPERATIONS = [scatter_sum, scatter_mean, scatter_max]


def _inputs(n: int, width: int, n_rows: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(n + width)
    # Few different values: ties are the rule. Every other column and row: not contiguous.
    values = torch.randint(-2, 3, (n, 2 * width), generator=g).to(dtype)[:, ::2]
    return values.to(DEVICE), torch.randint(0, n_rows, (2 * n,), generator=g)[::2].to(DEVICE)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "width", "n_rows"), [(0, 3, 4), (1, 1, 1), (300, 3, 20), (40, 70, 7)])
def test_equals_the_reference(operation, dtype, n: int, width: int, n_rows: int) -> None:  # type: ignore[no-untyped-def]
    values, index = _inputs(n, width, n_rows, dtype)
    a, b = (values.clone().requires_grad_() for _ in range(2))
    out, expected = operation(a, index, n_rows, "triton"), operation(b, index, n_rows, "torch")
    torch.testing.assert_close(out, expected)
    weight = torch.randn(out.shape, dtype=dtype, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    for result, leaf in ((out, a), (expected, b)) if n else ():
        (result * weight).sum().backward()
        assert leaf.grad is not None
    torch.testing.assert_close(a.grad, b.grad)


def test_ties_nan_infinity_and_negative_zero() -> None:
    values = torch.tensor([-0.0, 0.0, -torch.inf, -torch.inf, 3.0, torch.nan, torch.inf, torch.nan, -7.0])
    index = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2, 4], device=DEVICE)
    for dtype in (torch.float32, torch.float64):
        leaf = values.to(DEVICE, dtype)[:, None].requires_grad_()
        out = scatter_max(leaf, index, 5, "triton")
        assert str(out[:, 0].tolist()) == "[-0.0, -inf, nan, 0.0, -7.0]"
        out.sum().backward()
        assert leaf.grad[:, 0].tolist() == [1, 0, 1, 0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("operation", [scatter_sum, scatter_mean])
def test_gradient(operation) -> None:  # type: ignore[no-untyped-def]
    values, index = _inputs(5, 2, 3, torch.float64)
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: operation(v, index, 3, "triton"), (values,))
    assert torch.autograd.gradgradcheck(lambda v: operation(v, index, 3, "triton").square(), (values,))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_refuses_an_index_out_of_range(operation) -> None:  # type: ignore[no-untyped-def]
    for wrong in ([-1, 0], [0, 2]):
        with pytest.raises(ValueError, match="outside"):
            operation(torch.zeros(2, 1, device=DEVICE), torch.tensor(wrong, device=DEVICE), 2, "triton")


def test_rows_out_of_range_are_left_out_and_raise_the_flag() -> None:
    from pc_perception.ops.gpu.scatter import scatter_sum_into

    out, flag = torch.zeros(2, 1, device=DEVICE), torch.zeros(1, dtype=torch.int32, device=DEVICE)
    index = torch.tensor([1, -1, 1, 5], device=DEVICE)
    scatter_sum_into(torch.ones(4, 1, device=DEVICE), index, out, flag)
    assert out[:, 0].tolist() == [0, 2]
    assert flag.tolist() == [1]
