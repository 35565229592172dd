# SPDX-License-Identifier: Apache-2.0
"""Sum, mean and maximum of the rows that share an index, with gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from .backend import resolve
from .packed import check_out


def scatter_sum(
    values: Tensor, index: Tensor, n_rows: int, backend: str | None = None, out: Tensor | None = None
) -> Tensor:
    """Add up the rows of ``values`` that share an index.

    Args:
        values: (N, C) float32 or float64, any strides; NaN and Inf stay within their row and column.
        index: (N,) int64, each in 0 .. n_rows - 1, in any order.
        n_rows: rows of the result; N = 0 is allowed.
        out: takes the result if given; then there is no gradient, and NumPy and torch allocate nothing on the CPU.

    Returns:
        (n_rows, C) of the dtype of ``values``, zero for a row without any. On the CPU sums are kept in float64, in
        input order: the same on every call, and hardly ever changed by another order. The gradient of a row of
        ``values`` is that of the sum it went to. O(N C).

    Raises:
        ValueError: a wrong shape or dtype, an index out of range, or an ``out`` that does not fit.
    """
    return _add_up(values, index, n_rows, False, backend, out)


def scatter_mean(
    values: Tensor, index: Tensor, n_rows: int, backend: str | None = None, out: Tensor | None = None
) -> Tensor:
    """Average the rows of ``values`` that share an index; otherwise as ``scatter_sum``."""
    return _add_up(values, index, n_rows, True, backend, out)


def scatter_max(
    values: Tensor, index: Tensor, n_rows: int, backend: str | None = None, out: Tensor | None = None
) -> Tensor:
    """Take the elementwise maximum of the rows of ``values`` that share an index; otherwise as ``scatter_sum``.

    NaN counts as greater than any number. The gradient goes to the first row that reached the maximum.
    """
    _check(values, index)
    chosen = resolve(values.device, backend)
    if out is not None:
        _check_out(out, values, n_rows)
        if chosen != "numba":
            return out.copy_(scatter_max(values.detach(), index, n_rows, backend))
        if not _max_alone(values.detach().numpy(), index.numpy(), out.numpy()):
            _check_range(index, n_rows)
        return out
    if chosen == "numba":
        return _Max.apply(values, index, n_rows)
    if chosen == "triton":
        from .gpu.scatter import maximum

        return maximum(values, index, n_rows)
    _check_range(index, n_rows)
    if not len(values):
        return values.new_zeros(n_rows, values.shape[1])
    to = index[:, None].expand_as(values)
    best = values.new_full((n_rows, values.shape[1]), -torch.inf)
    best = best.scatter_reduce_(0, to, values.detach(), "amax")
    reached = (values.detach() == best.gather(0, to)) | values.isnan()
    row = torch.arange(len(values), device=values.device)[:, None].expand_as(values)
    winner = torch.full_like(best, len(values), dtype=torch.int64)
    winner.scatter_reduce_(0, to, torch.where(reached, row, len(values)), "amin")
    found = winner < len(values)
    return torch.where(found, values.gather(0, winner.clamp(max=len(values) - 1)), 0)


def _add_up(
    values: Tensor, index: Tensor, n_rows: int, mean: bool, backend: str | None, out: Tensor | None = None
) -> Tensor:
    _check(values, index)
    chosen = resolve(values.device, backend)
    if out is not None:
        _check_out(out, values, n_rows)
        if chosen != "numba":
            return out.copy_(_add_up(values.detach(), index, n_rows, mean, backend))
        return _add_up_into(values.detach(), index, mean, out)
    if chosen == "numba":
        return _Sum.apply(values, index, n_rows, mean)
    if chosen == "triton":
        from .gpu.scatter import add_up

        return add_up(values, index, n_rows, mean)
    _check_range(index, n_rows)
    total = values.new_zeros(n_rows, values.shape[1]).index_add(0, index, values)
    if not mean:
        return total
    return total / torch.bincount(index, minlength=n_rows).clamp_(min=1)[:, None].to(values.dtype)


def _check(values: Tensor, index: Tensor) -> None:
    if values.ndim != 2 or index.shape != values.shape[:1] or index.dtype != torch.int64:
        shapes = f"{tuple(values.shape)} and {tuple(index.shape)} {index.dtype}"
        raise ValueError(f"values must be (N, C) and the index (N,) int64, they are {shapes}")
    if values.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"values must be float32 or float64, they are {values.dtype}; convert them")


def _check_out(out: Tensor, values: Tensor, n_rows: int) -> None:
    if values.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "values need a gradient, which a result in out has not; leave out away or detach the values"
        )
    check_out(out, (n_rows, values.shape[1]), values.dtype, values.device)


def _check_range(index: Tensor, n_rows: int) -> None:
    if len(index) and not (int(index.min()) >= 0 and int(index.max()) < n_rows):
        raise ValueError(f"an index is outside 0 .. {n_rows - 1}")


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, n_rows: int, mean: bool) -> Tensor:
        out = _add_up_into(values.detach(), index, mean, values.new_empty(n_rows, values.shape[1]))
        ctx.save_for_backward(index)
        ctx.mean = mean
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (index,), grad = ctx.saved_tensors, grads[0]
        if ctx.mean:
            grad = grad / torch.bincount(index, minlength=len(grad)).clamp_(min=1)[:, None].to(grad.dtype)
        return grad[index], None, None, None


class _Max(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, n_rows: int) -> Tensor:
        out = np.zeros((n_rows, values.shape[1]), values.detach().numpy().dtype)
        winner = np.full(out.shape, -1, np.int64)
        if not _max(values.detach().numpy(), index.numpy(), out, winner):
            _check_range(index, n_rows)
        ctx.winner, ctx.n = winner, len(values)
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        grad = grads[0].numpy()
        d_values = np.zeros((ctx.n, grad.shape[1]), grad.dtype)
        row, column = np.nonzero(ctx.winner >= 0)
        d_values[ctx.winner[row, column], column] = grad[row, column]
        return torch.from_numpy(d_values), None, None


def _add_up_into(values: Tensor, index: Tensor, mean: bool, out: Tensor) -> Tensor:
    if not _sum(values.numpy(), index.numpy(), mean, out.numpy()):
        _check_range(index, len(out))
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _sum(values: np.ndarray, index: np.ndarray, mean: bool, out: np.ndarray) -> bool:
    """Write sums or means; return False where an index is out of range."""
    total, count = np.zeros(out.shape, np.float64), np.zeros(len(out), np.float64)
    for i in range(len(values)):
        s = index[i]
        if s < 0 or s >= len(out):
            return False
        count[s] += 1
        for c in range(values.shape[1]):
            total[s, c] += values[i, c]
    for s in range(len(out)):
        share = max(count[s], 1.0) if mean else 1.0
        for c in range(values.shape[1]):
            out[s, c] = total[s, c] / share
    return True


@njit(cache=True, nogil=True)
def _max(values: np.ndarray, index: np.ndarray, out: np.ndarray, winner: np.ndarray) -> bool:
    for i in range(len(values)):
        s = index[i]
        if s < 0 or s >= len(out):
            return False
        for c in range(values.shape[1]):
            v, best = values[i, c], out[s, c]
            if winner[s, c] < 0 or v > best or (v != v and best == best):
                out[s, c] = v
                winner[s, c] = i
    return True


@njit(cache=True, nogil=True)
def _max_alone(values: np.ndarray, index: np.ndarray, out: np.ndarray) -> bool:
    """Do as ``_max`` where nobody asks which rows the maxima came from."""
    out[:] = 0
    return _max(values, index, out, np.full(out.shape, -1, np.int64))
