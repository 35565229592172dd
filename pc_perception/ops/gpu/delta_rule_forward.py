# SPDX-License-Identifier: Apache-2.0
"""Kernels of the gated delta rule, forward: all chunks at once, the states one after the other, all chunks again.

Names and formulae as in ``ops/delta_rule_chunks.py``: with T = (I + A)^-1, a chunk's writes are U = T diag(beta) V
- T diag(beta e^G) K S. Everything is float32 in registers; ``P`` says in what the tensor cores multiply.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile(base, row, inside, h, H: tl.constexpr, column, WIDTH: tl.constexpr):
    """Load rows of head h of a (T, H, WIDTH) tensor as float32, zeros outside."""
    place = (row[:, None] * H + h) * WIDTH + column[None, :]
    return tl.load(base + place, mask=inside[:, None] & (column < WIDTH)[None, :], other=0.0).to(tl.float32)


@triton.jit
def put(base, value, row, inside, h, H: tl.constexpr, column, WIDTH: tl.constexpr):
    """Store what ``tile`` would load."""
    place = (row[:, None] * H + h) * WIDTH + column[None, :]
    tl.store(base + place, value, mask=inside[:, None] & (column < WIDTH)[None, :])


@triton.jit
def matrix(base, number, row, ROWS: tl.constexpr, column, COLUMNS: tl.constexpr):
    """Return pointers into, and the mask of, the ``number``-th of contiguous (ROWS, COLUMNS) matrices."""
    place = number * (ROWS * COLUMNS) + row[:, None] * COLUMNS + column[None, :]
    return base + place, (row < ROWS)[:, None] & (column < COLUMNS)[None, :]


@triton.jit
def rows_of_chunk(starts, stops, c, C: tl.constexpr):
    """Return the rows of chunk c and which of them it has."""
    row = tl.load(starts + c) + tl.arange(0, C)
    return row, row < tl.load(stops + c)


@triton.jit
def column_of(base, row, inside, h, H: tl.constexpr):
    """Load rows of head h of a (T, H) tensor as float32, zeros outside."""
    return tl.load(base + row * H + h, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def decay_ratio(G, C: tl.constexpr):
    """Return e^(G_i - G_j) for i >= j, else 0; masked before exp, which would overflow."""
    i = tl.arange(0, C)
    lower = i[:, None] >= i[None, :]
    return tl.where(lower, tl.exp(tl.where(lower, G[:, None] - G[None, :], 0.0)), 0.0)


@triton.jit
def strictly_lower(A, C: tl.constexpr):
    """Return A with zeros on and above the diagonal."""
    i = tl.arange(0, C)
    return tl.where(i[:, None] > i[None, :], A, 0.0)


@triton.jit
def unit_inverse(A, C: tl.constexpr):
    """Return (I + A)^-1 of a strictly lower triangular A of at most 64 rows.

    Blocks of 16 on the diagonal by elimination, all at once. With D their inverse, N = D (A - blocks) has N^4 = 0, so
    (I + N)^-1 = (I - N)(I + N^2) exactly. The same series over single rows would end too, but its powers cancel by
    many orders of magnitude.
    """
    i = tl.arange(0, C)
    block = i // 16
    same = block[:, None] == block[None, :]
    D = tl.where(i[:, None] == i[None, :], 1.0, 0.0)
    for r in range(15):
        pivot = block * 16 + r
        down = tl.sum(tl.where(i[None, :] == pivot[:, None], A, 0.0), 1)
        across = tl.sum(tl.where(i[:, None] == pivot[None, :], D, 0.0), 0)
        D -= tl.where(same, down[:, None] * across[None, :], 0.0)
    N = tl.dot(D, tl.where(same, 0.0, A), input_precision="tf32x3")
    D += tl.dot(tl.dot(N, N, input_precision="tf32x3"), D, input_precision="tf32x3")
    return D - tl.dot(N, D, input_precision="tf32x3")


@triton.jit
def prepare(
    k, v, log_decay, beta, starts, stops, own, from_state,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Write T diag(beta) V to ``own`` and T diag(beta e^G) K to ``from_state``; a program per chunk and head."""
    h, column = tl.program_id(1), tl.arange(0, BK)
    row, inside = rows_of_chunk(starts, stops, tl.program_id(0), C)
    G = tl.cumsum(column_of(log_decay, row, inside, h, H), 0)
    b = column_of(beta, row, inside, h, H)[:, None]
    K = tile(k, row, inside, h, H, column, DK)
    A = strictly_lower(b * decay_ratio(G, C) * tl.dot(K, tl.trans(K), input_precision=P), C)
    T = unit_inverse(A, C)
    put(from_state, tl.dot(T, b * tl.exp(G)[:, None] * K, input_precision=P), row, inside, h, H, column, DK)
    for first in range(0, DV, BV):
        value = first + tl.arange(0, BV)
        V = tile(v, row, inside, h, H, value, DV)
        put(own, tl.dot(T, b * V, input_precision=P), row, inside, h, H, value, DV)


@triton.jit
def walk(
    k, log_decay, edges, first, from_state, u, state, states, final,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Turn ``own``, which comes in ``u``, into the writes U, keeping the state before every chunk in ``states``.

    A program per head of a sequence and block of values: the only loop from chunk to chunk.
    """
    s, h = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    key, value = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    begin, end = tl.load(edges + s), tl.load(edges + s + 1)
    place, mask = matrix(state, s * H + h, key, DK, value, DV)
    S = tl.load(place, mask=mask, other=0.0)
    for c in range(tl.load(first + s), tl.load(first + s + 1)):
        row = begin + tl.arange(0, C)
        inside = row < end
        place, mask = matrix(states, c * H + h, key, DK, value, DV)
        tl.store(place, S, mask=mask)
        W = tile(from_state, row, inside, h, H, key, DK)
        U = tile(u, row, inside, h, H, value, DV) - tl.dot(W, S, input_precision=P)
        put(u, U, row, inside, h, H, value, DV)
        g = column_of(log_decay, row, inside, h, H)
        G, whole = tl.cumsum(g, 0), tl.sum(g, 0)
        K = tl.exp(whole - G)[:, None] * tile(k, row, inside, h, H, key, DK)
        S = tl.exp(whole) * S + tl.dot(tl.trans(K), U, input_precision=P)
        begin += C
    place, mask = matrix(final, s * H + h, key, DK, value, DV)
    tl.store(place, S, mask=mask)


@triton.jit
def read(
    q, k, log_decay, starts, stops, u, states, out,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Write what the queries read; a program per chunk, head and block of values."""
    c, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    key, value = tl.arange(0, BK), tl.program_id(2) * BV + tl.arange(0, BV)
    row, inside = rows_of_chunk(starts, stops, c, C)
    G = tl.cumsum(column_of(log_decay, row, inside, h, H), 0)
    Q, K = tile(q, row, inside, h, H, key, DK), tile(k, row, inside, h, H, key, DK)
    U = tile(u, row, inside, h, H, value, DV)
    place, mask = matrix(states, c * H + h, key, DK, value, DV)
    S = tl.load(place, mask=mask & (tl.load(starts + c) < tl.load(stops + c)), other=0.0)
    from_state = tl.exp(G)[:, None] * tl.dot(Q, S, input_precision=P)
    reads = decay_ratio(G, C) * tl.dot(Q, tl.trans(K), input_precision=P)
    put(out, from_state + tl.dot(reads, U, input_precision=P), row, inside, h, H, value, DV)
