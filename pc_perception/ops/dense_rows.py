# SPDX-License-Identifier: Apache-2.0
"""Products of rows with a matrix inside of Numba kernels, in float32 or in bfloat16 with float32 sums.

What surrounds the products of a network (norms, maxima, sums, rounding) then is one kernel with them: a few rows go
through all of it while they are in the nearest cache, and threads need not meet, nor ask Python, in between. Sums stay
in vector registers, as many as there are; at the sizes of our encoders this is the arithmetic's own speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features, llvm_version_info
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic
from torch import Tensor

from .parallel import run_blocks

LANES = 16
"""Sums in a vector; where the machine's vectors are shorter, LLVM takes several."""


def _compiled_for(feature: str) -> bool:
    """Whether Numba compiles for CPUs with a feature: this machine's, unless its environment variables say else."""
    features: str | None = config.CPU_FEATURES  # type: ignore[attr-defined]
    if features is not None:
        return f"+{feature}" in features.split(",")
    name: str | None = config.CPU_NAME  # type: ignore[attr-defined]
    return name in (None, "host") and bool(get_host_cpu_features().get(feature))


ROWS, VECTORS = (8, 2) if _compiled_for("avx512f") else (4, 1)
"""Rows and vectors of columns whose sums the registers hold together."""
COLUMNS = LANES * VECTORS
TILE = 64
"""Rows that go through a kernel together, a multiple of ``ROWS``."""
HAS_PAIRS = _compiled_for("avx512bf16") and llvm_version_info >= (20,)
"""Whether the machine multiplies pairs of bfloat16, and LLVM says so in the words below; elsewhere all is float32."""


@dataclass(frozen=True)
class Packed:
    """A linear layer in the order in which ``multiply`` reads it.

    Attributes:
        weight: (blocks, C_in, COLUMNS) float32, or (blocks, C_in / 2, COLUMNS) uint32, each two bfloat16 that lie one
            above the other; zeros where there are no columns or rows.
        bias: (blocks * COLUMNS,) float32.
        n_out: C_out.
    """

    weight: np.ndarray
    bias: np.ndarray
    n_out: int

    def inputs(self, n_in: int) -> np.ndarray:
        """Return room for a tile of rows of ``n_in`` factors: bfloat16 as uint16, or float32; zeros behind them."""
        pairs = self.weight.dtype == np.uint32
        width = self.weight.shape[1] * (2 if pairs else 1)
        assert n_in <= width
        make = np.empty if n_in == width else np.zeros
        return make((TILE, width), np.uint16 if pairs else np.float32)

    def outputs(self) -> np.ndarray:
        """Return room for a tile of products, float32, not initialised."""
        return np.empty((TILE, len(self.bias)), np.float32)


