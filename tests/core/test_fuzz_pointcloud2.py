# SPDX-License-Identifier: Apache-2.0
"""Whatever a PointCloud2 message claims: a cloud or one ValueError, never a crash or a read past the end."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.io.pointcloud2 import cloud_from_msg, decode_finite

UINT32 = st.one_of(st.integers(0, 64), st.integers(0, 2**32 - 1))
NAMES = st.sampled_from(
    ["x", "y", "z", "intensity", "i", "rgb", "rgba", "t", "time", "ring", "label", "_", ""]
)

field = st.builds(
    lambda name, offset, datatype, count: SimpleNamespace(
        name=name, offset=offset, datatype=datatype, count=count
    ),
    st.one_of(NAMES, st.text(max_size=3)),
    st.one_of(st.integers(0, 40), UINT32),
    st.one_of(st.integers(1, 8), st.integers(0, 255)),
    st.one_of(st.just(1), st.integers(0, 4), UINT32),
)
xyz = [SimpleNamespace(name=n, offset=4 * k, datatype=7, count=1) for k, n in enumerate("xyz")]


@st.composite
def messages(draw):
    fields = draw(st.lists(field, max_size=6))
    if draw(st.booleans()):
        fields = xyz + fields
    stamp = SimpleNamespace(sec=draw(st.integers(-(2**31), 2**31 - 1)), nanosec=draw(UINT32))
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=draw(st.text(max_size=5)), stamp=stamp),
        height=draw(st.one_of(st.integers(0, 4), UINT32)),
        width=draw(st.one_of(st.integers(0, 12), UINT32)),
        fields=fields,
        is_bigendian=draw(st.booleans()),
        point_step=draw(st.one_of(st.sampled_from([12, 16, 20, 32]), UINT32)),
        row_step=draw(UINT32),
        data=draw(st.binary(max_size=600)),
        is_dense=draw(st.booleans()),
    )


@settings(max_examples=250, deadline=None)
@given(messages(), st.booleans())
def test_reading_gives_a_cloud_or_a_value_error(msg, consistent):
    if consistent:  # most random sizes are refused at once; let many through to the readers
        msg.point_step = max(16, msg.point_step % 64)
        msg.height = msg.height % 4
        msg.width = len(msg.data) // (msg.point_step * max(msg.height, 1))
        msg.row_step = msg.width * msg.point_step
        msg.fields = [f for f in msg.fields if f.offset + 8 * f.count <= msg.point_step]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            cloud = cloud_from_msg(msg)
        except ValueError:
            return
        assert len(cloud) == msg.height * msg.width
        n = len(cloud)
        # The memory behind the capacity must stay as it was.
        out, index = np.full((n + 1, 3), 5.0, np.float32), np.full(n + 1, -5, np.int32)
        values, kept = decode_finite(msg, ("x", "y", "z"), out[:n], index[:n])
        returns = (values != 0).any(1)  # rays without return, at the origin, are NaN in the cloud
        np.testing.assert_array_equal(values[returns], cloud.xyz[kept[returns]])
        np.testing.assert_array_equal(kept[returns], np.flatnonzero(cloud.finite()))
        assert (out[n] == 5.0).all()
        assert index[n] == -5


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8]),
    st.integers(12, 15),
    st.integers(0, 9),
    st.integers(1, 3),
    st.binary(min_size=3 * 10 * 30, max_size=3 * 10 * 30),
)
def test_compiled_and_plain_decoders_agree_on_any_bytes(datatype, offset, padding, height, data):
    """Little-endian goes through the kernel; the same values byte-swapped through numpy."""
    from pc_perception.io.message_layout import message_layout
    from pc_perception.io.pointcloud2 import _decode_plain, _pick

    fields = [*xyz, SimpleNamespace(name="v", offset=offset, datatype=datatype, count=1)]
    step = 23 + padding % 7
    msg = SimpleNamespace(
        header=None,
        height=height,
        width=9,
        fields=fields,
        is_bigendian=False,
        point_step=step,
        row_step=9 * step + padding,
        data=data,
        is_dense=True,
    )
    names = ("x", "y", "z", "v")
    values, kept = decode_finite(msg, names)
    layout = message_layout(msg)
    out, index = np.empty((9 * height, 4), np.float32), np.empty(9 * height, np.int32)
    n = _decode_plain(layout, _pick(layout, names), out, index)
    np.testing.assert_array_equal(kept, index[:n])
    np.testing.assert_array_equal(values, out[:n])
