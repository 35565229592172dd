# SPDX-License-Identifier: Apache-2.0
"""PointCloud2 messages of every layout, in both directions, against a point-by-point reader."""

from __future__ import annotations

import array
import struct
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.io.pointcloud2 import (
    LabelledCloudEncoder,
    PointField,
    cloud_from_msg,
    decode_finite,
    encode_cloud,
    field_names,
    fill_message,
)
from pc_perception.labels import UNLABELED, UNLABELED_COLOR, load_label_set

CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8}


def make_msg(points, fields, *, height=1, step=None, row_padding=0, big_endian=False, frame="lidar"):
    """Pack ``points`` (list of {name: value or tuple}) byte by byte, every gap filled with 0xAB."""
    step = step or max(f.offset + SIZES[f.datatype] * f.count for f in fields)
    width = len(points) // height
    data = bytearray(b"\xab" * (height * (width * step + row_padding)))
    for n, point in enumerate(points):
        at = (n // width) * (width * step + row_padding) + (n % width) * step
        for f in fields:
            if f.name in point:
                values = point[f.name] if isinstance(point[f.name], tuple) else (point[f.name],)
                packing = (">" if big_endian else "<") + CODES[f.datatype] * f.count
                struct.pack_into(packing, data, at + f.offset, *values)
    stamp = SimpleNamespace(sec=1700000000, nanosec=250_000_000)
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=frame, stamp=stamp),
        height=height,
        width=width,
        fields=fields,
        is_bigendian=big_endian,
        point_step=step,
        row_step=width * step + row_padding,
        data=array.array("B", bytes(data)),
        is_dense=True,
    )


def some_points(n, seed=0, **extra):
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, 20, (n, 3)).astype(np.float32)
    points = [dict(zip("xyz", map(float, p), strict=True)) for p in xyz]
    for name, values in extra.items():
        for point, value in zip(points, values, strict=True):
            point[name] = value
    return xyz, points


def xyz_fields(at=0, datatype=7):
    return [PointField(name, at + k * SIZES[datatype], datatype) for k, name in enumerate("xyz")]


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("datatype", [7, 8])
def test_any_order_padding_and_byte_order(big_endian, datatype):
    size = SIZES[datatype]
    fields = [
        PointField("z", 3, datatype),
        PointField("intensity", 3 + size, 2),
        PointField("x", 5 + size, datatype),
        PointField("y", 6 + 2 * size, datatype),
    ]
    xyz, points = some_points(12, intensity=range(200, 212))
    msg = make_msg(points, fields, height=3, step=41, row_padding=7, big_endian=big_endian)
    cloud = cloud_from_msg(msg)
    np.testing.assert_array_equal(cloud.xyz, xyz)
    assert cloud.fields["intensity"].dtype == np.float32
    np.testing.assert_array_equal(cloud.fields["intensity"], range(200, 212))
    assert (cloud.frame, cloud.stamp_ns) == ("lidar", 1700000000_250000000)


@pytest.mark.parametrize("datatype", sorted(CODES))
def test_every_datatype_is_read(datatype):
    low = -100 if CODES[datatype] in "bhifd" else 0
    values = [low, 0, 1, 100, 5]
    _, points = some_points(5, extra=values)
    msg = make_msg(points, [*xyz_fields(), PointField("extra", 13, datatype)], step=24)
    np.testing.assert_array_equal(cloud_from_msg(msg).fields["extra"], values)
    kept, _ = decode_finite(msg, ("x", "y", "z", "extra"))
    np.testing.assert_array_equal(kept[:, 3], values)


def test_integer_coordinates():
    fields = xyz_fields(datatype=3)
    points = [{"x": -5, "y": 7, "z": 300}, {"x": 0, "y": 1, "z": -2}]
    np.testing.assert_array_equal(cloud_from_msg(make_msg(points, fields)).xyz, [[-5, 7, 300], [0, 1, -2]])


def test_organised_cloud_is_row_major_and_keeps_its_grid():
    xyz, points = some_points(6)
    cloud = cloud_from_msg(make_msg(points, xyz_fields(), height=2, row_padding=5))
    assert cloud.grid_shape == (2, 3)
    np.testing.assert_array_equal(cloud.xyz, xyz)


def test_empty_cloud():
    for height, width in ((1, 0), (0, 0), (0, 5)):
        msg = make_msg([{"x": 0.0}], xyz_fields())
        msg.height, msg.width, msg.data = height, width, array.array("B")
        cloud = cloud_from_msg(msg)
        assert len(cloud) == 0
        assert len(decode_finite(msg, ("x", "y", "z"))[0]) == 0


