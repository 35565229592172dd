# SPDX-License-Identifier: Apache-2.0
"""The compiled loops of ``pointcloud2``: bytes to finite points, labelled points to bytes.

One pass, no branch on the data, no allocation; single-threaded, and the GIL is released.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pc_perception.io.message_layout import Column, MessageLayout

_IR = {
    1: ir.IntType(8),
    2: ir.IntType(8),
    3: ir.IntType(16),
    4: ir.IntType(16),
    5: ir.IntType(32),
    6: ir.IntType(32),
    7: ir.FloatType(),
    8: ir.DoubleType(),
}
_SIGNED = (1, 3, 5)


def _make_loader(datatype: int) -> Any:
    """Return a compiled ``load(data, offset) -> float32`` for one PointField datatype.

    Points are packed to the byte in many drivers, so the load must not assume alignment: numpy views of
    such bytes would, which is undefined behaviour in compiled code.
    """

    @intrinsic
    def load(typingctx: Any, data: Any, offset: Any) -> Any:
        """Type ``load(data: (N,) uint8, offset: int64) -> float32`` and say how it is compiled."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            """Emit a load from ``&data[offset]`` that assumes no alignment, and the conversion to float32."""
            array = context.make_array(signature.args[0])(context, builder, value=args[0])
            element = builder.gep(array.data, [args[1]])
            value = builder.load(builder.bitcast(element, _IR[datatype].as_pointer()))
            value.align = 1
            if datatype == 7:
                return value
            if datatype == 8:
                return builder.fptrunc(value, ir.FloatType())
            convert = builder.sitofp if datatype in _SIGNED else builder.uitofp
            return convert(value, ir.FloatType())

        return types.float32(data, types.intp), codegen

    return load


_load_i1, _load_u1, _load_i2, _load_u2 = (_make_loader(k) for k in (1, 2, 3, 4))
_load_i4, _load_u4, _load_f4, _load_f8 = (_make_loader(k) for k in (5, 6, 7, 8))


@njit(nogil=True, cache=True, inline="always")
def _load(data, offset, datatype):
    """Return the value of any datatype at a byte of ``data`` as float32."""
    if datatype == 7:
        return _load_f4(data, offset)
    if datatype == 8:
        return _load_f8(data, offset)
    if datatype == 2:
        return _load_u1(data, offset)
    if datatype == 4:
        return _load_u2(data, offset)
    if datatype == 6:
        return _load_u4(data, offset)
    if datatype == 1:
        return _load_i1(data, offset)
    if datatype == 3:
        return _load_i2(data, offset)
    return _load_i4(data, offset)


def _make_copier(n_points: int, adjacent: bool) -> Any:
    """Return a compiled ``copy(data, at, step, x, fourth, out, pos) -> 1 if all were finite, else 0``.

    Copies ``n_points`` points of four floats, the first at byte ``at + x`` of ``data`` and each ``step`` bytes behind
    the last, to ``out[pos:]`` with one 16-byte load each. ``adjacent``: the fourth value follows z; otherwise it is
    taken from the tuple ``fourth``, a float32 for each point.
    """
    vector, lane = ir.VectorType(ir.FloatType(), 4), ir.IntType(32)

    @intrinsic
    def copy(typingctx: Any, data: Any, at: Any, step: Any, x: Any, fourth: Any, out: Any, pos: Any) -> Any:
        """Type ``copy`` as told above, offsets in bytes and ``pos`` in floats, and say how it is compiled."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            """Emit the copies one after the other, and one check of all points that were copied."""
            source = context.make_array(signature.args[0])(context, builder, value=args[0]).data
            target = context.make_array(signature.args[5])(context, builder, value=args[5]).data
            at, bad = builder.add(args[1], args[3]), None
            for k in range(n_points):
                value = builder.load(builder.bitcast(builder.gep(source, [at]), vector.as_pointer()))
                value.align = 1
                if not adjacent:
                    w = builder.extract_value(args[4], k)
                    value = builder.insert_element(value, w, ir.Constant(lane, 3))
                place = builder.gep(target, [builder.add(args[6], ir.Constant(args[6].type, 4 * k))])
                builder.store(value, builder.bitcast(place, vector.as_pointer())).align = 4
                # x - x is zero for a finite x and NaN for NaN and Inf; NaN survives the sum.
                zero = builder.fsub(value, value)
                bad = zero if bad is None else builder.fadd(bad, zero)
                at = builder.add(at, args[2])
            mask = builder.bitcast(builder.fcmp_unordered("uno", bad, bad), ir.IntType(4))
            finite = builder.icmp_unsigned("==", mask, ir.Constant(ir.IntType(4), 0))
            return builder.zext(finite, ir.IntType(64))

        return types.int64(data, types.intp, types.intp, types.intp, fourth, out, types.intp), codegen

    return copy


_copy_one, _copy_four = _make_copier(1, True), _make_copier(4, True)
_copy_one_w, _copy_four_w = _make_copier(1, False), _make_copier(4, False)


@njit(nogil=True, cache=True)
def _decode_adjacent(data, height, width, row_step, step, x, out, index):
    """x, y, z and the fourth column are float32 side by side: nuScenes, Velodyne, most drivers."""
    flat, kept, none = out.reshape(-1), 0, np.float32(0)
    for row in range(height):
        at, i, end = row * row_step, row * width, (row + 1) * width
        # Four at once: most neighbours are finite together, and kept never runs ahead of i.
        while i + 4 <= end:
            if _copy_four(data, at, step, x, none, flat, 4 * kept):
                for j in range(4):
                    index[np.uint64(kept + j)] = i + j
                kept += 4
                at += 4 * step
            else:
                for j in range(i, i + 4):
                    index[np.uint64(kept)] = j
                    kept += _copy_one(data, at, step, x, none, flat, 4 * kept)
                    at += step
            i += 4
        while i < end:
            index[np.uint64(kept)] = i
            kept += _copy_one(data, at, step, x, none, flat, 4 * kept)
            at += step
            i += 1
    return kept


@njit(nogil=True, cache=True)
def _decode_xyz_w(data, height, width, row_step, step, x, w, w_type, out, index):
    """x, y, z float32 side by side with four readable bytes behind them; the fourth column anywhere."""
    flat, kept = out.reshape(-1), 0
    for row in range(height):
        at, i, end = row * row_step, row * width, (row + 1) * width
        while i + 4 <= end:
            fourth = (
                _load(data, at + w, w_type),
                _load(data, at + step + w, w_type),
                _load(data, at + 2 * step + w, w_type),
                _load(data, at + 3 * step + w, w_type),
            )
            if _copy_four_w(data, at, step, x, fourth, flat, 4 * kept):
                for j in range(4):
                    index[np.uint64(kept + j)] = i + j
                kept += 4
                at += 4 * step
            else:
                for j in range(i, i + 4):
                    index[np.uint64(kept)] = j
                    kept += _copy_one_w(data, at, step, x, (_load(data, at + w, w_type),), flat, 4 * kept)
                    at += step
            i += 4
        while i < end:
            index[np.uint64(kept)] = i
            kept += _copy_one_w(data, at, step, x, (_load(data, at + w, w_type),), flat, 4 * kept)
            at += step
            i += 1
    return kept


@njit(nogil=True, cache=True)
def _decode_columns(data, height, width, row_step, point_step, offsets, datatypes, out, index):
    """Any number of columns of any type."""
    kept = 0
    n_columns = len(offsets)
    for row in range(height):
        at = row * row_step
        for i in range(row * width, (row + 1) * width):
            check = np.float32(0.0)
            for k in range(n_columns):
                value = _load(data, at + offsets[k], datatypes[k])
                out[kept, k] = value
                check += value - value
            index[kept] = i
            kept += check == np.float32(0.0)
            at += point_step
    return kept


def decode(layout: MessageLayout, columns: list[Column], out: NDArray, index_out: NDArray) -> int:
    """Write the points of a checked little-endian layout whose columns are all finite; return how many there are.

    Args:
        columns: of one value a point each.
        out: (capacity, len(columns)) float32, contiguous; capacity >= the points of the layout. Written.
        index_out: (capacity,) int32, their places in the message. Written.
    """
    geometry = (layout.data, layout.height, layout.width, layout.row_step, layout.point_step)
    if len(columns) == 4:
        x, y, z, w = columns
        floats = x.datatype == y.datatype == z.datatype == 7
        if floats and y.offset == x.end and z.offset == y.end:
            if w.datatype == 7 and w.offset == z.end:
                return _decode_adjacent(*geometry, x.offset, out, index_out)
            if x.offset + 16 <= layout.point_step:
                return _decode_xyz_w(*geometry, x.offset, w.offset, w.datatype, out, index_out)
    offsets = np.array([c.offset for c in columns], np.int64)
    datatypes = np.array([c.datatype for c in columns], np.int64)
    return _decode_columns(*geometry, offsets, datatypes, out, index_out)


@njit(nogil=True, cache=True)
def read_xyz(data, height, width, row_step, point_step, offset, out):
    """Copy three float32 that lie side by side, ``offset`` bytes into each point, to (N, 3) float32 ``out``.

    Three zeros become NaN. NumPy copies such rows of three value by value, at seven times the time.
    """
    flat, to = out.reshape(-1), 0
    for row in range(height):
        at = row * row_step + offset
        for _ in range(width):
            x, y, z = _load_f4(data, at), _load_f4(data, at + 4), _load_f4(data, at + 8)
            if x == 0 and y == 0 and z == 0:
                x = y = z = np.float32(np.nan)
            flat[np.uint64(to)], flat[np.uint64(to + 1)], flat[np.uint64(to + 2)] = x, y, z
            to += 3
            at += point_step


@njit(nogil=True, cache=True)
def encode_labelled(xyz_bits, labels, confidence_bits, palette, instance, words):
    """Write x, y, z, label (low half), confidence, rgb and instance of every point; return whether all are finite.

    Args:
        xyz_bits: (3 N,) uint32, the bits of float32 coordinates.
        labels: (N,) uint16.
        confidence_bits: (N,) uint32, the bits of float32.
        palette: (C + 1,) uint32 0x00RRGGBB, the last for every label without a class.
        instance: (N,) uint32, or empty: then no point has any.
        words: (7 N,) uint32, or (6 N,) without instances; written.
    """
    width = np.uint64(7 if len(instance) else 6)
    last = np.uint32(len(palette) - 1)
    exponent, lowest = np.uint32(0x7F800000), np.uint32(0x00800000)
    carry = np.uint32(0)
    for i in range(len(labels)):
        point = np.uint64(i)
        source, to = np.uint64(3) * point, width * point
        for k in range(np.uint64(3)):
            bits = xyz_bits[source + k]
            words[to + k] = bits
            carry |= (bits & exponent) + lowest  # an exponent of ones, NaN or Inf, carries into the sign
        label = np.uint32(labels[point])
        words[to + np.uint64(3)] = label
        words[to + np.uint64(4)] = confidence_bits[point]
        words[to + np.uint64(5)] = palette[np.uint64(min(label, last))]
        if len(instance):
            words[to + np.uint64(6)] = instance[point]
    return (carry >> np.uint32(31)) == 0
