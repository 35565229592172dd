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
    chunk_and_head,
    column_of,
    decay_ratio,
    decays,
    matrix,
    put,
    put_matrix,
    strictly_lower,
    tile,
)


@triton.jit
def read_back(
    q, k, gates, starts, stops, d_out, d_u,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Write P^T dO, the part of dU that stays in the chunk; a program per chunk and head, and block of values."""
    c, h, start, n = chunk_and_head(starts, stops, H)
    if n <= 0:
        return
    key, value = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    Q, K = tile(q, start, n, h, H, C, key, DK), tile(k, start, n, h, H, C, key, DK)
    dO = tile(d_out, start, n, h, H, C, value, DV)
    G, _ = decays(gates, c, h, H, C)
    reads = decay_ratio(G, C) * tl.dot(Q, tl.trans(K), input_precision=P)
    dU = tl.dot(tl.trans(reads.to(dO.dtype)), dO, input_precision=P)
    put(d_u, dU, start, n, h, H, C, value, DV)


@triton.jit
def walk_back(
    q, k, gates, edges, first, from_state, d_out, d_u, d_final, d_states, d_state,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Complete dU and keep the gradient by the state after every chunk; a program per head
    of a sequence and block of values."""
    s, h = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    key, value = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    begin, end = tl.load(edges + s), tl.load(edges + s + 1)
    first_chunk = tl.load(first + s)
    n_chunks = (tl.load(first + s + 1) - first_chunk).to(tl.int32)
    D = matrix(d_final, s * H + h, key, DK, value, DV)
    for done in range(n_chunks):
        i = n_chunks - 1 - done
        c, start = first_chunk + i, begin + i * C
        n = (end - start).to(tl.int32)
        put_matrix(d_states, D, c * H + h, key, DK, value, DV)
        G, whole = decays(gates, c, h, H, C)
        K = tile(k, start, n, h, H, C, key, DK)
        dU = tl.exp(whole - G)[:, None] * tl.dot(K, D.to(K.dtype), input_precision=P)
        dU += tile(d_u, start, n, h, H, C, value, DV)
        put(d_u, dU, start, n, h, H, C, value, DV)
        Q, W = tile(q, start, n, h, H, C, key, DK), tile(from_state, start, n, h, H, C, key, DK)
        dO = tl.exp(G)[:, None] * tile(d_out, start, n, h, H, C, value, DV)
        D = tl.dot(tl.trans(Q), dO.to(Q.dtype), tl.exp(whole) * D, input_precision=P)
        D = tl.dot(tl.trans(W), (-dU).to(W.dtype), D, input_precision=P)
    put_matrix(d_state, D, s * H + h, key, DK, value, DV)


@triton.jit
def tokens_back(
    q, k, v, beta, gates, starts, stops, solved, u, states, d_out, d_u, d_states,
    d_q, d_k, d_v, d_log_decay, d_beta,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Write the gradients by the tokens; a program per chunk and head, which sums over blocks of values."""
    c, h, start, n = chunk_and_head(starts, stops, H)
    if n <= 0:
        return
    i, key = tl.arange(0, C), tl.arange(0, BK)
    T = tl.trans(matrix(solved, c * H + h, i, C, i, C))
    b = column_of(beta, start, n, h, H, C)
    dP, dA = tl.zeros((C, C), tl.float32), tl.zeros((C, C), tl.float32)
    OS, YS, UD = tl.zeros((C, BK), tl.float32), tl.zeros((C, BK), tl.float32), tl.zeros((C, BK), tl.float32)
    to_beta, carried = tl.zeros((C,), tl.float32), 0.0
    for begin in range(0, DV, BV):
        value = begin + tl.arange(0, BV)
        S = matrix(states, c * H + h, key, DK, value, DV)
        D = matrix(d_states, c * H + h, key, DK, value, DV)
        carried += tl.sum(S.to(tl.float32) * D.to(tl.float32))
        U, dO = tile(u, start, n, h, H, C, value, DV), tile(d_out, start, n, h, H, C, value, DV)
        Y = tl.dot(T, tile(d_u, start, n, h, H, C, value, DV), input_precision=P)
        put(d_v, b[:, None] * Y, start, n, h, H, C, value, DV)
        to_beta += tl.sum(Y * tile(v, start, n, h, H, C, value, DV), 1)
        Y = Y.to(U.dtype)
        dP = tl.dot(dO, tl.trans(U), dP, input_precision=P)
        dA = tl.dot(Y, tl.trans(U), dA, input_precision=P)
        OS = tl.dot(dO, tl.trans(S), OS, input_precision=P)
        YS = tl.dot(Y, tl.trans(S), YS, input_precision=P)
        UD = tl.dot(U, tl.trans(D), UD, input_precision=P)
    K = tile(k, start, n, h, H, C, key, DK)
    G, whole = decays(gates, c, h, H, C)
    grown, to_end = tl.exp(G), tl.exp(whole - G)
    key_by_state = grown * tl.sum(K * YS, 1)
    late = to_end * tl.sum(K * UD, 1)
    dK = to_end[:, None] * UD - (b * grown)[:, None] * YS
    Q = tile(q, start, n, h, H, C, key, DK)
    dQ = grown[:, None] * OS
    to_G = tl.sum(Q * dQ, 1) - b * key_by_state - late
    to_G += tl.where(i == C - 1, tl.sum(late, 0) + tl.exp(whole) * carried, 0.0)
    # What was read inside the chunk, and the triangular matrix: both hold the decay ratio and products with K.
    ratio = decay_ratio(G, C)
    inner, outer = dP * ratio, strictly_lower(-dA * ratio, C)
    M = inner * tl.dot(Q, tl.trans(K), input_precision=P)
    N = outer * tl.dot(K, tl.trans(K), input_precision=P)
    to_beta += tl.sum(N, 1) - key_by_state
    M += b[:, None] * N
    to_G += tl.sum(M, 1) - tl.sum(M, 0)
    inner = inner.to(K.dtype)
    put(d_q, tl.dot(inner, K, dQ, input_precision=P), start, n, h, H, C, key, DK)
    outer *= b[:, None]
    dK = tl.dot(tl.trans(inner), Q, dK, input_precision=P)
    dK = tl.dot((outer + tl.trans(outer)).to(K.dtype), K, dK, input_precision=P)
    put(d_k, dK, start, n, h, H, C, key, DK)
    place = start * H + h + i * H
    tl.store(d_beta + place, to_beta, mask=i < n)
    tl.store(d_log_decay + place, tl.cumsum(to_G, 0, reverse=True), mask=i < n)
