# SPDX-License-Identifier: Apache-2.0
"""PCD and PLY files: every kind of header and body, and every damage."""

from __future__ import annotations

import contextlib
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.io.files import read_cloud
from pc_perception.io.lzf import decompress

from .test_files import check_refused

DATA = os.environ.get("PC_PERCEPTION_DATA")


PCD = """# .PCD v0.7
VERSION 0.7
FIELDS {fields}
SIZE {size}
TYPE {type}
COUNT {count}
WIDTH {width}
HEIGHT {height}
VIEWPOINT 0 0 0 1 0 0 0
POINTS {points}
DATA {data}
"""


def pcd_bytes(body=b"", **values):
    entries = {"fields": "x y z", "size": "4 4 4", "type": "F F F", "count": "1 1 1", "data": "binary"}
    entries |= {"width": 2, "height": 1, "points": 2} | values
    return PCD.format(**entries).encode() + body


def test_pcd_with_padding_and_empty_fields(tmp_path):
    record = struct.Struct("<fff4xf6xdH3x")
    header = {
        "fields": "x y z _ intensity _ _ timestamp ring _",
        "size": "4 4 4 1 4 4 1 8 2 1",
        "type": "F F F U F F U F U U",
        "count": "1 1 1 4 1 0 6 1 1 3",
    }
    body = record.pack(1, 2, 3, 0.5, 1.5e9, 7) + record.pack(4, 5, 6, 0.25, 1.5e9 + 0.125, 9)
    (tmp_path / "a.pcd").write_bytes(pcd_bytes(body, **header))
    cloud = read_cloud(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.xyz, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(cloud.fields["intensity"], [0.5, 0.25])
    np.testing.assert_array_equal(cloud.fields["ring"], [7, 9])
    assert cloud.stamp_ns == 1_500_000_000 * 10**9
    np.testing.assert_allclose(cloud.fields["time"], [0.0, 0.125])


def lzf_literal(data: bytes) -> bytes:
    return b"".join(bytes([len(data[k : k + 32]) - 1]) + data[k : k + 32] for k in range(0, len(data), 32))


def test_pcd_binary_compressed(tmp_path):
    columns = np.array([[1, 2], [3, 4], [5, np.nan]], "<f4").tobytes() + np.array([9, 8], "<u4").tobytes()
    packed = lzf_literal(columns)
    body = struct.pack("<II", len(packed), len(columns)) + packed
    header = {"fields": "x y z label", "size": "4 4 4 4", "type": "F F F U", "count": "1 1 1 1"}
    (tmp_path / "a.pcd").write_bytes(pcd_bytes(body, data="binary_compressed", **header))
    cloud = read_cloud(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.xyz, [[1, 3, 5], [2, 4, np.nan]])
    np.testing.assert_array_equal(cloud.fields["label"], [9, 8])


def test_lzf_back_references():
    # literal "ab", then 5 bytes from 2 back (overlapping itself), then 10 bytes by the long form
    stream = bytes([1, 97, 98, (3 << 5) | 0, 1, (7 << 5) | 0, 1, 1])
    assert decompress(stream, 17).tobytes() == b"ab" + b"ababa"[:5] + b"bababababa"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 300))
def test_lzf_never_leaves_its_memory(data, size):
    with contextlib.suppress(ValueError):
        assert len(decompress(data, size)) == size


def test_pcd_ascii_with_packed_colour_and_nan(tmp_path):
    colour = struct.unpack("<f", struct.pack("<I", 0x00102030))[0]
    header = {
        "fields": "x y z rgb",
        "size": "4 4 4 4",
        "type": "F F F F",
        "count": "1 1 1 1",
        "data": "ascii",
    }
    body = f"1 2 3 {colour!r}\nnan nan nan {colour!r}\n".encode()
    (tmp_path / "a.pcd").write_bytes(pcd_bytes(body, **header))
    cloud = read_cloud(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.fields["rgb"], [[16, 32, 48]] * 2)
    assert np.isnan(cloud.xyz[1]).all()


