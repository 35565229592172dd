# SPDX-License-Identifier: Apache-2.0
"""Short causal depthwise convolution along packed sequences, with what it remembers made explicit.

Source: the ShortConv of Gated DeltaNet, arXiv 2412.06464, section 3.4: width 4, no bias, on queries, keys and values.
The last width - 1 tokens are its whole memory; a reset that forgot them would leak one scene into the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional

from .backend import resolve
from .parallel import run_blocks
from .recurrence import Offsets, checked_offsets, on_host


def short_convolution(
    x: Tensor,
    kernel: Tensor,
    offsets: Offsets,
    recent: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve each channel of each sequence with the tokens before it: y_t = sum over j of w_j x_(t - W + 1 + j).

    Args:
        x: (T, C) float tokens, sequences one behind the other; any strides.
        kernel: (C, 1, W) of the same dtype, as of ``nn.Conv1d`` with a group per channel; the last tap is the present.
            Under autocast both are brought to its dtype.
        offsets: where sequences begin and end (``Offsets``); they may be empty.
        recent: (S, W - 1, C) tokens before each sequence, oldest first; None: zeros, a reset.
        backend: ``numba``, ``torch``, ``triton`` or None for the choice by device.

    Returns:
        (T, C), and the (S, W - 1, C) tokens before whatever follows each sequence, both with gradient. NaN reaches
        W - 1 tokens ahead and never another sequence. O(T C W).

    Raises:
        ValueError: shapes or dtypes do not belong together, or offsets do not cut the rows.
    """
    out, *given = _convolve(x, kernel, offsets, recent, backend)
    return out, _last_tokens(*given)


def convolve_whole(x: Tensor, kernel: Tensor, offsets: Offsets, backend: str | None = None) -> Tensor:
    """Return the (T, C) of ``short_convolution`` for sequences that nothing comes before, and nothing after."""
    return _convolve(x, kernel, offsets, None, backend)[0]


