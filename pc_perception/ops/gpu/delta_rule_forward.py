# SPDX-License-Identifier: Apache-2.0
"""Kernels of the gated delta rule, forward: all chunks at once, the states one after the other, all chunks again.

Names and formulae as in ``ops/delta_rule_chunks.py``: with T = (I + A)^-1, a chunk's writes are U = T diag(beta) V
- T diag(beta e^G) K S. Products take their operands in the type of the tokens and sum in float32; what decays or is
scaled is the operand that was computed, so that tiles go from memory to the tensor cores as they are. ``P`` says in
what float32 operands are multiplied.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile(base, start, n, h, H: tl.constexpr, C: tl.constexpr, column, WIDTH: tl.constexpr):
    """Load C rows from ``start`` on of head h of a (T, H, WIDTH) tensor; zeros behind the n-th and the last column."""
    row = tl.arange(0, C)[:, None]
    place = base + (start * H + h) * WIDTH + (row * (H * WIDTH) + column[None, :])
    return tl.load(place, mask=(row < n) & (column < WIDTH)[None, :], other=0.0)


@triton.jit
def put(base, value, start, n, h, H: tl.constexpr, C: tl.constexpr, column, WIDTH: tl.constexpr):
    """Store what ``tile`` would load."""
    row = tl.arange(0, C)[:, None]
    place = base + (start * H + h) * WIDTH + (row * (H * WIDTH) + column[None, :])
    tl.store(place, value, mask=(row < n) & (column < WIDTH)[None, :])


@triton.jit
def matrix(base, number, row, ROWS: tl.constexpr, column, COLUMNS: tl.constexpr):
    """Load the ``number``-th of contiguous (ROWS, COLUMNS) matrices, zeros outside."""
    place = base + number * (ROWS * COLUMNS) + (row[:, None] * COLUMNS + column[None, :])
    return tl.load(place, mask=(row < ROWS)[:, None] & (column < COLUMNS)[None, :], other=0.0)


@triton.jit
def put_matrix(base, value, number, row, ROWS: tl.constexpr, column, COLUMNS: tl.constexpr):
    """Store what ``matrix`` would load."""
    place = base + number * (ROWS * COLUMNS) + (row[:, None] * COLUMNS + column[None, :])
    tl.store(place, value, mask=(row < ROWS)[:, None] & (column < COLUMNS)[None, :])


@triton.jit
def chunk_and_head(starts, stops, H: tl.constexpr):
    """Return the chunk and head of this program, and the chunk's first row and number of rows."""
    c, h = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    start = tl.load(starts + c)
    return c, h, start, (tl.load(stops + c) - start).to(tl.int32)


@triton.jit
def column_of(base, start, n, h, H: tl.constexpr, C: tl.constexpr):
    """Load C rows of head h of a (T, H) tensor as float32, zeros behind the n-th."""
    row = tl.arange(0, C)
    return tl.load(base + start * H + h + row * H, mask=row < n, other=0.0).to(tl.float32)


@triton.jit
def decays(gates, c, h, H: tl.constexpr, C: tl.constexpr):
    """Return G and its last element."""
    place = gates + (c * H + h) * C
    return tl.load(place + tl.arange(0, C)), tl.load(place + C - 1)


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
def unit_inverse(A, C: tl.constexpr, P: tl.constexpr):
    """Return (I + A)^-1 of a strictly lower triangular A of 32 or 64 rows.

    Blocks of 16 on the diagonal by elimination, side by side; then pairs of neighbours become one. The series of
    powers of A would end too, but they cancel by many orders of magnitude.
    """
    B: tl.constexpr = C // 16
    b, r = tl.arange(0, B), tl.arange(0, 16)
    same = b[:, None, None, None] == b[None, None, :, None]
    blocks = tl.sum(tl.where(same, A.reshape(B, 16, B, 16), 0.0), 2)
    D = tl.where(r[:, None] == r[None, :], 1.0, 0.0)[None, :, :] + tl.zeros_like(blocks)
    for pivot in range(15):
        down = tl.sum(tl.where(r == pivot, blocks, 0.0), 2)
        across = tl.sum(tl.where(r[:, None] == pivot, D, 0.0), 1)
        D -= down[:, :, None] * across[:, None, :]
    D = tl.where(same, D[:, :, None, :], 0.0).reshape(C, C)
    D = joined(D, A, 16, C, P)
    return joined(D, A, 32, C, P) if C > 32 else D


