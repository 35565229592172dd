# SPDX-License-Identifier: Apache-2.0
"""Point cloud files of every format: written by hand here, read back, damaged, and the real ones."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pc_perception.cloud import PointCloud
from pc_perception.io.files import cloud_files, read_cloud, read_clouds, write_cloud
from pc_perception.io.label_files import find_label_file, labels_of, read_labels, write_labels

DATA = os.environ.get("PC_PERCEPTION_DATA")


def some_cloud(n=20, **options):
    rng = np.random.default_rng(0)
    fields = {
        "intensity": rng.random(n, dtype=np.float32),
        "rgb": rng.integers(0, 256, (n, 3)).astype(np.uint8),
        "ring": rng.integers(0, 32, n).astype(np.uint16),
        "label": rng.integers(0, 9, n).astype(np.int32),
        "normal": rng.normal(size=(n, 3)).astype(np.float32),
    }
    return PointCloud(rng.normal(0, 10, (n, 3)).astype(np.float32), fields, **options)


def check_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a point cloud: ") as error:
        read_cloud(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pcd", ".ply", ".npz", ".txt", ".xyz", ".csv"])
def test_round_trip_of_every_field(tmp_path, suffix):
    cloud = some_cloud()
    cloud.xyz[4] = np.nan
    back = read_cloud(write_cloud(tmp_path / f"a{suffix}", cloud))
    np.testing.assert_array_equal(back.xyz, cloud.xyz)
    assert back.fields.keys() == cloud.fields.keys()
    for name, values in cloud.fields.items():
        np.testing.assert_array_equal(back.fields[name], values, err_msg=name)
    assert back.fields["rgb"].dtype == np.uint8
    assert os.listdir(tmp_path) == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_las_round_trip(tmp_path, suffix):
    pytest.importorskip("laspy")
    cloud = some_cloud()
    cloud.fields["intensity"][:] = np.arange(20)
    back = read_cloud(write_cloud(tmp_path / f"a{suffix}", cloud))
    np.testing.assert_allclose(back.xyz, cloud.xyz, atol=6e-4)
    for name in ("intensity", "rgb", "label", "ring"):
        np.testing.assert_array_equal(back.fields[name], cloud.fields[name], err_msg=name)


@pytest.mark.parametrize("suffix", [".pcd", ".npz"])
def test_organised_grid_is_kept(tmp_path, suffix):
    cloud = PointCloud(np.arange(36, dtype=np.float32).reshape(12, 3), grid_shape=(3, 4))
    assert read_cloud(write_cloud(tmp_path / f"a{suffix}", cloud)).grid_shape == (3, 4)


def test_npz_keeps_frame_and_stamp(tmp_path):
    cloud = some_cloud(frame="lidar", stamp_ns=1_700_000_000_123_456_789)
    back = read_cloud(write_cloud(tmp_path / "a.npz", cloud))
    assert (back.frame, back.stamp_ns) == (cloud.frame, cloud.stamp_ns)


@pytest.mark.parametrize("suffix", [".pcd", ".ply", ".npz", ".npy", ".txt", ".bin", ".las"])
def test_zero_points(tmp_path, suffix):
    path = write_cloud(tmp_path / f"a{suffix}", PointCloud(np.empty((0, 3), np.float32)))
    assert len(read_cloud(path)) == 0


@pytest.mark.parametrize("suffix", [".pcd", ".ply", ".npz", ".npy", ".txt"])
def test_nan_only(tmp_path, suffix):
    cloud = PointCloud(np.full((7, 3), np.nan, np.float32))
    back = read_cloud(write_cloud(tmp_path / f"a{suffix}", cloud))
    assert len(back) == 7
    assert not back.finite().any()


def test_writing_replaces_a_file_only_when_complete(tmp_path):
    path = write_cloud(tmp_path / "a.ply", some_cloud(5))
    with pytest.raises(ValueError, match="32 bits"):
        write_cloud(path, some_cloud(3).with_fields(far=np.array([0, 1, 2**40])))
    assert len(read_cloud(path)) == 5
    assert os.listdir(tmp_path) == ["a.ply"]


# --- PCD ---------------------------------------------------------------------------------------------


def lidar_like(n, columns, seed=0):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(0, 20, (n, 2)), rng.normal(-1, 0.5, (n, 1)), rng.random((n, columns - 3))]
    return np.concatenate(parts, axis=1).astype("<f4")


def test_bin_is_read_by_its_name(tmp_path):
    five, four = lidar_like(400, 5), lidar_like(500, 4)  # both sizes are multiples of 16 and of 20
    five[:, 4] = np.arange(400) % 32
    (tmp_path / "sweep__LIDAR_TOP__1532402927647951.pcd.bin").write_bytes(five.tobytes())
    cloud = read_cloud(tmp_path / "sweep__LIDAR_TOP__1532402927647951.pcd.bin")
    np.testing.assert_array_equal(cloud.xyz, five[:, :3])
    np.testing.assert_array_equal(cloud.fields["ring"], np.arange(400) % 32)
    assert cloud.stamp_ns == 1532402927647951000
    for name in ("000123.bin", "0000000123.bin", "velodyne/scan.bin", "velodyne_points/scan.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(four.tobytes())
        cloud = read_cloud(tmp_path / name)
        np.testing.assert_array_equal(cloud.xyz, four[:, :3])
        np.testing.assert_array_equal(cloud.fields["intensity"], four[:, 3])


def test_an_ambiguous_bin_is_refused_with_both_readings(tmp_path):
    path = tmp_path / "scan.bin"
    path.write_bytes(lidar_like(500, 4).tobytes())
    with pytest.raises(
        ValueError, match=r"500 points of 4 columns .* 400 points of 5 columns.*--columns 4 or 5"
    ):
        read_cloud(path)
    assert len(read_cloud(path, columns=4)) == 500
    assert "ring" in read_cloud(path, columns=5).fields
    assert read_cloud(path, columns=("x", "y", "z", "time")).fields.keys() == {"time"}


def test_bin_decided_by_its_size(tmp_path):
    (tmp_path / "a.bin").write_bytes(lidar_like(101, 4).tobytes())
    assert len(read_cloud(tmp_path / "a.bin")) == 101
    (tmp_path / "b.bin").write_bytes(lidar_like(101, 5).tobytes())
    assert len(read_cloud(tmp_path / "b.bin")) == 101


def test_a_kitti_name_with_six_columns_inside_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    values = np.concatenate([lidar_like(5000, 3), rng.integers(0, 256, (5000, 3))], axis=1).astype("<f4")
    (tmp_path / "000017.bin").write_bytes(values.tobytes())
    with pytest.raises(ValueError, match="columns=4 or 6"):
        read_cloud(tmp_path / "000017.bin")
    rgb = read_cloud(tmp_path / "000017.bin", columns=6).fields["rgb"]
    np.testing.assert_array_equal(rgb, values[:, 3:])


def test_a_kitti_scan_whose_beams_take_turns_is_accepted(tmp_path):
    """Height differs from one row to the next, as VLP-16 fires; that is no reason to doubt four columns."""
    values = lidar_like(20000, 4)
    values[:, 2] = np.array([-15, 1, -13, 3, -11, 5, -9, 7])[np.arange(20000) % 8]
    (tmp_path / "000000.bin").write_bytes(values.tobytes())
    assert len(read_cloud(tmp_path / "000000.bin")) == 20000


@pytest.mark.parametrize("name", ["a.bin", "000001.bin", "a.pcd.bin"])
def test_truncated_bin(tmp_path, name):
    check_refused(tmp_path / name, b"\x00" * 39)
    check_refused(tmp_path / name, b"\x00" * 44)


def test_bad_columns(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\x00" * 40)
    for columns in (2, 7, ("x", "y"), 4):
        with pytest.raises(ValueError, match="column"):
            read_cloud(tmp_path / "a.bin", columns=columns)


def test_bin_written_in_both_layouts(tmp_path):
    cloud = some_cloud(20)
    nuscenes = read_cloud(write_cloud(tmp_path / "a.pcd.bin", cloud))
    np.testing.assert_array_equal(nuscenes.fields["ring"], cloud.fields["ring"])
    kitti = read_cloud(write_cloud(tmp_path / "000000.bin", cloud))
    np.testing.assert_array_equal(kitti.fields["intensity"], cloud.fields["intensity"])


# --- arrays, text, LAS, S3DIS --------------------------------------------------------------------------


def test_npy_of_every_width(tmp_path):
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(30, 3))
    normals = rng.normal(size=(30, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    colours = rng.integers(0, 256, (30, 3))
    expected = {3: set(), 4: {"intensity"}, 5: {"intensity", "ring"}}
    for width, names in expected.items():
        np.save(tmp_path / "a.npy", np.concatenate([xyz, np.ones((30, width - 3))], axis=1))
        assert set(read_cloud(tmp_path / "a.npy").fields) == names
    np.save(tmp_path / "a.npy", np.concatenate([xyz, normals], axis=1))
    np.testing.assert_allclose(read_cloud(tmp_path / "a.npy").fields["normal"], normals, rtol=1e-6)
    np.save(tmp_path / "a.npy", np.concatenate([xyz, colours], axis=1))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.npy").fields["rgb"], colours)
    np.save(tmp_path / "a.npy", np.concatenate([xyz, colours, np.full((30, 1), 12.0)], axis=1))
    assert read_cloud(tmp_path / "a.npy").fields["label"].tolist() == [12] * 30
    named = np.zeros(4, [("X", "f8"), ("y", "f4"), ("z", "f4"), ("i", "u1")])
    np.save(tmp_path / "a.npy", named)
    assert set(read_cloud(tmp_path / "a.npy").fields) == {"intensity"}


def test_npy_that_is_no_cloud(tmp_path):
    for values in (
        np.zeros(5),
        np.zeros((5, 2)),
        np.zeros((5, 9)),
        np.zeros((2, 5, 3)),
        np.array([["a"] * 3]),
    ):
        np.save(tmp_path / "a.npy", values)
        with pytest.raises(ValueError, match="cannot be read as a point cloud"):
            read_cloud(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        read_cloud(tmp_path / "b.npy")
    content = (tmp_path / "a.npy").read_bytes()
    unclosed = content.replace(b"}", b"(", 1)  # numpy reads the header as Python
    for damaged in (b"", content[:20], content[:-1], b"PK\x03\x04" + content, unclosed):
        check_refused(tmp_path / "c.npy", damaged)
        check_refused(tmp_path / "c.npz", damaged)


def test_npz_with_several_clouds(tmp_path):
    points = np.arange(21, dtype=np.float32).reshape(7, 3)
    np.savez(tmp_path / "a.npz", points=points, offsets=[0, 3, 3, 7], label=[0, 1, 2])
    with pytest.raises(ValueError, match="3 clouds"):
        read_cloud(tmp_path / "a.npz")
    clouds = list(read_clouds(tmp_path / "a.npz"))
    assert [len(c) for c in clouds] == [3, 0, 4]
    np.testing.assert_array_equal(clouds[2].xyz, points[3:])
    np.savez(tmp_path / "b.npz", points=np.zeros((2, 5, 3)))
    assert [len(c) for c in read_clouds(tmp_path / "b.npz")] == [5, 5]
    np.savez(tmp_path / "c.npz", points=points, offsets=[0, 9, 7])
    with pytest.raises(ValueError, match="offsets"):
        list(read_clouds(tmp_path / "c.npz"))
    assert len(list(read_clouds(write_cloud(tmp_path / "d.ply", some_cloud(4))))) == 1


def test_text_tables(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("1,2,3,10,20,30\n4,5,6,40,50,60\n")
    assert read_cloud(path).fields["rgb"].tolist() == [[10, 20, 30], [40, 50, 60]]
    path.write_text("// x y\n# comment\n1 2 3 0.5\n")
    assert read_cloud(path).fields["intensity"].tolist() == [0.5]
    path.write_text("X;Y;Z;Label\n1;2;3;7\n")
    assert read_cloud(path).fields["label"].tolist() == [7]
    for bad in ("1 2 three\n", "1 2\n", "1 2 3\n4 5\n", "1 2 3 4 5 6 7 8 9\n"):
        check_refused(path, bad.encode())


@pytest.mark.parametrize("suffix", [".las", ".pcd", ".ply", ".txt"])
def test_far_coordinates_keep_their_precision(tmp_path, suffix):
    columns = {"a": np.array([[637012.241, 849028.318, 431.667], [637013.352, 849027.117, 432.001]])}
    np.save(tmp_path / "a.npy", columns["a"])
    cloud = read_cloud(tmp_path / "a.npy")
    assert cloud.frame == "offset_637000_849000_0"
    assert np.abs(cloud.xyz).max() < 1000
    back = read_cloud(write_cloud(tmp_path / f"b{suffix}", cloud))
    assert back.frame == cloud.frame
    origin = np.array([637000, 849000, 0])
    np.testing.assert_allclose(back.xyz.astype(np.float64) + origin, columns["a"], atol=6e-4)


def test_damaged_las(tmp_path):
    pytest.importorskip("laspy")
    content = write_cloud(tmp_path / "a.las", some_cloud()).read_bytes()
    check_refused(tmp_path / "b.las", b"")
    check_refused(tmp_path / "b.las", b"nope" + content[4:])
    check_refused(tmp_path / "b.las", content[:200])


def test_s3dis_room(tmp_path, caplog):
    folder = tmp_path / "office_1" / "Annotations"
    folder.mkdir(parents=True)
    (folder / "ceiling_1.txt").write_text("0 0 3 200 200 200\n1 0 3 255 0 1\n")
    (folder / "stairs_1.txt").write_text("0 0 0 1 2 3\n")
    # the published data has a control character between two values, and files without a last newline
    (folder / "chair_12.txt").write_bytes(b"1 1 1 10 185\x10187\n1 1 2 1853o 9\n2 2 2 4 5 6")
    cloud = read_cloud(tmp_path / "office_1")
    assert cloud.fields["label"].tolist() == [0, 0, 8, 8, 12]
    assert cloud.fields["instance"].tolist() == [1, 1, 2, 2, 3]
    assert cloud.fields["rgb"][2].tolist() == [10, 185, 187]
    assert cloud_files(tmp_path) == [tmp_path / "office_1"]
    assert "1 damaged lines repaired, 1 left out" in caplog.text
    for file in folder.iterdir():
        file.write_text("")
    with pytest.raises(ValueError, match="no points"):
        read_cloud(tmp_path / "office_1")


# --- dispatch, folders, labels --------------------------------------------------------------------------


def test_unknown_and_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_cloud(tmp_path / "a.pcd")
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"'.jpg' are not known"):
        read_cloud(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="not an S3DIS room"):
        read_cloud(tmp_path)
    with pytest.raises(ValueError, match="not written"):
        write_cloud(tmp_path / "a.jpg", some_cloud())
    with pytest.raises(FileNotFoundError, match="no folder"):
        cloud_files(tmp_path / "nothing")


def test_cloud_files_finds_clouds_only(tmp_path):
    cloud = some_cloud(3)
    wanted = ["a.pcd", "b/velodyne/000000.bin", "b/x.pcd.bin", "c.npz", "d.npy", "e.ply"]
    for name in wanted:
        write_cloud(tmp_path / name, cloud)
    for name in ("calib.txt", "0_lidarseg.bin", "picture.jpg", ".hidden.pcd"):
        (tmp_path / name).write_bytes(b"1 2 3")
    np.save(tmp_path / "label.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    assert [str(p.relative_to(tmp_path)) for p in cloud_files(tmp_path)] == wanted


@pytest.mark.parametrize("suffix", [".label", ".bin", ".npy", ".npz"])
def test_label_files(tmp_path, suffix):
    label, instance = np.array([0, 40, 252]), np.array([0, 7, 65535])
    path = write_labels(tmp_path / f"a{suffix}", label, instance)
    read, ids = read_labels(path, 3)
    np.testing.assert_array_equal(read, label)
    np.testing.assert_array_equal(ids, instance if suffix in (".label", ".npz") else 0)
    with pytest.raises(ValueError, match="3 labels for 4 points"):
        read_labels(path, 4)


def test_semantickitti_label_bits(tmp_path):
    (tmp_path / "a.label").write_bytes(struct.pack("<II", (5 << 16) | 40, 71))
    label, instance = read_labels(tmp_path / "a.label")
    assert (label.tolist(), instance.tolist()) == ([40, 71], [5, 0])


def test_damaged_labels(tmp_path):
    (tmp_path / "a.label").write_bytes(b"\x00" * 7)
    with pytest.raises(ValueError, match="truncated"):
        read_labels(tmp_path / "a.label")
    with pytest.raises(FileNotFoundError):
        read_labels(tmp_path / "b.label")
    np.savez(tmp_path / "c.npz", other=np.zeros(3))
    with pytest.raises(ValueError, match="label"):
        read_labels(tmp_path / "c.npz")
    with pytest.raises(ValueError, match="do not fit"):
        write_labels(tmp_path / "d.bin", np.array([256]))


def test_labels_in_the_cloud_win_over_those_beside_it(tmp_path):
    path = write_cloud(tmp_path / "sequences/00/velodyne/000000.bin", some_cloud(5))
    (tmp_path / "sequences/00/labels").mkdir()
    write_labels(tmp_path / "sequences/00/labels/000000.label", np.arange(5))
    assert find_label_file(path) == tmp_path / "sequences/00/labels/000000.label"
    assert labels_of(read_cloud(path), path).tolist() == [0, 1, 2, 3, 4]
    assert labels_of(some_cloud(5), path).tolist() == some_cloud(5).fields["label"].tolist()
    write_cloud(tmp_path / "a.pcd", some_cloud(5))
    assert find_label_file(tmp_path / "a.pcd") is None
    write_labels(tmp_path / "a.label", np.arange(5))
    assert find_label_file(tmp_path / "a.pcd") == tmp_path / "a.label"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([".pcd", ".ply", ".npy", ".npz", ".bin"]), st.data())
def test_any_damage_gives_a_cloud_or_a_value_error(tmp_path, suffix, data):
    path = write_cloud(tmp_path / f"whole{suffix}", some_cloud(6))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (tmp_path / f"000000{suffix}").write_bytes(content[:cut])
    with contextlib.suppress(ValueError):
        read_cloud(tmp_path / f"000000{suffix}")
    if suffix in (".npy", ".npz"):
        with contextlib.suppress(ValueError):
            read_labels(tmp_path / f"000000{suffix}")
        cloud_files(tmp_path)


# --- the real files ---------------------------------------------------------------------------------------

REAL = {
    "nuscenes/mmdet3d_demo_scene0061/*.pcd.bin": (34688, {"intensity", "ring"}, None),
    "nuscenes/pandaset002_nusc_dev/samples/LIDAR_TOP/*1557539956500022.pcd.bin": (
        106169,
        {"intensity", "ring"},
        None,
    ),
    "semantickitti/mmdet3d_seq00/velodyne/000000.bin": (124668, {"intensity"}, None),
    "outdoor_other/kitti_object/mmdet3d_demo/000008.bin": (17238, {"intensity"}, None),
    "outdoor_other/kitti_object/training/velodyne/000000.bin": (115384, {"intensity"}, None),
    "outdoor_other/sustech_points/lidar/000950.pcd": (68242, {"intensity", "ring", "time"}, None),
    "outdoor_other/isprs_terrain/samp11-utm.pcd": (38010, set(), None),
    "outdoor_other/las/simple.la[sz]": (1065, {"intensity", "rgb", "label", "time"}, None),
    "rgbd/mOSD_kinect_labelled/learn/*.pcd": (307200, {"label", "rgb"}, (480, 640)),
    "scannet/mmdet3d_instance_data/scene0000_00_vert_all.npy": (81369, {"rgb"}, None),
    "s3dis/Area_3/hallway_3": (175075, {"rgb", "label", "instance"}, None),
    "calibration/acfr_vlp/pcd/pose1_full.pcd": (23969, {"intensity", "ring"}, None),
}


@pytest.mark.skipif(DATA is None, reason="PC_PERCEPTION_DATA does not name the folder of real data")
@pytest.mark.parametrize("pattern", REAL)
def test_real_files(pattern):
    n_points, fields, grid = REAL[pattern]
    files = sorted(Path(DATA or "").glob(pattern))
    if not files:
        pytest.skip(f"no {pattern} in the folder of real data")
    for file in files:
        cloud = read_cloud(file)
        assert len(cloud) == n_points
        assert set(cloud.fields) == fields
        assert cloud.grid_shape == grid
        assert cloud.finite().sum() > 0.5 * n_points


@pytest.mark.skipif(DATA is None, reason="PC_PERCEPTION_DATA does not name the folder of real data")
def test_real_sun_rgbd_cloud_needs_its_columns():
    file = Path(DATA or "") / "rgbd/sunrgbd_000017/000017.bin"
    if not file.exists():
        pytest.skip("no SUN RGB-D cloud in the folder of real data")
    with pytest.raises(ValueError, match="columns=4 or 6"):
        read_cloud(file)
    cloud = read_cloud(file, columns=6)
    assert len(cloud) == 50000
    assert cloud.fields["rgb"].max() > 100


@pytest.mark.skipif(DATA is None, reason="PC_PERCEPTION_DATA does not name the folder of real data")
def test_every_real_cloud_is_read_or_refused_with_a_reason():
    n_read = 0
    for file in cloud_files(DATA or ""):
        try:
            cloud = read_cloud(file)
        except ValueError as error:
            assert "clouds; read them with read_clouds" in str(error) or "columns=" in str(error)  # noqa: PT017
            continue
        n_read += 1
        assert np.isfinite(cloud.xyz).any()
        label = labels_of(cloud, file)
        assert label is None or len(label) == len(cloud)
    assert n_read > 0
