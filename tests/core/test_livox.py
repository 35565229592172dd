# SPDX-License-Identifier: Apache-2.0
"""Livox's CustomMsg, serialised by rosbags from its definition: recordings of it are clouds like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pc_perception.cli import main
from pc_perception.io.bags import BagReader
from pc_perception.io.livox import TYPES, custom_msg
from pc_perception.io.message_types import typestore
from pc_perception.io.pointcloud2 import cloud_from_msg

pytest.importorskip("rosbags")
from rosbags.interfaces import ConnectionExtRosbag1
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

POINT = "uint32 offset_time\nfloat32 x\nfloat32 y\nfloat32 z\nuint8 reflectivity\nuint8 tag\nuint8 line\n"
MESSAGE = (
    "std_msgs/Header header\nuint64 timebase\nuint32 point_num\nuint8 lidar_id\nuint8[3] rsvd\n"
    "CustomPoint[] points\n"
)
HASH = "RIHS01_2eb17e5e35bf5a2d6cd079f3c57f33abf95e5bf7d71b42cddc05daace73d815a"
STAMP_NS = 1_700_000_000_250_000_000


def store_of(msgtype: str, which: Stores):  # type: ignore[no-untyped-def]
    store = get_typestore(which)
    package = msgtype.split("/")[0]
    types = get_types_from_msg(POINT, f"{package}/msg/CustomPoint")
    store.register({**types, **get_types_from_msg(MESSAGE, msgtype)})
    return store


def some_points(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-40, 40, (n, 3)).astype(np.float32)
    return xyz, rng.integers(0, 256, n), np.sort(rng.integers(0, 100_000_000, n))


def livox_message(store, msgtype: str, n: int, seed: int = 0, frame: str = "livox_frame"):  # type: ignore[no-untyped-def]
    types, (xyz, bright, offsets) = store.types, some_points(n, seed)
    make_point = types[msgtype.replace("Msg", "Point")]
    points = [
        make_point(int(t), *map(float, p), int(b), 16, i % 4)
        for i, (t, p, b) in enumerate(zip(offsets, xyz, bright, strict=True))
    ]
    stamp = types["builtin_interfaces/msg/Time"](*divmod(STAMP_NS, 10**9))
    header = types["std_msgs/msg/Header"]
    seq = (7,) if "seq" in header.__dataclass_fields__ else ()
    return types[msgtype](
        header(*seq, stamp=stamp, frame_id=frame), 5 * 10**9, n, 1, np.zeros(3, np.uint8), points
    )


def same_cloud(cloud, n: int, seed: int = 0) -> None:  # type: ignore[no-untyped-def]
    xyz, bright, offsets = some_points(n, seed)
    assert np.array_equal(cloud.xyz, xyz)
    assert np.array_equal(cloud.fields["intensity"], bright)
    assert np.allclose(cloud.fields["time"], offsets * 1e-9, atol=1e-8)
    assert np.array_equal(cloud.fields["line"], np.arange(n) % 4)
    assert cloud.stamp_ns == STAMP_NS


@pytest.mark.parametrize("frame", ["", "f", "livox_frame", "a/frame/of/18/chars"])
@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_every_alignment_and_byte_order(n: int, little_endian: bool, frame: str) -> None:
    store = store_of(TYPES[0], Stores.ROS2_JAZZY)
    raw = bytes(
        store.serialize_cdr(
            livox_message(store, TYPES[0], n, frame=frame), TYPES[0], little_endian=little_endian
        )
    )
    cloud = cloud_from_msg(custom_msg(raw))
    same_cloud(cloud, n)
    assert cloud.frame == frame


def test_a_message_cut_anywhere_is_told() -> None:
    for which, is_ros1 in ((Stores.ROS2_JAZZY, False), (Stores.ROS1_NOETIC, True)):
        store = store_of(TYPES[1], which)
        serialize = store.serialize_ros1 if is_ros1 else store.serialize_cdr
        raw = bytes(serialize(livox_message(store, TYPES[1], 3), TYPES[1]))
        same_cloud(cloud_from_msg(custom_msg(raw, is_ros1)), 3)
        for end in range(len(raw)):
            with pytest.raises(ValueError, match=r"truncated|less than the head"):
                custom_msg(raw[:end], is_ros1)


def test_the_type_s_hash_is_that_of_the_built_package() -> None:
    """ROS 2 compares it; rosidl gave it for livox_ros_driver2's .msg files."""
    assert typestore().hash_rihs01(TYPES[0]) == HASH


def test_another_layout_of_points_is_refused() -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(
        {
            **get_types_from_msg(POINT.replace("uint32", "float64"), "livox_ros_driver2/msg/CustomPoint"),
            **get_types_from_msg(MESSAGE, TYPES[0]),
        }
    )
    raw = bytes(store.serialize_cdr(livox_message(store, TYPES[0], 50), TYPES[0]))
    with pytest.raises(ValueError, match="another layout"):
        custom_msg(raw)


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_recording_is_labelled(tmp_path: Path, model_path: Path, plugin: StoragePlugin) -> None:
    store, msgtype = store_of(TYPES[0], Stores.ROS2_JAZZY), TYPES[0]
    with Ros2Writer(tmp_path / "drive", version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection("/livox/lidar", msgtype, typestore=store)
        for k in range(2):
            raw = store.serialize_cdr(livox_message(store, msgtype, 400, k), msgtype)
            writer.write(connection, STAMP_NS + k, raw)
    with BagReader(tmp_path / "drive") as bag:
        assert bag.default_topic() == "/livox/lidar"
        for k, (_, cloud) in enumerate(bag.clouds()):
            same_cloud(cloud, 400, k)
    out = tmp_path / "labelled.mcap"
    assert main(["segment", str(tmp_path / "drive"), "--out", str(out), "--model", str(model_path)]) == 0
    with BagReader(out) as bag:
        labelled = [cloud for _, cloud in bag.clouds("/segmentation")]
    assert [len(cloud) for cloud in labelled] == [400, 400]
    assert np.array_equal(labelled[1].xyz, some_points(400, 1)[0])


def test_a_ros_1_recording(tmp_path: Path) -> None:
    store, msgtype = store_of(TYPES[1], Stores.ROS1_NOETIC), TYPES[1]
    with Ros1Writer(tmp_path / "drive.bag") as writer:
        connection = writer.add_connection("/livox/lidar", msgtype, typestore=store)
        assert isinstance(connection.ext, ConnectionExtRosbag1)
        writer.write(connection, STAMP_NS, store.serialize_ros1(livox_message(store, msgtype, 50), msgtype))
    with BagReader(tmp_path / "drive.bag") as bag:
        ((_, cloud),) = bag.clouds()
        ((_, _, msg),) = bag.read()
    same_cloud(cloud, 50)
    same_cloud(cloud_from_msg(msg), 50)