def _convolve(
    x: Tensor, kernel: Tensor, offsets: Offsets, recent: Tensor | None, backend: str | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the result, and x, edges and recent as they went into it."""
    if torch.is_autocast_enabled(x.device.type):
        x, kernel = (t.to(torch.get_autocast_dtype(x.device.type)) for t in (x, kernel))
    starts = _check(x, kernel, offsets, recent)
    if recent is None:
        recent = x.new_zeros(len(starts) - 1, kernel.shape[2] - 1, x.shape[1])
    recent, edges = recent.to(x.dtype), torch.as_tensor(starts, device=x.device)
    chosen = resolve(x.device, backend)
    if chosen == "triton" and x.dtype != torch.float64:
        from .gpu.short_convolution import short_convolution as by_triton

        out = by_triton(x, kernel, edges, recent)
    elif chosen == "numba" and x.dtype in (torch.float32, torch.float64):
        out = _ByRows.apply(x, kernel, recent, np.array(on_host(starts)))
    else:
        out = _reference(x, kernel, edges, recent)
    return out, x, edges, recent


def _reference(x: Tensor, kernel: Tensor, edges: Tensor, recent: Tensor) -> Tensor:
    """Put what came before in front of each sequence, convolve all as one, leave out what a boundary runs through."""
    if not len(x):
        return x * kernel[:, 0, 0]
    n_sequences, before = recent.shape[:2]
    number = torch.arange(n_sequences, device=x.device)
    sequence = torch.repeat_interleave(number, edges.diff(), output_size=len(x))
    place = torch.arange(len(x), device=x.device) + before * (sequence + 1)
    of_recent = (edges[:-1] + before * number)[:, None] + torch.arange(before, device=x.device)
    rows = x.new_zeros(len(x) + before * n_sequences, x.shape[1])
    rows = rows.index_copy(0, of_recent.flatten(), recent.flatten(0, 1)).index_copy(0, place, x)
    return functional.conv1d(rows.T[None], kernel, groups=len(kernel))[0].T[place - before]


def _last_tokens(x: Tensor, edges: Tensor, recent: Tensor) -> Tensor:
    """Return the last tokens of each sequence, and of what came before where it was too short to have them all."""
    before = recent.shape[1]
    if not len(x) or not before:
        return recent
    # Counted from the sequence's first token; negative where the place is still one of those before it.
    place = edges.diff()[:, None] + torch.arange(-before, 0, device=x.device)
    old = (place + before).clamp(max=before - 1)[..., None].expand_as(recent)
    row = (edges[:-1, None] + place).clamp(min=0)
    return torch.where((place >= 0)[..., None], x[row], recent.gather(1, old))


def _check(x: Tensor, kernel: Tensor, offsets: Offsets, recent: Tensor | None) -> tuple[int, ...] | Tensor:
    if x.ndim != 2 or kernel.ndim != 3 or tuple(kernel.shape[:2]) != (x.shape[1], 1):
        raise ValueError(
            f"x must be (T, C) and the kernel (C, 1, W), got {tuple(x.shape)} and {tuple(kernel.shape)}"
        )
    if x.dtype != kernel.dtype:
        raise ValueError(f"x is {x.dtype} and the kernel {kernel.dtype}; convert one of them")
    starts = checked_offsets(offsets, len(x))
    wanted = (len(starts) - 1, kernel.shape[2] - 1, x.shape[1])
    if recent is not None and tuple(recent.shape) != wanted:
        raise ValueError(f"recent must be {wanted}, got {tuple(recent.shape)}")
    return starts


class _ByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, kernel, recent, starts = inputs
        rows, step = _flat(x.detach())
        taps, before = np.ascontiguousarray(kernel.detach()[:, 0].T.numpy()), recent.detach().numpy()
        ctx.kept = rows, step, taps, before, starts
        out = np.empty(x.shape, taps.dtype)
        run_blocks(lambda a, b: _forward(rows, step, taps, before, starts, out, a, b), len(x))
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, step, taps, before, starts = ctx.kept  # type: ignore[attr-defined]
        d_out = np.ascontiguousarray(grads[0].numpy())
        found = np.zeros_like(d_out), np.zeros_like(taps), np.zeros_like(before)
        _backward(rows, step, taps, before, starts, d_out, *found)
        d_x, d_kernel, d_recent = (torch.from_numpy(g) for g in found)
        return d_x, d_kernel.T[:, None], d_recent, None


def _flat(x: Tensor) -> tuple[np.ndarray, int]:
    """Return the memory of ``x`` and the distance of its rows: columns of a wider matrix need no copy."""
    if x.stride(1) != 1 or x.stride(0) < x.shape[1]:
        x = x.contiguous()
    step = x.stride(0)
    return x.as_strided((max(len(x) - 1, 0) * step + (x.shape[1] if len(x) else 0),), (1,)).numpy(), step


@njit(cache=True, nogil=True, fastmath=True)
def _forward(rows, step, taps, before, starts, out, begin, end):  # type: ignore[no-untyped-def]
    width, n_channels = taps.shape
    s = np.searchsorted(starts, begin, "right") - 1
    for t in range(begin, end):
        while t >= starts[s + 1]:
            s += 1
        y = out[t]
        for c in range(n_channels):
            y[c] = 0
        for j in range(width):
            source, w = t - width + 1 + j, taps[j]
            if source >= starts[s]:
                x = rows[source * step : source * step + n_channels]
            else:
                x = before[s, source - starts[s] + width - 1]
            for c in range(n_channels):
                y[c] += w[c] * x[c]


@njit(cache=True, nogil=True, fastmath=True)
def _backward(rows, step, taps, before, starts, d_out, d_x, d_taps, d_before):  # type: ignore[no-untyped-def]
    width, n_channels = taps.shape
    for s in range(len(starts) - 1):
        for t in range(starts[s], starts[s + 1]):
            d_y = d_out[t]
            for j in range(width):
                source, w, d_w = t - width + 1 + j, taps[j], d_taps[j]
                if source >= starts[s]:
                    x, d = rows[source * step : source * step + n_channels], d_x[source]
                else:
                    old = source - starts[s] + width - 1
                    x, d = before[s, old], d_before[s, old]
                for c in range(n_channels):
                    d_w[c] += d_y[c] * x[c]
                    d[c] += d_y[c] * w[c]
