# SPDX-License-Identifier: Apache-2.0
"""Depth images of recordings as clouds, and the tree of transforms."""

from __future__ import annotations

import os
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest

from pc_perception.geometry import pose, rotation_x, rotation_z
from pc_perception.io.bags import BagReader, BagWriter
from pc_perception.io.image_messages import fill_camera_info, fill_image
from pc_perception.io.message_types import new_message
from pc_perception.io.rgbd import cloud_from_depth
from pc_perception.io.tf_tree import TransformTree

rosbags = pytest.importorskip("rosbags")

DATA = os.environ.get("PC_PERCEPTION_DATA")
SECOND = 10**9


K = np.array([[50.0, 0, 2.0], [0, 50.0, 1.0], [0, 0, 1]])


def jpeg(image):
    Image = pytest.importorskip("PIL.Image")
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("depth_type", [np.uint16, np.float32])
@pytest.mark.parametrize("compressed", [False, True])
def test_depth_images_become_organised_clouds(tmp_path, depth_type, compressed):
    rng = np.random.default_rng(0)
    scale = 1000 if depth_type == np.uint16 else 1
    colours = rng.integers(0, 256, (4, 3, 5, 3)).astype(np.uint8)
    with BagWriter(tmp_path / "a.mcap") as bag:
        for k in range(4):
            stamp = (k + 1) * SECOND
            depth = np.full((3, 5), (k + 1) * scale, depth_type)
            depth[0, 0] = 0
            bag.write_image("/camera/depth/image_raw", depth, "cam_optical_frame", stamp)
            if k == 0:  # latched cameras say it once, and perhaps after the first image
                bag.write_camera_info("/camera/depth/camera_info", K, 5, 3, "cam_optical_frame", stamp + 1)
                bag.write_camera_info("/other/camera_info", 2 * K, 50, 30, "other", stamp)
            if k == 3:
                continue  # no colour for the last
            if compressed:
                picture = jpeg(colours[k])
                bag.write_compressed_image("/camera/color", picture, "cam_optical_frame", stamp + 20, "png")
            else:
                bag.write_image("/camera/color", colours[k], "cam_optical_frame", stamp + 20)
    with BagReader(tmp_path / "a.mcap") as bag:
        assert bag.default_topic() == "/camera/depth/image_raw"
        clouds = [cloud for _, cloud in bag.clouds()]
    assert [c.stamp_ns for c in clouds] == [k * SECOND for k in range(1, 5)]
    for k, cloud in enumerate(clouds):
        assert cloud.is_optical
        assert cloud.grid_shape == (3, 5)
        assert np.isnan(cloud.xyz[0]).all()
        z = k + 1.0
        np.testing.assert_allclose(cloud.xyz[7], [0.0, 0.0, z], atol=1e-6)  # row 1, column 2
        np.testing.assert_allclose(cloud.xyz[14], [2 * z / 50, z / 50, z], rtol=1e-6)
        if k < 3:
            np.testing.assert_array_equal(cloud.fields["rgb"], colours[k].reshape(-1, 3))
        else:
            assert "rgb" not in cloud.fields


