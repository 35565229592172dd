# SPDX-License-Identifier: Apache-2.0
"""Recordings: written here and read by rosbags, cut off, damaged, ROS 1, RGB-D, transforms; the real ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.geometry import pose
from pc_perception.io.bags import BagReader, BagTruncated, BagWriter, is_bag
from pc_perception.io.message_types import new_message, typestore
from pc_perception.labels import load_label_set

rosbags = pytest.importorskip("rosbags")

DATA = os.environ.get("PC_PERCEPTION_DATA")
SECOND = 10**9


def some_cloud(k=0, n=1000, **options):
    rng = np.random.default_rng(k)
    fields = {"intensity": rng.random(n, dtype=np.float32), "ring": np.arange(n).astype(np.uint16)}
    options = {"frame": "lidar", "stamp_ns": (k + 1) * SECOND} | options
    return PointCloud(rng.normal(size=(n, 3)).astype(np.float32), fields, **options)


def write_drive(path, n_clouds=6, n_points=1000, **options):
    """A short drive: label meanings, static and moving transforms, clouds."""
    with BagWriter(path, **options) as bag:
        bag.write_labels_meaning("/points", load_label_set("street8"), "lidar", SECOND)
        bag.write_transform("base_link", "lidar", pose((1.0, 0.0, 2.0)), SECOND, static=True)
        for k in range(n_clouds):
            bag.write_transform("map", "base_link", pose((10.0 * k, 0, 0)), (k + 1) * SECOND)
            bag.write_cloud("/points", some_cloud(k, n_points))
    return path


@pytest.mark.parametrize("name", ["drive.mcap", "drive"])
def test_writing_and_reading_back(tmp_path, name):
    path = write_drive(tmp_path / name)
    assert is_bag(path)
    with BagReader(path) as bag:
        assert {n: t.count for n, t in bag.topics.items()} == {
            "/points": 6,
            "/points/label_info": 1,
            "/points/legend": 1,
            "/tf": 6,
            "/tf_static": 1,
        }
        assert bag.default_topic() == "/points"
        clouds = list(bag.clouds())
        assert [stamp for stamp, _ in clouds] == [k * SECOND for k in range(1, 7)]
        for k, (_, cloud) in enumerate(clouds):
            expected = some_cloud(k)
            np.testing.assert_array_equal(cloud.xyz, expected.xyz)
            np.testing.assert_array_equal(cloud.fields["ring"], expected.fields["ring"])
            assert (cloud.frame, cloud.stamp_ns) == ("lidar", expected.stamp_ns)
        tree = bag.transforms()
        np.testing.assert_allclose(tree.lookup("map", "lidar", 2 * SECOND + SECOND // 2)[:3, 3], [16, 0, 2])


@pytest.mark.parametrize("name", ["drive.mcap", "drive"])
def test_rosbags_reads_every_message_and_its_quality_of_service(tmp_path, name):
    from rosbags.highlevel import AnyReader

    path = write_drive(tmp_path / name, n_points=40_000)  # several chunks
    with AnyReader([path]) as reader:
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
        assert durability == {
            "/points": "VOLATILE",
            "/points/label_info": "TRANSIENT_LOCAL",
            "/points/legend": "TRANSIENT_LOCAL",
            "/tf": "VOLATILE",
            "/tf_static": "TRANSIENT_LOCAL",
        }
        assert reader.message_count == 15
        for connection, _, raw in reader.messages():
            msg = reader.deserialize(raw, connection.msgtype)
            if connection.topic == "/points/label_info":
                assert [(c.class_id, c.class_name) for c in msg.class_map][-1] == (65535, "unlabeled")
                assert len(msg.class_map) == 9
            if connection.topic == "/points/legend":
                assert len({(m.ns, m.id) for m in msg.markers}) == 9
                assert msg.markers[0].text == load_label_set("street8").classes[0]
                assert msg.markers[0].pose.position.z > msg.markers[8].pose.position.z


def test_folder_has_metadata_that_ros_reads(tmp_path):
    import yaml

    path = write_drive(tmp_path / "drive")
    info = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (info["version"], info["storage_identifier"], info["message_count"]) == (9, "mcap", 15)
    assert info["starting_time"]["nanoseconds_since_epoch"] == SECOND
    assert info["duration"]["nanoseconds"] == 5 * SECOND
    assert (path / info["relative_file_paths"][0]).is_file()
    for topic in info["topics_with_message_count"]:
        assert topic["topic_metadata"]["type_description_hash"].startswith("RIHS01_")


def test_an_existing_recording_is_not_overwritten_unless_asked(tmp_path):
    for name in ("a.mcap", "a"):
        path = write_drive(tmp_path / name, n_clouds=2)
        with pytest.raises(FileExistsError, match="exists already"):
            BagWriter(path)
        write_drive(path, n_clouds=1, overwrite=True)
        with BagReader(path) as bag:
            assert bag.topics["/points"].count == 1


def test_an_empty_recording(tmp_path):
    for name in ("a.mcap", "a"):
        BagWriter(tmp_path / name).close()
        with BagReader(tmp_path / name) as bag:
            assert bag.topics == {}
            with pytest.raises(ValueError, match="no clouds"):
                bag.default_topic()


def test_an_exception_while_writing_leaves_a_complete_file(tmp_path):
    def fail():
        with BagWriter(tmp_path / "a.mcap") as bag:
            bag.write_cloud("/points", some_cloud())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with BagReader(tmp_path / "a.mcap") as bag:
        assert len(list(bag.clouds())) == 1


def test_a_killed_writer_leaves_all_but_the_last_chunk(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from pc_perception.cloud import PointCloud\n"
        "from pc_perception.io.bags import BagWriter\n"
        "bag = BagWriter(sys.argv[1])\n"
        "for k in range(20):\n"
        "    xyz = np.full((40000, 3), k + 1, np.float32)\n"
        "    bag.write_cloud('/points', PointCloud(xyz, {}, 'lidar', k))\n"
        "print('written', flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = tmp_path / "a.mcap"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stdin.close()
    clouds, error = read_all(path)
    assert "cut off" in str(error)
    assert 18 <= len(clouds) <= 20
    assert all((cloud.xyz == k + 1).all() for k, cloud in enumerate(clouds))


def read_all(path, topic=None):
    """Return the clouds and the error that ended the reading, if any."""
    clouds = []
    with BagReader(path) as bag:
        try:
            clouds.extend(cloud for _, cloud in bag.clouds(topic))
        except BagTruncated as error:
            return clouds, error
    return clouds, None


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8])
def test_a_cut_mcap_gives_what_is_before_the_cut(tmp_path, share):
    raw = write_drive(tmp_path / "a.mcap", n_points=50_000).read_bytes()
    size = int(share * len(raw))
    (tmp_path / "b.mcap").write_bytes(raw[:size])
    clouds, error = read_all(tmp_path / "b.mcap")
    per_cloud = 50_000 * 20
    assert abs(len(clouds) - min(6, size // per_cloud)) <= 1
    assert len(clouds) > 0
    assert "cut off or damaged" in str(error)
    assert "\n" not in str(error)
    for k, cloud in enumerate(clouds):
        np.testing.assert_array_equal(cloud.xyz, some_cloud(k, 50_000).xyz)


def test_an_mcap_without_its_index_is_read_as_if_whole(tmp_path):
    path = write_drive(tmp_path / "a.mcap", n_points=50_000)
    path.write_bytes(path.read_bytes()[:-100])
    clouds, error = read_all(path)
    assert len(clouds) == 6
    assert error is None


def test_a_cut_folder_with_and_without_its_metadata(tmp_path):
    path = write_drive(tmp_path / "a", n_points=50_000)
    file = path / "a_0.mcap"
    file.write_bytes(file.read_bytes()[:3_500_000])
    with_metadata, error = read_all(path)
    assert error is not None
    (path / "metadata.yaml").unlink()
    without, error = read_all(path)
    assert error is not None
    assert len(with_metadata) == len(without) == 3


def test_a_split_recording_goes_on_after_a_damaged_part(tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    for part in range(2):
        with BagWriter(folder / f"split_{part}.mcap") as bag:
            for k in range(3):
                bag.write_cloud("/points", some_cloud(3 * part + k, 50_000))
    first = folder / "split_0.mcap"
    first.write_bytes(first.read_bytes()[:1_500_000])
    clouds, error = read_all(folder)
    assert error is not None
    assert [cloud.stamp_ns // SECOND for cloud in clouds] == [1, 4, 5, 6]


def test_a_flipped_byte_in_the_middle(tmp_path):
    path = write_drive(tmp_path / "a.mcap", n_points=50_000)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    clouds, error = read_all(path)
    assert "hecksum" in str(error)
    assert 1 <= len(clouds) <= 3


def test_damaged_message_definitions_of_known_types_do_not_matter(tmp_path):
    path = write_drive(tmp_path / "a.mcap")
    raw = bytearray(path.read_bytes().replace(b"uint32 width", b"uint3? width"))
    chunk_at = 17 + int.from_bytes(raw[9:17], "little")
    assert raw[chunk_at] == 6
    raw[chunk_at + 33 : chunk_at + 37] = bytes(4)  # no checksum, which the format allows
    path.write_bytes(raw[:-100])
    clouds, error = read_all(path)
    assert len(clouds) == 6
    assert error is None


@pytest.mark.parametrize("content", [b"", b"not a bag", b"\x89MCAP0\r\n", b"\x89MCAP0\r\n" + b"\xff" * 60])
@pytest.mark.parametrize("suffix", [".mcap", ".db3", ".bag"])
def test_what_is_no_bag_gets_one_sentence(tmp_path, content, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bag") as error, BagReader(path) as bag:
        bag.default_topic()
    assert "\n" not in str(error.value)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no bag"), BagReader(tmp_path / "a.mcap"):
        pass
    with pytest.raises(ValueError, match="not a bag"), BagReader(tmp_path):
        pass
    with BagReader(write_drive(tmp_path / "a.mcap")) as bag:
        with pytest.raises(ValueError, match=r"no topic '/cloud'.*/points \(PointCloud2, 6\)"):
            next(bag.clouds("/cloud"))
        with pytest.raises(ValueError, match="not a cloud"):
            next(bag.clouds("/tf"))


def test_several_cloud_topics_have_to_be_chosen_from(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as writer:
        writer.write_cloud("/front", some_cloud(0))
        writer.write_cloud("/rear", some_cloud(1))
    with BagReader(tmp_path / "a.mcap") as bag:
        with pytest.raises(ValueError, match=r"--topic\): /front, /rear"):
            next(bag.clouds())
        assert len(list(bag.clouds("/rear"))) == 1


def test_a_broken_message_is_left_out_and_counted(tmp_path, caplog):
    with BagWriter(tmp_path / "a.mcap") as writer:
        for k in range(3):
            writer.write_cloud("/points", some_cloud(k))
        bad = new_message("sensor_msgs/msg/PointCloud2")
        bad.height, bad.width, bad.point_step = 1, 10, 16
        writer.write("/points", "sensor_msgs/msg/PointCloud2", bad, 5)
        writer._writer.write(writer._channels["/points"], 6, b"\x00\x01\x00\x00rubbish")
    with BagReader(tmp_path / "a.mcap") as bag:
        assert len(list(bag.clouds())) == 3
        assert len(bag.left_out) == 2
    assert "left out" in caplog.text


def test_copying_every_topic_unchanged(tmp_path):
    path = write_drive(tmp_path / "a.mcap")
    with BagReader(path) as bag, BagWriter(tmp_path / "b") as writer:
        for topic, stamp_ns, raw in bag.messages():
            writer.copy(topic, stamp_ns, raw)
            if topic.name == "/points":
                assert bag.decode(topic, raw).width == 1000
    with BagReader(path) as first, BagReader(tmp_path / "b") as second:
        assert first.topics == second.topics
        assert [m[1:] for m in first.messages()] == [m[1:] for m in second.messages()]


def test_one_topic_has_one_type(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as writer:
        writer.write_cloud("/points", some_cloud())
        with pytest.raises(ValueError, match="is a sensor_msgs/msg/PointCloud2"):
            writer.write_image("/points", np.zeros((2, 2, 3), np.uint8), "camera", 0)


# --- other storages --------------------------------------------------------------------------------------


def write_sqlite(path, n=5):
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as bag:
        connection = bag.add_connection("/points", "sensor_msgs/msg/PointCloud2", typestore=typestore())
        for k in range(n):
            bag.write(connection, (k + 1) * SECOND, cloud_bytes(k))
    return path


def cloud_bytes(k):
    """The bytes of one cloud's message, taken from a bag of ours."""
    path = Path(os.environ["PYTEST_SCRATCH"]) / f"{k}.mcap"
    with BagWriter(path, overwrite=True) as writer:
        writer.write_cloud("/points", some_cloud(k, 20_000))
    with BagReader(path) as bag:
        return next(bag.messages())[2]