XYZ2 = np.arange(6, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\x00" * 200000,
        pcd_bytes(XYZ2[:-1]),
        pcd_bytes(XYZ2, points=3),
        pcd_bytes(XYZ2, width=10**12, points=10**12),
        pcd_bytes(b"1 2 3\n4 5 6\n", width=10**12, points=10**12, data="ascii"),
        pcd_bytes(XYZ2, width=-2, height=-1),
        pcd_bytes(XYZ2, fields="x y"),
        pcd_bytes(XYZ2, fields="x y y"),
        pcd_bytes(XYZ2, fields="a b c"),
        pcd_bytes(XYZ2, type="F F Q"),
        pcd_bytes(XYZ2, size="4 4 3"),
        pcd_bytes(XYZ2, size="4 4 four"),
        pcd_bytes(XYZ2, count="1 1 -1"),
        pcd_bytes(XYZ2, points="many"),
        pcd_bytes(XYZ2, data="zip"),
        pcd_bytes(b"1 2 3\n4 5\n", data="ascii"),
        pcd_bytes(b"1 2 3\n4 5 six\n", data="ascii"),
        pcd_bytes(b"1 2 3\n" * 5, data="ascii", width=7, points=7),
        pcd_bytes(struct.pack("<II", 8, 24) + b"\xff" * 8, data="binary_compressed"),
        pcd_bytes(struct.pack("<II", 99, 24) + b"\x00" * 8, data="binary_compressed"),
        pcd_bytes(struct.pack("<II", 8, 23) + b"\x00" * 8, data="binary_compressed"),
        pcd_bytes(struct.pack("<II", 8, 12 * 10**8), data="binary_compressed", width=10**8, points=10**8),
        pcd_bytes(b"\x01", data="binary_compressed"),
    ],
)
def test_damaged_pcd(tmp_path, content):
    check_refused(tmp_path / "a.pcd", content)


# --- PLY ---------------------------------------------------------------------------------------------

PLY = """ply
format {format} 1.0
comment made by hand
element face 2
property list uchar int vertex_indices
element vertex {n}
property uchar red
property double z
property float x
property float y
property uchar green
property uchar blue
property float scalar_Intensity
end_header
"""


@pytest.mark.parametrize("order", ["<", ">"])
def test_ply_binary_with_faces_before_the_vertices(tmp_path, order):
    names = {"<": "binary_little_endian", ">": "binary_big_endian"}
    face = struct.pack(order + "B3iB4i", 3, 0, 1, 2, 4, 0, 1, 2, 3)
    vertex = struct.Struct(order + "BdffBBf")
    body = vertex.pack(10, 3.0, 1.0, 2.0, 20, 30, 0.5) + vertex.pack(1, 6.0, 4.0, 5.0, 2, 3, 0.25)
    (tmp_path / "a.ply").write_bytes(PLY.format(format=names[order], n=2).encode() + face + body)
    check_ply(read_cloud(tmp_path / "a.ply"))


def test_ply_ascii_with_faces_before_the_vertices(tmp_path):
    body = "3 0 1 2\n4 0 1 2 3\n10 3 1 2 20 30 0.5\n1 6 4 5 2 3 0.25\n"
    (tmp_path / "a.ply").write_bytes((PLY.format(format="ascii", n=2) + body).encode())
    check_ply(read_cloud(tmp_path / "a.ply"))


def check_ply(cloud):
    np.testing.assert_array_equal(cloud.xyz, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(cloud.fields["rgb"], [[10, 20, 30], [1, 2, 3]])
    np.testing.assert_array_equal(cloud.fields["intensity"], [0.5, 0.25])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plx\n",
        b"ply\nformat ascii 1.0\nelement vertex 2\n",
        b"ply\nformat klingon 1.0\nelement vertex 0\nend_header\n",
        b"ply\nelement vertex 0\nproperty float x\nend_header\n",
        b"ply\nformat ascii 1.0\nelement face 0\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex -1\nproperty float x\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex two\nend_header\n",
        b"ply\nformat ascii 1.0\nproperty float x\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty quark x\nend_header\n1\n",
        PLY.format(format="binary_little_endian", n=2).encode() + b"\x03",
        PLY.format(format="binary_little_endian", n=10**12).encode() + b"\x00" * 50,
        PLY.format(format="ascii", n=10**12).encode() + b"3 0 0 0\n3 0 0 0\n",
        PLY.format(format="ascii", n=1).encode() + b"3 0 0 0\n3 0 0 0\n1 2 3\n",
        PLY.format(format="ascii", n=1).encode() + b"3 0 0 0\n3 0 0 0\n1 2 3 4 5 6 seven\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float x\nend_header\n1 1\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int a\nend_header\n1 1\n",
        b"ply\nformat ascii 1.0\nelement vertex 2\nend_header\n\n\n",
    ],
)
def test_damaged_ply(tmp_path, content):
    check_refused(tmp_path / "a.ply", content)


# --- headerless .bin ---------------------------------------------------------------------------------
