# SPDX-License-Identifier: Apache-2.0
"""Kernels of the gated delta rule, backward, in the mirrored order of the forward ones.

With dO the gradient by what was read, D that by the state after a chunk, S the state before it, P = ratio QK^T and
Y = T^T dU the gradient by the right side beta (V - e^G K S), the formulae are those of the products one by one; the
gradient by A is -Y U^T, because A U is all that A does.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .delta_rule_forward import (
    column_of,
    decay_ratio,
    matrix,
    put,
    rows_of_chunk,
    strictly_lower,
    tile,
    unit_inverse,
)


@triton.jit
def read_back(
    q, k, log_decay, starts, stops, d_out, d_u,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Write P^T dO, the part of dU that stays in the chunk; a program per chunk, head and block of values."""
    h, key = tl.program_id(1), tl.arange(0, BK)
    value = tl.program_id(2) * BV + tl.arange(0, BV)
    row, inside = rows_of_chunk(starts, stops, tl.program_id(0), C)
    G = tl.cumsum(column_of(log_decay, row, inside, h, H), 0)
    Q, K = tile(q, row, inside, h, H, key, DK), tile(k, row, inside, h, H, key, DK)
    reads = decay_ratio(G, C) * tl.dot(Q, tl.trans(K), input_precision=P)
    dO = tile(d_out, row, inside, h, H, value, DV)
    put(d_u, tl.dot(tl.trans(reads), dO, input_precision=P), row, inside, h, H, value, DV)


@triton.jit
def walk_back(
    q, k, log_decay, edges, first, from_state, d_out, d_u, d_final, d_states, d_state,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Complete dU and keep the gradient by the state after every chunk; a program per head
    of a sequence and block of values."""
    s, h = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    key, value = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    start, end = tl.load(edges + s), tl.load(edges + s + 1)
    begin_chunk, end_chunk = tl.load(first + s), tl.load(first + s + 1)
    place, mask = matrix(d_final, s * H + h, key, DK, value, DV)
    D = tl.load(place, mask=mask, other=0.0)
    for i in range(end_chunk - begin_chunk):
        c = end_chunk - 1 - i
        row = start + (c - begin_chunk) * C + tl.arange(0, C)
        inside = row < end
        place, mask = matrix(d_states, c * H + h, key, DK, value, DV)
        tl.store(place, D, mask=mask)
        g = column_of(log_decay, row, inside, h, H)
        G, whole = tl.cumsum(g, 0), tl.sum(g, 0)
        K = tl.exp(whole - G)[:, None] * tile(k, row, inside, h, H, key, DK)
        dU = tile(d_u, row, inside, h, H, value, DV) + tl.dot(K, D, input_precision=P)
        put(d_u, dU, row, inside, h, H, value, DV)
        Q = tl.exp(G)[:, None] * tile(q, row, inside, h, H, key, DK)
        W = tile(from_state, row, inside, h, H, key, DK)
        dO = tile(d_out, row, inside, h, H, value, DV)
        D = tl.exp(whole) * D + tl.dot(tl.trans(Q), dO, input_precision=P)
        D -= tl.dot(tl.trans(W), dU, input_precision=P)
    place, mask = matrix(d_state, s * H + h, key, DK, value, DV)
    tl.store(place, D, mask=mask)


@triton.jit
def tokens_back(
    q, k, v, log_decay, beta, starts, stops, u, states, d_out, d_u, d_states,
    d_q, d_k, d_v, d_log_decay, d_beta,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Write the gradients by the tokens; a program per chunk and head, which sums over blocks of values."""
    c, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    key = tl.arange(0, BK)
    row, inside = rows_of_chunk(starts, stops, c, C)
    filled = tl.load(starts + c) < tl.load(stops + c)
    g, b = column_of(log_decay, row, inside, h, H), column_of(beta, row, inside, h, H)
    G, whole = tl.cumsum(g, 0), tl.sum(g, 0)
    K = tile(k, row, inside, h, H, key, DK)
    ratio = decay_ratio(G, C)
    B = strictly_lower(ratio * tl.dot(K, tl.trans(K), input_precision=P), C)
    T = tl.trans(unit_inverse(b[:, None] * B, C))
    dP, dA = tl.zeros((C, C), tl.float32), tl.zeros((C, C), tl.float32)
    OS, YS, UD = tl.zeros((C, BK), tl.float32), tl.zeros((C, BK), tl.float32), tl.zeros((C, BK), tl.float32)
    to_beta, carried = tl.zeros((C,), tl.float32), 0.0
    for begin in range(0, DV, BV):
        value = begin + tl.arange(0, BV)
        place, mask = matrix(states, c * H + h, key, DK, value, DV)
        S = tl.load(place, mask=mask & filled, other=0.0)
        place, mask = matrix(d_states, c * H + h, key, DK, value, DV)
        D = tl.load(place, mask=mask & filled, other=0.0)
        carried += tl.sum(S * D)
        U, dO = tile(u, row, inside, h, H, value, DV), tile(d_out, row, inside, h, H, value, DV)
        Y = tl.dot(T, tile(d_u, row, inside, h, H, value, DV), input_precision=P)
        put(d_v, b[:, None] * Y, row, inside, h, H, value, DV)
        to_beta += tl.sum(Y * tile(v, row, inside, h, H, value, DV), 1)
        dP = tl.dot(dO, tl.trans(U), dP, input_precision=P)
        dA = tl.dot(Y, tl.trans(U), dA, input_precision=P)
        OS = tl.dot(dO, tl.trans(S), OS, input_precision=P)
        YS = tl.dot(Y, tl.trans(S), YS, input_precision=P)
        UD = tl.dot(U, tl.trans(D), UD, input_precision=P)
    Q = tile(q, row, inside, h, H, key, DK)
    grown, to_end = tl.exp(G), tl.exp(whole - G)
    key_by_state = grown * tl.sum(K * YS, 1)
    to_beta -= key_by_state
    to_G = grown * tl.sum(Q * OS, 1) - b * key_by_state
    late = to_end * tl.sum(K * UD, 1)
    to_G += tl.where(tl.arange(0, C) == C - 1, tl.sum(late, 0) + tl.exp(whole) * carried, 0.0) - late
    # What was read inside the chunk, and the triangular matrix: both hold the decay ratio and products with K.
    inner = dP * ratio
    M = inner * tl.dot(Q, tl.trans(K), input_precision=P)
    N = -dA * B
    to_beta += tl.sum(N, 1)
    M += b[:, None] * N
    to_G += tl.sum(M, 1) - tl.sum(M, 0)
    outer = strictly_lower(-dA * b[:, None] * ratio, C)
    dQ = grown[:, None] * OS + tl.dot(inner, K, input_precision=P)
    dK = to_end[:, None] * UD - (b * grown)[:, None] * YS + tl.dot(tl.trans(inner), Q, input_precision=P)
    dK += tl.dot(outer + tl.trans(outer), K, input_precision=P)
    put(d_q, dQ, row, inside, h, H, key, DK)
    put(d_k, dK, row, inside, h, H, key, DK)
    tl.store(d_beta + row * H + h, to_beta, mask=inside)
    tl.store(d_log_decay + row * H + h, tl.cumsum(to_G, 0, reverse=True), mask=inside)
