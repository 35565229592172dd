# SPDX-License-Identifier: Apache-2.0
"""The largest of some rows, column by column, inside of Numba kernels: kept in vector registers over all of them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES, VECTORS = 16, 2
COLUMNS = LANES * VECTORS


@njit(inline="always")
def highest(values, index, start, end, out):  # type: ignore[no-untyped-def]
    """Write the maximum over the rows ``index[start:end]``, at least one, of (N, C) float32 to ``out`` (C,)."""
    whole = len(out) // COLUMNS * COLUMNS
    _highest(values, index, start, end, out, whole)  # type: ignore[call-arg]
    for c in range(whole, len(out)):
        best = values[index[start], c]
        for e in range(start + 1, end):
            best = values[index[e], c] if values[index[e], c] > best else best
        out[c] = best


@intrinsic
def _highest(typing: Any, values, index, start, end, out, whole):  # type: ignore[no-untyped-def]
    """Do so for the first ``whole`` columns, a multiple of ``COLUMNS``; arrays are contiguous."""
    return types.void(values, index, types.intp, types.intp, out, types.intp), _generate


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    values, index, out = (
        context.make_array(signature.args[k])(context, builder, arguments[k]) for k in (0, 1, 4)
    )
    start, end, whole = arguments[2], arguments[3], arguments[5]
    width = cgutils.unpack_tuple(builder, values.shape)[1]
    vector, number = ir.VectorType(ir.FloatType(), LANES), start.type

    def place(base: ir.Value, at: ir.Value, v: int) -> ir.Value:
        at = builder.add(at, number(LANES * v))
        return builder.bitcast(builder.gep(base, [at]), vector.as_pointer())

    def first(place_in_index: ir.Value, column: ir.Value) -> ir.Value:
        row = builder.load(builder.gep(index.data, [place_in_index]))
        return builder.add(
            builder.mul(builder.zext(row, number) if row.type != number else row, width), column
        )

    best = [
        cgutils.alloca_once(builder, vector) for _ in range(VECTORS)
    ]  # registers: nobody takes their address
    with cgutils.for_range(builder, builder.udiv(whole, number(COLUMNS))) as block:
        column = builder.mul(block.index, number(COLUMNS))
        at = first(start, column)
        for v, own in enumerate(best):
            builder.store(builder.load(place(values.data, at, v), align=4), own)
        with cgutils.for_range(builder, builder.sub(end, start), intp=number) as step:
            at = first(builder.add(start, step.index), column)
            for v, own in enumerate(best):
                other, kept = builder.load(place(values.data, at, v), align=4), builder.load(own)
                builder.store(builder.select(builder.fcmp_ordered(">", other, kept), other, kept), own)
        for v, own in enumerate(best):
            builder.store(builder.load(own), place(out.data, column, v), align=4)
    return context.get_dummy_value()