def test_nan_and_inf_are_kept():
    _, points = some_points(3)
    points[1]["y"], points[2]["z"] = float("nan"), float("-inf")
    cloud = cloud_from_msg(make_msg(points, xyz_fields()))
    assert cloud.finite().tolist() == [True, False, False]
    assert np.isnan(cloud.xyz[1, 1])
    assert cloud.xyz[2, 2] == -np.inf


@pytest.mark.parametrize("name", ["rgb", "rgba"])
@pytest.mark.parametrize("datatype", [5, 6, 7])
@pytest.mark.parametrize("big_endian", [False, True])
def test_packed_colours_including_those_that_are_nan_as_floats(name, datatype, big_endian):
    bits = [0x00102030, 0x00FF0001, 0x7FC01122 if datatype == 5 else 0xFF80AA55]
    values = bits
    if datatype == 7:
        values = [struct.unpack("<f", struct.pack("<I", b))[0] for b in bits]
    _, points = some_points(3)
    msg = make_msg(points, [*xyz_fields(), PointField(name, 16, datatype)], big_endian=big_endian)
    for n, b in enumerate(bits):  # by hand: a NaN does not survive Python's float packing bit by bit
        msg.data[n * 20 + 16 : n * 20 + 20] = array.array("B", struct.pack(">I" if big_endian else "<I", b))
    expected = [[b >> 16 & 255, b >> 8 & 255, b & 255] for b in bits]
    rgb = cloud_from_msg(msg).fields["rgb"]
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, expected)
    assert len(values) == 3


def test_separate_colour_fields():
    _, points = some_points(2, r=[1, 2], g=[3, 4], b=[5, 6])
    msg = make_msg(points, [*xyz_fields(), *(PointField(c, 12 + k, 2) for k, c in enumerate("rgb"))])
    np.testing.assert_array_equal(cloud_from_msg(msg).fields["rgb"], [[1, 3, 5], [2, 4, 6]])
    _, points = some_points(2, r=[0.0, 1.0], g=[0.5, 0.5], b=[1.0, 0.0])
    msg = make_msg(points, [*xyz_fields(), *(PointField(c, 12 + 4 * k, 7) for k, c in enumerate("rgb"))])
    np.testing.assert_array_equal(cloud_from_msg(msg).fields["rgb"], [[0, 128, 255], [255, 128, 0]])


def test_count_above_one_and_zero():
    _, points = some_points(2, descriptor=[(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)])
    fields = [*xyz_fields(), PointField("descriptor", 12, 7, 3), PointField("gone", 24, 7, 0)]
    cloud = cloud_from_msg(make_msg(points, fields, step=28))
    np.testing.assert_array_equal(cloud.fields["descriptor"], [[1, 2, 3], [4, 5, 6]])
    assert "gone" not in cloud.fields


def test_aliases_and_times():
    _, points = some_points(2, reflectivity=[9, 8], t=[0, 50_000_000], channel=[3, 31])
    fields = [
        *xyz_fields(),
        PointField("reflectivity", 12, 4),
        PointField("t", 14, 6),
        PointField("channel", 18, 2),
    ]
    cloud = cloud_from_msg(make_msg(points, fields))
    np.testing.assert_array_equal(cloud.fields["intensity"], [9, 8])
    np.testing.assert_allclose(cloud.fields["time"], [0.0, 0.05], rtol=1e-6)
    assert cloud.fields["time"].dtype == np.float32
    assert cloud.fields["ring"].dtype == np.uint16
    assert cloud.fields["ring"].tolist() == [3, 31]


@pytest.mark.parametrize(("unit", "name"), [(1.0, "timestamp"), (1e9, "timestamp"), (1.0, "time")])
def test_absolute_times_become_relative_to_the_stamp(unit, name):
    seconds = [1700000000.25, 1700000000.30]
    _, points = some_points(2, **{name: [s * unit for s in seconds]})
    cloud = cloud_from_msg(make_msg(points, [*xyz_fields(), PointField(name, 12, 8)]))
    np.testing.assert_allclose(cloud.fields["time"], [0.0, 0.05], atol=2e-6)


def test_an_alias_does_not_replace_the_field_itself():
    _, points = some_points(1, intensity=[5.0], reflectivity=[7.0])
    fields = [*xyz_fields(), PointField("reflectivity", 12, 7), PointField("intensity", 16, 7)]
    cloud = cloud_from_msg(make_msg(points, fields))
    assert cloud.fields["intensity"][0] == 5.0
    assert cloud.fields["reflectivity"][0] == 7.0