@triton.jit
def joined(D, A, SIZE: tl.constexpr, C: tl.constexpr, P: tl.constexpr):
    """Return the inverse of the diagonal blocks of 2 SIZE rows of I + A, given that of the blocks of SIZE rows."""
    i = tl.arange(0, C) // SIZE
    pair = (i[:, None] // 2 == i[None, :] // 2) & (i[:, None] != i[None, :])
    return D - tl.dot(D, tl.dot(tl.where(pair, A, 0.0), D, input_precision=P), input_precision=P)


@triton.jit
def prepare(
    k, v, log_decay, beta, starts, stops, gates, own, from_state, solved,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Write G to ``gates``, T diag(beta) V to ``own``, T diag(beta e^G) K to ``from_state`` and, for the way back, T
    to ``solved`` unless that is None; a program per chunk and head."""
    c, h, start, n = chunk_and_head(starts, stops, H)
    if n <= 0:
        return
    key = tl.arange(0, BK)
    K = tile(k, start, n, h, H, C, key, DK)
    b = column_of(beta, start, n, h, H, C)
    G = tl.cumsum(column_of(log_decay, start, n, h, H, C), 0)
    tl.store(gates + (c * H + h) * C + tl.arange(0, C), G)
    A = b[:, None] * decay_ratio(G, C) * tl.dot(K, tl.trans(K), input_precision=P)
    T = unit_inverse(strictly_lower(A, C), C, P)
    if solved is not None:
        i = tl.arange(0, C)
        put_matrix(solved, T, c * H + h, i, C, i, C)
    T *= b[None, :]
    W = tl.dot((T * tl.exp(G)[None, :]).to(K.dtype), K, input_precision=P)
    put(from_state, W, start, n, h, H, C, key, DK)
    for first in range(0, DV, BV):
        value = first + tl.arange(0, BV)
        V = tile(v, start, n, h, H, C, value, DV)
        put(own, tl.dot(T.to(V.dtype), V, input_precision=P), start, n, h, H, C, value, DV)


@triton.jit
def walk(
    k, gates, edges, first, from_state, u, state, states, final,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Turn ``own``, which comes in ``u``, into the writes U, keeping the state before every chunk in ``states``.

    A program per head of a sequence and block of values: the only loop from chunk to chunk. S stays in float32.
    """
    s, h = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    key, value = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    begin, end = tl.load(edges + s), tl.load(edges + s + 1)
    first_chunk = tl.load(first + s)
    S = matrix(state, s * H + h, key, DK, value, DV)
    for i in range((tl.load(first + s + 1) - first_chunk).to(tl.int32)):
        c, start = first_chunk + i, begin + i * C
        n = (end - start).to(tl.int32)
        put_matrix(states, S, c * H + h, key, DK, value, DV)
        W = tile(from_state, start, n, h, H, C, key, DK)
        U = tile(u, start, n, h, H, C, value, DV) - tl.dot(W, S.to(W.dtype), input_precision=P)
        put(u, U, start, n, h, H, C, value, DV)
        G, whole = decays(gates, c, h, H, C)
        K = tile(k, start, n, h, H, C, key, DK)
        U *= tl.exp(whole - G)[:, None]
        S = tl.dot(tl.trans(K), U.to(K.dtype), tl.exp(whole) * S, input_precision=P)
    put_matrix(final, S, s * H + h, key, DK, value, DV)


@triton.jit
def read(
    q, k, gates, starts, stops, u, states, out,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Write what the queries read; a program per chunk and head, and block of values."""
    c, h, start, n = chunk_and_head(starts, stops, H)
    if n <= 0:
        return
    key, value = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    Q, K = tile(q, start, n, h, H, C, key, DK), tile(k, start, n, h, H, C, key, DK)
    G, _ = decays(gates, c, h, H, C)
    S = matrix(states, c * H + h, key, DK, value, DV)
    U = tile(u, start, n, h, H, C, value, DV)
    reads = decay_ratio(G, C) * tl.dot(Q, tl.trans(K), input_precision=P)
    from_state = tl.exp(G)[:, None] * tl.dot(Q, S, input_precision=P)
    O = tl.dot(reads.to(U.dtype), U, from_state, input_precision=P)  # noqa: E741 - the paper's name
    put(out, O, start, n, h, H, C, value, DV)