def test_depth_without_camera_info(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_image("/depth", np.ones((3, 5), np.float32), "cam", SECOND)
    with BagReader(tmp_path / "a.mcap") as bag, pytest.raises(ValueError, match="no CameraInfo"):
        next(bag.clouds())


def test_depth_too_near_and_too_far_is_infinite():
    """REP-117, as Gazebo and ZED write it; with ZED's bgra8."""
    depth = np.full((3, 5), 2.0, np.float32)
    depth[0, 2], depth[1, 2], depth[2, 2] = np.inf, -np.inf, np.nan
    picture = np.zeros((3, 5, 4), np.uint8)
    picture[..., :3] = 30, 20, 10
    info = fill_camera_info(new_message("sensor_msgs/msg/CameraInfo"), K, 5, 3, "left", 1)
    images = [new_message("sensor_msgs/msg/Image") for _ in range(2)]
    fill_image(images[0], depth, "left", 1)
    fill_image(images[1], picture, "left", 1, "bgra8")
    cloud = cloud_from_depth(images[0], info, images[1])
    np.testing.assert_array_equal(np.isnan(cloud.xyz).any(1).reshape(3, 5), ~np.isfinite(depth))
    assert not np.isinf(cloud.xyz).any()
    assert (cloud.fields["rgb"] == [10, 20, 30]).all()


def test_rectified_depth_is_seen_through_the_projection_matrix():
    """K is of the raw image, P of the rectified one; a driver that leaves P out means K."""
    depth = fill_image(new_message("sensor_msgs/msg/Image"), np.full((3, 5), 2.0, np.float32), "left", 1)
    P = np.hstack([K * [[2.0], [2.0], [1.0]], np.zeros((3, 1))])
    for projection, matrix in ((P, P[:, :3]), (np.zeros((3, 4)), K)):
        info = new_message("sensor_msgs/msg/CameraInfo")
        fill_camera_info(info, K, 5, 3, "left", 1, P=projection)
        x, y, z = cloud_from_depth(depth, info).xyz[3 * 5 - 1]
        np.testing.assert_allclose(matrix @ [x / z, y / z, 1], [4, 2, 1], rtol=1e-6)


def test_images_with_row_padding_and_big_endian():
    from pc_perception.io.rgbd import color_image, depth_image

    data = np.zeros((2, 8), np.uint8)
    data[:, :6] = np.array([[0, 1, 0, 2, 0, 3], [1, 0, 2, 0, 3, 0]])
    msg = SimpleNamespace(height=2, width=3, step=8, encoding="16UC1", is_bigendian=1, data=data.tobytes())
    np.testing.assert_allclose(depth_image(msg), [[0.001, 0.002, 0.003], [0.256, 0.512, 0.768]])
    msg = SimpleNamespace(height=2, width=2, step=8, encoding="bgr8", is_bigendian=0, data=data.tobytes())
    np.testing.assert_array_equal(color_image(msg)[0], [[0, 1, 0], [3, 0, 2]])
    for change in ({"step": 3}, {"height": 9}, {"encoding": "yuv"}, {"height": -1}):
        with pytest.raises(ValueError, match="image"):
            color_image(SimpleNamespace(**{**vars(msg), **change}))
    with pytest.raises(ValueError, match="cannot be decoded"):
        color_image(SimpleNamespace(data=b"\xff\xd8 not a picture"))


# --- transforms --------------------------------------------------------------------------------------------


def test_lookup_interpolates_position_and_rotation():
    tree = TransformTree()
    half = np.sqrt(0.5)
    tree.add("map", "base", 0, (0, 0, 0), (0, 0, 0, 1))
    tree.add("map", "base", SECOND, (2, 0, 0), (0, 0, half, half))  # 90 degrees about z
    tree.add("base", "lidar", 0, (0, 0, 1), (half, 0, 0, half), static=True)
    expected = pose((1, 0, 0), rotation_z(np.pi / 4)) @ pose((0, 0, 1), rotation_x(np.pi / 2))
    T = tree.lookup("map", "lidar", SECOND // 2)
    np.testing.assert_allclose(T, expected, atol=1e-12)
    np.testing.assert_allclose(tree.lookup("lidar", "map", SECOND // 2) @ T, np.eye(4), atol=1e-12)
    np.testing.assert_array_equal(tree.lookup("a", "a", 0), np.eye(4))
    assert tree.frames == {"map", "base", "lidar"}


def test_lookup_between_branches_and_out_of_order_samples():
    tree = TransformTree()
    tree.add("map", "b", 2 * SECOND, (0, 2, 0), (0, 0, 0, 2))
    tree.add("map", "b", 0, (0, 0, 0), (0, 0, 0, -1))
    tree.add("/map", "/a", 0, (1, 0, 0), (0, 0, 0, 1), static=True)
    np.testing.assert_allclose(tree.lookup("a", "b", SECOND)[:3, 3], [-1, 1, 0])
    np.testing.assert_allclose(tree.lookup("a", "b", SECOND)[:3, :3], np.eye(3), atol=1e-12)


def test_lookup_refuses_what_it_does_not_know():
    tree = TransformTree(tolerance_ns=SECOND // 10)
    tree.add("map", "base", SECOND, (0, 0, 0), (0, 0, 0, 1))
    tree.add("map", "base", 2 * SECOND, (1, 0, 0), (0, 0, 0, 1))
    assert tree.lookup("map", "base", 2 * SECOND + SECOND // 20)[0, 3] == 1.0
    for stamp in (0, 3 * SECOND):
        with pytest.raises(ValueError, match="s away from the time asked"):
            tree.lookup("map", "base", stamp)
    with pytest.raises(ValueError, match="not connected"):
        tree.lookup("map", "camera", SECOND)
    for bad in (((0, 0, np.nan), (0, 0, 0, 1)), ((0, 0, 0), (0, 0, 0, 0))):
        with pytest.raises(ValueError, match="not one"):
            tree.add("map", "x", 0, *bad)
    tree.add("base", "map", SECOND, (0, 0, 0), (0, 0, 0, 1))
    with pytest.raises(ValueError, match="loop"):
        tree.lookup("map", "camera", SECOND)


# --- the real recordings -------------------------------------------------------------------------------------