@pytest.fixture
def _scratch(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PYTEST_SCRATCH", str(tmp_path_factory.mktemp("scratch")))


@pytest.mark.usefixtures("_scratch")
def test_sqlite_whole_alone_and_cut(tmp_path):
    path = write_sqlite(tmp_path / "a")
    file = next(path.glob("*.db3"))
    for whole in (path, file):
        clouds, error = read_all(whole)
        assert error is None
        assert len(clouds) == 5
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) * 6 // 10 // 4096 * 4096])
    clouds, error = read_all(path)
    assert error is not None
    assert 1 <= len(clouds) < 5
    np.testing.assert_array_equal(clouds[0].xyz, some_cloud(0, 20_000).xyz)


def write_ros1(path, compression=None):
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    writer = Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer as bag:
        connection = bag.add_connection("/points", "sensor_msgs/msg/PointCloud2", typestore=store)
        types = store.types
        for k in range(60):
            xyz = some_cloud(k, 2000).xyz
            header = types["std_msgs/msg/Header"](
                seq=k, stamp=types["builtin_interfaces/msg/Time"](sec=k + 1, nanosec=5), frame_id="velodyne"
            )
            field = types["sensor_msgs/msg/PointField"]
            fields = [field(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate("xyz")]
            msg = types["sensor_msgs/msg/PointCloud2"](
                header=header,
                height=1,
                width=2000,
                fields=fields,
                is_bigendian=False,
                point_step=12,
                row_step=24000,
                data=xyz.reshape(-1).view(np.uint8),
                is_dense=True,
            )
            raw = store.serialize_ros1(msg, "sensor_msgs/msg/PointCloud2")
            bag.write(connection, (k + 1) * SECOND, raw)
    return path


@pytest.mark.parametrize("compression", [None, "BZ2", "LZ4"])
def test_ros1_whole_and_cut(tmp_path, compression):
    from rosbags.rosbag1 import Writer

    kind = Writer.CompressionFormat[compression] if compression else None
    path = write_ros1(tmp_path / "a.bag", kind)
    clouds, error = read_all(path)
    assert error is None
    assert len(clouds) == 60
    assert (clouds[2].frame, clouds[2].stamp_ns) == ("velodyne", 3 * SECOND + 5)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * 0.8)])
    clouds, error = read_all(path)
    assert error is not None
    assert 1 <= len(clouds) < 60
    for k, cloud in enumerate(clouds):
        np.testing.assert_array_equal(cloud.xyz, some_cloud(k, 2000).xyz)