def pack(weight: Tensor, bias: Tensor | None, low: bool) -> Packed:
    """Pack a linear layer.

    Args:
        weight: (C_out, C_in) float32.
        bias: (C_out,) float32 or None.
        low: round the factors to bfloat16, where the machine multiplies those faster (``HAS_PAIRS``).
    """
    n_out, n_in = weight.shape
    blocks = -(-n_out // COLUMNS)
    whole = weight.new_zeros(blocks * COLUMNS, n_in + n_in % 2)
    whole[:n_out, :n_in] = weight
    sums = np.zeros(blocks * COLUMNS, np.float32)
    if bias is not None:
        sums[:n_out] = bias.numpy()
    if not (low and HAS_PAIRS):
        columns = whole.view(blocks, COLUMNS, -1).transpose(1, 2)
        return Packed(columns.contiguous().numpy(), sums, n_out)
    pairs = whole.bfloat16().view(blocks, COLUMNS, -1, 2).transpose(1, 2).contiguous()
    words = pairs.view(torch.int16).numpy().view(np.uint32)
    return Packed(words.reshape(blocks, -1, COLUMNS), sums, n_out)


def dense(x: Tensor, layer: Packed) -> Tensor:
    """Return (N, C_out) float32, a linear layer of (N, C_in) float32, in inference; rows shared among a ``team``."""
    source, out = x.contiguous().numpy(), torch.empty(len(x), layer.n_out)
    target = out.numpy()

    def work(a: int, b: int) -> None:
        _dense(source[a:b], layer.weight, layer.bias, layer.inputs(x.shape[1]), layer.outputs(), target[a:b])

    run_blocks(work, len(x))
    return out


def norm_dense(x: Tensor, norm: tuple[np.ndarray, np.ndarray], layer: Packed) -> Tensor:
    """Return the same of the rows' layer norm, given by weight and bias (C_in,) float32, epsilon 1e-5."""
    source, out = x.contiguous().numpy(), torch.empty(len(x), layer.n_out)
    target = out.numpy()

    def work(a: int, b: int) -> None:
        room = layer.inputs(x.shape[1]), layer.outputs()
        _norm_dense(source[a:b], *norm, layer.weight, layer.bias, *room, target[a:b])

    run_blocks(work, len(x))
    return out


@njit(cache=True, nogil=True)
def _dense(x, weight, bias, factors, products, out):  # type: ignore[no-untyped-def]
    for start in range(0, len(x), TILE):
        n = min(TILE, len(x) - start)
        for i in range(n):
            put(x[start + i], x[start + i].view(np.uint32), factors[i])
        multiply(factors, weight, bias, products, whole(n))  # type: ignore[call-arg]
        for i in range(n):
            for c in range(out.shape[1]):
                out[start + i, c] = products[i, c]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _norm_dense(x, gain, offset, weight, bias, factors, products, out):  # type: ignore[no-untyped-def]
    row = np.empty(x.shape[1], np.float32)
    for start in range(0, len(x), TILE):
        n = min(TILE, len(x) - start)
        for i in range(n):
            normalize(x[start + i], gain, offset, row)
            put(row, row.view(np.uint32), factors[i])
        multiply(factors, weight, bias, products, whole(n))  # type: ignore[call-arg]
        for i in range(n):
            for c in range(out.shape[1]):
                out[start + i, c] = products[i, c]


@njit(inline="always")
def whole(n):  # type: ignore[no-untyped-def]
    """Round a number of rows up to what ``multiply`` takes."""
    return (n + ROWS - 1) // ROWS * ROWS


@njit(inline="always")
def put(row, bits, out):  # type: ignore[no-untyped-def]
    """Write a float32 row, seen through ``bits`` (uint32) too, as factors: uint16 rounds to bfloat16, ties to even."""
    if out.itemsize == 2:
        for c in range(len(row)):
            out[c] = np.uint16(
                (bits[c] + np.uint32(0x7FFF) + ((bits[c] >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            )
    else:
        for c in range(len(row)):
            out[c] = row[c]


@njit(inline="always")
def normalize(row, weight, bias, out):  # type: ignore[no-untyped-def]
    """Write the layer norm of a row."""
    n = np.float32(len(row))
    mean, square = np.float32(0), np.float32(0)
    for c in range(len(row)):
        mean += row[c]
    mean /= n
    for c in range(len(row)):
        d = row[c] - mean
        square += d * d
    scale = np.float32(1) / np.sqrt(square / n + np.float32(1e-5))
    for c in range(len(row)):
        out[c] = (row[c] - mean) * scale * weight[c] + bias[c]


@intrinsic
def multiply(typing: Any, factors, weight, bias, out, n):  # type: ignore[no-untyped-def]
    """Write bias + factors times weight for the first ``n`` rows, a multiple of ``ROWS``.

    Args:
        factors: (TILE, C_in) as ``Packed.inputs``, bias, weight: as in ``Packed``, out: as ``Packed.outputs``.
    """
    generate = _generate_pairs if factors.dtype == types.uint16 else _generate
    return types.void(factors, weight, bias, out, types.intp), generate


class _BFloat(ir.Type):
    """llvmlite has no such type; LLVM has."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_WORD = ir.IntType(32)
_SUMS = ir.VectorType(ir.FloatType(), LANES)
_WORDS = ir.VectorType(_WORD, LANES)
_PAIRS = ir.VectorType(_BFloat(), 2 * LANES)


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
    def add(total: ir.Value, weight: ir.Value, factor: ir.Value) -> ir.Value:
        product = builder.fmul(weight, factor, flags=("contract",))
        return builder.fadd(total, product, flags=("contract",))

    return _emit(context, builder, signature, values, _SUMS, add)


def _generate_pairs(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
    kind = ir.FunctionType(_SUMS, [_SUMS, _PAIRS, _PAIRS])
    dot = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")

    def add(total: ir.Value, weight: ir.Value, factor: ir.Value) -> ir.Value:
        return builder.call(dot, [total, builder.bitcast(weight, _PAIRS), builder.bitcast(factor, _PAIRS)])

    return _emit(context, builder, signature, values, _WORDS, add)


def _emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any, vector: Any, add: Any) -> Any:
    """Emit the loops: blocks of columns, whose weights stay in the nearest cache, then rows, then C_in."""
    factors, weight, bias, out = (
        context.make_array(kind)(context, builder, value)
        for kind, value in zip(signature.args[:4], values[:4], strict=True)
    )
    blocks, depth, _ = cgutils.unpack_tuple(builder, weight.shape)
    number = blocks.type
    width = builder.mul(blocks, number(COLUMNS))
    source = builder.bitcast(factors.data, vector.element.as_pointer())

    def place(base: ir.Value, at: ir.Value, v: int, kind: ir.Type) -> ir.Value:
        return builder.bitcast(builder.gep(base, [builder.add(at, number(LANES * v))]), kind.as_pointer())

    def spread(value: ir.Value) -> ir.Value:
        alone = builder.insert_element(vector(ir.Undefined), value, _WORD(0))
        return builder.shuffle_vector(alone, vector(ir.Undefined), ir.VectorType(_WORD, LANES)(None))

    # Registers: nobody takes their address.
    sums = [[cgutils.alloca_once(builder, _SUMS) for _ in range(VECTORS)] for _ in range(ROWS)]
    with cgutils.for_range(builder, blocks) as block:
        column = builder.mul(block.index, number(COLUMNS))
        first_weight = builder.mul(column, depth)
        with cgutils.for_range(builder, builder.udiv(values[4], number(ROWS))) as group:
            rows = [builder.add(builder.mul(group.index, number(ROWS)), number(r)) for r in range(ROWS)]
            first_factor = [builder.mul(row, depth) for row in rows]
            for v in range(VECTORS):
                start = builder.load(place(bias.data, column, v, _SUMS), align=4)
                for row_sums in sums:
                    builder.store(start, row_sums[v])
            with cgutils.for_range(builder, depth) as step:
                at = builder.add(first_weight, builder.mul(step.index, number(COLUMNS)))
                weights = [builder.load(place(weight.data, at, v, vector), align=4) for v in range(VECTORS)]
                for first, row_sums in zip(first_factor, sums, strict=True):
                    factor = builder.load(builder.gep(source, [builder.add(first, step.index)]), align=4)
                    everywhere = spread(factor)
                    for total, own in zip(row_sums, weights, strict=True):
                        builder.store(add(builder.load(total), own, everywhere), total)
            for row, row_sums in zip(rows, sums, strict=True):
                to = builder.add(builder.mul(row, width), column)
                for v, total in enumerate(row_sums):
                    builder.store(builder.load(total), place(out.data, to, v, _SUMS), align=4)
    return context.get_dummy_value()
