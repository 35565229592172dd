# SPDX-License-Identifier: Apache-2.0
"""The heart of the neighbour search on the CPU, written down as vectors.

LLVM makes vectors of loops, but not of these: which of 64 points are near becomes one word, a bit each, instead of a
look at every point; and a sorted list that takes in new keys stays in registers, where a loop would write and read it
each time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 64
"""Points looked at together; where the machine's vectors are shorter, LLVM takes several."""
SHORT_LIST, LIST = 16, 32
"""Keys of the lists that registers hold; longer ones are kept by a loop."""


@intrinsic
def near_lanes(typing: Any, px, py, pz, at, x, y, z, limit, worst, square):  # type: ignore[no-untyped-def]
    """Return which of the ``LANES`` points from ``at`` on are near to (x, y, z): uint64, the first one's bit lowest.

    Those at squared distances below ``limit`` and not above ``worst``. The arrays are float32; ``px``, ``py`` and
    ``pz`` have all of ``LANES`` coordinates behind ``at``, whether or not they count, and ``square`` receives as many
    squared distances.
    """
    return types.uint64(px, py, pz, types.uint64, *[types.float32] * 5, square), _generate_near


@intrinsic
def lowest_bit(typing: Any, word):  # type: ignore[no-untyped-def]
    """Return the place, uint64, of the lowest bit of a uint64 that is not zero."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        """Emit a count of trailing zeros, which is not asked about zero."""
        return builder.cttz(values[0], ir.IntType(1)(1))

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True, inline="always")
def insert(offered, n, keys, k):  # type: ignore[no-untyped-def]
    """Put the first ``n`` keys into a list where they belong; the largest leave.

    Args:
        offered: (n or more,) int64.
        keys: (max(LIST, k + 1),) int64, k of them descending, -1 behind.
    """
    if k <= SHORT_LIST:
        _insert_short(offered, n, keys)  # type: ignore[call-arg]
    elif k <= LIST:
        _insert(offered, n, keys)  # type: ignore[call-arg]
    else:
        _insert_by_loop(offered, n, keys, k)


@njit(cache=True, nogil=True)
def _insert_by_loop(offered, n, keys, k):  # type: ignore[no-untyped-def]
    for i in range(n):
        key = offered[i]
        if key < keys[0]:
            # What is larger than the key moves up by one; no branches, hence vectors.
            for place in range(k):
                kept = key if key < keys[place] else keys[place]
                keys[place] = keys[place + 1] if keys[place + 1] > kept else kept


@intrinsic
def _insert_short(typing: Any, offered, n, keys):  # type: ignore[no-untyped-def]
    """``insert`` for k up to ``SHORT_LIST``."""
    return types.none(offered, types.intp, keys), _inserter(SHORT_LIST)


@intrinsic
def _insert(typing: Any, offered, n, keys):  # type: ignore[no-untyped-def]
    """``insert`` for k up to ``LIST``."""
    return types.none(offered, types.intp, keys), _inserter(LIST)


def _generate_near(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
    vector = ir.VectorType(ir.FloatType(), LANES)
    px, py, pz, square = (_data(context, builder, signature, values, k) for k in (0, 1, 2, 9))
    total = None
    for column, own in zip((px, py, pz), values[4:7], strict=True):
        points = builder.load(builder.bitcast(builder.gep(column, [values[3]]), vector.as_pointer()), align=4)
        difference = builder.fsub(_splat(builder, own, vector), points)
        product = builder.fmul(difference, difference)
        total = product if total is None else builder.fadd(total, product)
    builder.store(total, builder.bitcast(square, vector.as_pointer()), align=4)
    below = builder.fcmp_ordered("<", total, _splat(builder, values[7], vector))
    not_above = builder.fcmp_ordered("<=", total, _splat(builder, values[8], vector))
    return builder.bitcast(builder.and_(below, not_above), ir.IntType(LANES))


def _inserter(size: int) -> Any:
    """Return what emits the insertion into a list of ``size``, without a branch on the keys."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        vector = ir.VectorType(ir.IntType(64), size)
        offered, keys = (_data(context, builder, signature, values, k) for k in (0, 2))
        place = builder.bitcast(keys, vector.as_pointer())
        held = cgutils.alloca_once_value(builder, builder.load(place, align=8))  # becomes registers
        with cgutils.for_range(builder, values[1]) as loop:
            key = _splat(builder, builder.load(builder.gep(offered, [loop.index])), vector)
            own = builder.load(held)
            following = ir.VectorType(ir.IntType(32), size)(list(range(1, size + 1)))
            after = builder.shuffle_vector(own, vector([-1] * size), following)
            kept = builder.select(builder.icmp_signed("<", own, key), own, key)
            builder.store(builder.select(builder.icmp_signed(">", after, kept), after, kept), held)
        builder.store(builder.load(held), place, align=8)
        return context.get_dummy_value()

    return generate


def _data(context: Any, builder: ir.IRBuilder, signature: Any, values: Any, k: int) -> Any:
    """Return the address of an argument's first element."""
    return context.make_array(signature.args[k])(context, builder, values[k]).data


def _splat(builder: ir.IRBuilder, number: Any, vector: ir.VectorType) -> Any:
    """Return a vector that holds a number everywhere."""
    alone = builder.insert_element(vector(ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(
        alone, vector(ir.Undefined), ir.VectorType(ir.IntType(32), vector.count)(None)
    )