def test_ros1_messages_are_copied_as_ros2(tmp_path):
    path = write_ros1(tmp_path / "a.bag")
    with BagReader(path) as bag, BagWriter(tmp_path / "b.mcap") as writer:
        for topic, stamp_ns, raw in bag.messages():
            writer.copy(topic, stamp_ns, raw)
            assert bag.decode(topic, raw).header.frame_id == "velodyne"
    before, after = read_all(path)[0], read_all(tmp_path / "b.mcap")[0]
    assert len(before) == len(after) == 60
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a.xyz, b.xyz)
        assert (a.frame, a.stamp_ns) == (b.frame, b.stamp_ns)


# --- RGB-D -----------------------------------------------------------------------------------------------

REAL = {
    "pandaset002_frames05-12_mcap": (
        "/sensing/lidar/top/points",
        8,
        106117,
        {"intensity", "ring", "time"},
        None,
    ),
    "sevenscenes_rgbd_mcap": ("/camera/aligned_depth_to_color/image_raw", 8, 307200, {"rgb"}, (480, 640)),
    "acfr_vlp16_ros1.bag": ("/velodyne/front/points", 4, 23969, {"intensity", "ring"}, None),
}


@pytest.mark.skipif(DATA is None, reason="PC_PERCEPTION_DATA does not name the folder of real data")
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("cut", [False, True])
def test_real_recordings(name, cut, tmp_path):
    topic, count, n_points, fields, grid = REAL[name]
    path = Path(DATA or "") / "rosbags/dev" / name
    if not path.exists():
        pytest.skip(f"no {name} in the folder of real data")
    if cut:
        file = next(path.glob("*.mcap")) if path.is_dir() else path
        copy = Path(shutil.copy(file, tmp_path))
        os.chmod(copy, 0o644)
        with copy.open("r+b") as stream:
            stream.truncate(copy.stat().st_size * 6 // 10)
        path = copy
    with BagReader(path) as bag:
        assert bag.default_topic() == topic
    clouds, error = read_all(path)
    assert (error is not None) == cut
    assert (0 < len(clouds) < count) if cut else len(clouds) == count
    assert len(clouds[0]) == n_points
    assert set(clouds[0].fields) == fields
    assert clouds[0].grid_shape == grid
    assert clouds[0].is_optical == ("rgb" in fields)