@pytest.mark.parametrize(
    "as_type", [bytes, bytearray, memoryview, list, lambda d: np.frombuffer(d, np.uint8)]
)
def test_data_of_every_kind_of_message(as_type):
    xyz, points = some_points(3)
    msg = make_msg(points, xyz_fields())
    msg.data = as_type(bytes(msg.data))
    np.testing.assert_array_equal(cloud_from_msg(msg).xyz, xyz)


def test_the_cloud_owns_its_values():
    xyz, points = some_points(3)
    msg = make_msg(points, xyz_fields())
    cloud = cloud_from_msg(msg)
    msg.data[:] = array.array("B", bytes(len(msg.data)))
    np.testing.assert_array_equal(cloud.xyz, xyz)


BROKEN = {
    "truncated": lambda m: setattr(m, "data", m.data[:-1]),
    "width": lambda m: setattr(m, "width", 2**32 - 1),
    "height": lambda m: setattr(m, "height", 2**31),
    "point_step zero": lambda m: setattr(m, "point_step", 0),
    "point_step small": lambda m: setattr(m, "point_step", 8),
    "row_step": lambda m: setattr(m, "row_step", 5),
    "datatype": lambda m: m.fields.append(PointField("a", 12, 9)),
    "offset": lambda m: m.fields.append(PointField("a", 13, 7)),
    "huge offset": lambda m: m.fields.append(PointField("a", 2**32 - 1, 7)),
    "huge count": lambda m: m.fields.append(PointField("a", 12, 7, 2**31)),
    "overlap": lambda m: m.fields.append(PointField("a", 10, 7)),
    "same coordinate": lambda m: m.fields.__setitem__(1, PointField("y", 0, 7)),
    "twice": lambda m: m.fields.append(PointField("x", 12, 7)),
    "no z": lambda m: m.fields.pop(),
    "no fields": lambda m: m.fields.clear(),
    "x of two": lambda m: m.fields.__setitem__(2, PointField("z", 8, 7, 2)),
    "fields": lambda m: setattr(m, "fields", None),
    "data": lambda m: setattr(m, "data", None),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("read", [cloud_from_msg, lambda m: decode_finite(m, ("x", "y", "z"))])
def test_broken_messages_get_one_sentence(what, read):
    _, points = some_points(4)
    msg = make_msg(points, xyz_fields(), step=16, height=2)
    BROKEN[what](msg)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence differs
        read(msg)
    assert 20 < len(str(error.value)) < 250
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("nanosec", [float("nan"), float("inf"), "x", None])
def test_broken_stamp(nanosec):
    _, points = some_points(1)
    msg = make_msg(points, xyz_fields())
    msg.header.stamp.nanosec = nanosec
    with pytest.raises(ValueError, match="header"):
        cloud_from_msg(msg)


LAYOUTS = {
    "adjacent": [*xyz_fields(), PointField("intensity", 12, 7)],
    "adjacent, unaligned": [*xyz_fields(1), PointField("intensity", 13, 7)],
    "PCL": [*xyz_fields(), PointField("intensity", 16, 7)],
    "byte intensity": [*xyz_fields(), PointField("intensity", 12, 2), PointField("ring", 14, 4)],
    "fourth before": [PointField("intensity", 0, 4), *xyz_fields(2)],
    "no room behind z": [PointField("intensity", 0, 7), *xyz_fields(4)],
    "doubles": [*xyz_fields(datatype=8), PointField("intensity", 24, 3)],
    "scattered": [
        PointField("y", 1, 7),
        PointField("intensity", 5, 6),
        PointField("x", 12, 7),
        PointField("z", 20, 7),
    ],
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("height", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_decode_finite_equals_plain_indexing(name, height, share):
    rng = np.random.default_rng(1)
    n = 63
    xyz, points = some_points(n, intensity=rng.integers(0, 200, n).tolist())
    for k in np.flatnonzero(rng.random(n) < share):
        points[k]["xyz"[k % 3]] = [float("nan"), float("inf"), float("-inf")][k % 2]
    fields = LAYOUTS[name]
    expected = np.array(
        [[np.float32(p[f]) for f in ("x", "y", "z", "intensity")] for p in points], np.float32
    )
    index = np.flatnonzero(np.isfinite(expected).all(axis=1))
    out, kept = np.full((n, 4), -7, np.float32), np.full(n, -7, np.int32)
    for big_endian in (False, True):
        msg = make_msg(points, fields, height=height, row_padding=3, big_endian=big_endian)
        values, where = decode_finite(msg, out=out, index_out=kept)
        np.testing.assert_array_equal(where, index)
        np.testing.assert_array_equal(values, expected[index])
        assert np.shares_memory(values, out) or len(values) == 0
    assert len(xyz) == n


def test_decode_finite_drops_a_point_whose_fourth_value_is_not_finite():
    _, points = some_points(9, intensity=[1.0] * 9)
    points[2]["intensity"] = float("nan")
    for fields in (LAYOUTS["adjacent"], LAYOUTS["PCL"], LAYOUTS["no room behind z"]):
        values, where = decode_finite(make_msg(points, fields))
        assert where.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
        assert np.isfinite(values).all()


def test_decode_finite_says_what_is_missing_and_what_memory_it_needs():
    _, points = some_points(5)
    msg = make_msg(points, xyz_fields())
    with pytest.raises(ValueError, match="no field 'intensity'; its fields are"):
        decode_finite(msg)
    for out, index in (
        (np.empty((4, 3), np.float32), np.empty(5, np.int32)),
        (np.empty((5, 3), np.float64), np.empty(5, np.int32)),
        (np.empty((5, 4), np.float32), np.empty(5, np.int32)),
        (np.empty((5, 3), np.float32), np.empty(5, np.int64)),
        (np.empty((3, 5), np.float32).T, np.empty(5, np.int32)),
    ):
        with pytest.raises(ValueError, match="need out float32"):
            decode_finite(msg, ("x", "y", "z"), out, index)


def test_decode_finite_in_two_threads():
    _, points = some_points(2000, intensity=[1.0] * 2000)
    msg = make_msg(points, LAYOUTS["adjacent"])
    expected, _ = decode_finite(msg)
    failures = []

    def work():
        out, index = np.empty((2000, 4), np.float32), np.empty(2000, np.int32)
        for _ in range(50):
            values, _ = decode_finite(msg, out=out, index_out=index)
            if not np.array_equal(values, expected):
                failures.append(values)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_alias_in_decode_finite():
    _, points = some_points(2, i=[3.0, 4.0])
    msg = make_msg(points, [*xyz_fields(), PointField("i", 12, 7)])
    assert decode_finite(msg)[0][:, 3].tolist() == [3.0, 4.0]
    assert field_names(msg) == ("x", "y", "z", "i")


def test_encoding_a_cloud_and_reading_it_back():
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(12, 3)).astype(np.float32)
    xyz[3] = np.nan
    fields = {
        "intensity": rng.random(12, dtype=np.float32),
        "rgb": rng.integers(0, 256, (12, 3)).astype(np.uint8),
        "ring": np.arange(12, dtype=np.uint16),
        "time": rng.random(12, dtype=np.float32),
        "normal": rng.normal(size=(12, 3)).astype(np.float32),
        "label": np.arange(12, dtype=np.int64),
        "flag": np.arange(12) % 2 == 0,
        "descriptor": rng.normal(size=(12, 5)),
    }
    cloud = PointCloud(xyz, fields, "map", 12_345_678_901, (3, 4))
    msg = encode_cloud(cloud)
    assert isinstance(msg.data, array.array)
    assert msg.data.typecode == "B"
    assert not msg.is_dense
    assert (msg.height, msg.width, msg.row_step) == (3, 4, 4 * msg.point_step)
    back = cloud_from_msg(msg)
    assert (back.frame, back.stamp_ns, back.grid_shape) == (cloud.frame, cloud.stamp_ns, cloud.grid_shape)
    np.testing.assert_array_equal(back.xyz, xyz)
    assert back.fields.keys() == fields.keys()
    for name, values in fields.items():
        np.testing.assert_array_equal(back.fields[name], values)
    assert encode_cloud(cloud.select(np.arange(3))).is_dense


def test_encoding_refuses_what_no_field_type_holds():
    cloud = PointCloud(np.zeros((2, 3), np.float32), {"name": np.array(["a", "b"])})
    with pytest.raises(ValueError, match="'name'"):
        encode_cloud(cloud)


def test_labelled_cloud_byte_by_byte():
    label_set = load_label_set("street8")
    xyz = np.array([[1, 2, 3], [np.nan, 0, 0], [4, 5, np.inf], [7, 8, 9]], np.float32)
    labels = np.array([0, UNLABELED, 7, 3], np.uint16)
    confidence = np.array([0.25, 0.0, 1.0, 0.5], np.float32)
    cloud = PointCloud(xyz, {}, "camera_optical", 5_000_000_007, (2, 2))
    msg = LabelledCloudEncoder(label_set).encode(cloud, labels, confidence)
    assert [(f.name, f.datatype) for f in msg.fields] == [
        ("x", 7),
        ("y", 7),
        ("z", 7),
        ("label", 4),
        ("confidence", 7),
        ("rgb", 7),
    ]
    assert (msg.height, msg.width, msg.point_step, msg.row_step) == (2, 2, 24, 48)
    assert (msg.header.frame_id, msg.header.stamp.sec, msg.header.stamp.nanosec) == ("camera_optical", 5, 7)
    assert not msg.is_dense
    for n in range(4):
        x, y, z, label, pad, conf, b, g, r, zero = struct.unpack_from("<fffHHfBBBB", msg.data, 24 * n)
        np.testing.assert_array_equal([x, y, z], xyz[n])
        assert (label, pad, conf, zero) == (labels[n], 0, confidence[n], 0)
        color = UNLABELED_COLOR if label == UNLABELED else label_set.colors[label]
        assert (r, g, b) == tuple(color)


def test_labelled_cloud_with_objects():
    rng = np.random.default_rng(0)
    cloud = PointCloud(rng.normal(0, 20, (50, 3)).astype(np.float32), frame="lidar")
    labels, instance = rng.integers(0, 8, 50).astype(np.uint16), rng.integers(0, 2**32, 50, np.uint32)
    confidence = rng.random(50, dtype=np.float32)
    encoder = LabelledCloudEncoder(load_label_set("street8"))
    plain = cloud_from_msg(encoder.encode(cloud, labels, confidence))
    found = cloud_from_msg(encoder.encode(cloud, labels, confidence, instance))
    np.testing.assert_array_equal(found.xyz, cloud.xyz)
    np.testing.assert_array_equal(found.fields["instance"], instance)
    assert set(found.fields) == {*plain.fields, "instance"}
    for name, values in plain.fields.items():
        np.testing.assert_array_equal(found.fields[name], values)
    with pytest.raises(ValueError, match="as many instance"):
        encoder.encode(cloud, labels, confidence, instance[1:])


def test_labelled_encoder_keeps_earlier_messages_intact():
    encoder = LabelledCloudEncoder(load_label_set("street8"))

    def encode(n, value):
        cloud = PointCloud(np.full((n, 3), value, np.float32))
        return encoder.encode(cloud, np.zeros(n, np.uint16), np.ones(n, np.float32))

    first = encode(5, 1.0)
    second = encode(3, 2.0)
    assert (cloud_from_msg(first).xyz == 1.0).all()
    assert (cloud_from_msg(second).xyz == 2.0).all()
    assert len(second.data) == 72
    assert first.is_dense
    assert len(encode(0, 0.0).data) == 0


def test_labelled_encoder_checks_lengths():
    encoder = LabelledCloudEncoder(load_label_set("street8"))
    cloud = PointCloud(np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match="3 points"):
        encoder.encode(cloud, np.zeros(2, np.uint16), np.zeros(3, np.float32))


def test_fill_message_copies_everything_but_the_header():
    values = encode_cloud(PointCloud(np.ones((2, 3), np.float32), frame="a"))
    target = SimpleNamespace(header="untouched")
    fill_message(target, values, lambda **k: SimpleNamespace(**k))
    assert target.header == "untouched"
    target.header = values.header
    np.testing.assert_array_equal(cloud_from_msg(target).xyz, 1.0)
    assert target.data is values.data


def test_against_sensor_msgs_py():
    """The peer's structured read of every field, where ROS is installed."""
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="no ROS 2 is sourced")
    messages = pytest.importorskip("sensor_msgs.msg")
    rng = np.random.default_rng(0)
    for name, fields in LAYOUTS.items():
        n = 50
        _, points = some_points(n, intensity=rng.integers(0, 200, n).tolist(), ring=range(n))
        plain = make_msg(points, fields)
        msg = messages.PointCloud2()
        fill_message(msg, replace(_as_values(plain)), messages.PointField)
        theirs = point_cloud2.read_points(msg, ["x", "y", "z", "intensity"])
        ours, _ = decode_finite(msg)
        for k, field in enumerate(("x", "y", "z", "intensity")):
            np.testing.assert_array_equal(ours[:, k], theirs[field].astype(np.float32), err_msg=name)
        assert isinstance(msg.data, array.array)


def _as_values(msg):
    from pc_perception.io.pointcloud2 import CloudMessage, Header, Stamp

    header = Header(Stamp(0, 0), "lidar")
    return CloudMessage(
        header, msg.height, msg.width, msg.fields, msg.point_step, msg.row_step, msg.data, msg.is_dense
    )
