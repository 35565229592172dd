# SPDX-License-Identifier: Apache-2.0
"""Add products of rows with a matrix to other rows, the sums in vector registers: the heart of sparse convolution.

For a loop nest like this one LLVM reads and writes the sums at every step; written down as vectors they stay where
they are, and neither the rows nor their products are copied in between.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR_BYTES = 64
"""Of one sum; where the machine's vectors are shorter, LLVM takes several."""
AT_ONCE = 8
"""Rows at a time: as many sums as it takes for a multiply-add never to wait for the one before."""


def lanes(itemsize: int) -> int:
    """Return how many numbers of so many bytes a sum holds."""
    return VECTOR_BYTES // itemsize


@njit(cache=True, nogil=True)
def add_products(x, weight, in_row, out_row, starts, out, begin, end):  # type: ignore[no-untyped-def]
    """Add ``x[in_row] @ weight[k]`` to the rows ``out_row`` of ``out`` for the pairs of each k.

    Args:
        x: (M, C) float32 or float64, contiguous, as the others.
        weight: (K, C, D) of the same dtype.
        in_row, out_row: (E,) int64; those of k lie at ``starts[k]:starts[k + 1]``, and no row of ``out`` comes twice
            there.
        out: (N, D) of the same dtype.
        begin, end: the columns to fill, multiples of ``lanes``.
    """
    for k in range(len(weight)):
        sources, targets = in_row[starts[k] : starts[k + 1]], out_row[starts[k] : starts[k + 1]]
        for first in range(0, len(sources), AT_ONCE):
            for column in range(begin, end, VECTOR_BYTES // x.itemsize):
                _add_tile(x, weight[k], sources, targets, out, first, column)  # type: ignore[call-arg]


@intrinsic
def _add_tile(typing: Any, x, matrix, in_row, out_row, out, first, column):  # type: ignore[no-untyped-def]
    """Do the above for ``AT_ONCE`` pairs from ``first`` on and for one vector of columns.

    Past the last pair that one comes again, which changes nothing: all sums are read before any is written.
    """
    return types.void(x, matrix, in_row, out_row, out, first, column), _generate


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
    x, matrix, in_row, out_row, out = (
        context.make_array(kind)(context, builder, value)
        for kind, value in zip(signature.args[:5], values[:5], strict=True)
    )
    first, column = values[5:]
    itemsize = signature.args[0].dtype.bitwidth // 8
    vector = ir.VectorType(context.get_value_type(signature.args[0].dtype), lanes(itemsize))
    depth, width = cgutils.unpack_tuple(builder, matrix.shape)
    last = builder.sub(builder.extract_value(in_row.shape, 0), first.type(1))

    def vector_at(base: ir.Value, place: ir.Value) -> ir.Value:
        return builder.bitcast(builder.gep(base, [place]), vector.as_pointer())

    def spread(number: ir.Value) -> ir.Value:
        alone = builder.insert_element(vector(ir.Undefined), number, ir.IntType(32)(0))
        everywhere = ir.VectorType(ir.IntType(32), vector.count)([0] * vector.count)
        return builder.shuffle_vector(alone, alone, everywhere)

    sources, targets, sums = [], [], []
    for i in range(AT_ONCE):
        pair = builder.add(first, first.type(i))
        pair = builder.select(builder.icmp_signed("<", pair, last), pair, last)
        row_in, row_out = (builder.load(builder.gep(rows.data, [pair])) for rows in (in_row, out_row))
        sources.append(builder.gep(x.data, [builder.mul(row_in, depth)]))
        targets.append(vector_at(out.data, builder.add(builder.mul(row_out, width), column)))
        sums.append(cgutils.alloca_once(builder, vector))  # a register: nobody takes its address
        builder.store(builder.load(targets[i], align=itemsize), sums[i])
    with cgutils.for_range(builder, depth) as loop:
        place = builder.add(builder.mul(loop.index, width), column)
        factors = builder.load(vector_at(matrix.data, place), align=itemsize)
        for source, total in zip(sources, sums, strict=True):
            number = spread(builder.load(builder.gep(source, [loop.index])))
            product = builder.fmul(number, factors, flags=("contract",))
            builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
    for total, target in zip(sums, targets, strict=True):
        builder.store(builder.load(total), target, align=itemsize)
    return context.get_dummy_value()
