# SPDX-License-Identifier: Apache-2.0
"""RGB-D frames: units, sizes, decimation, colours of an unregistered camera, the label image."""

from __future__ import annotations

import numpy as np
import pytest

from pc_perception.geometry import pose, transform
from pc_perception.inference.contract import InputContract
from pc_perception.inference.rgbd_stream import (
    GREY,
    ColorCamera,
    RgbdSegmenter,
    mismatched_frames,
    rgbd_cloud,
)
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.inference.stream import SweepSegmenter
from pc_perception.io.image_messages import fill_camera_info, fill_image
from pc_perception.io.message_types import new_message
from pc_perception.labels import UNLABELED, load_label_set

pytest.importorskip("rosbags")
K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
SHAPE = (48, 64)


def image(values, frame="camera_optical_frame", stamp_ns=7):
    return fill_image(new_message("sensor_msgs/msg/Image"), values, frame, stamp_ns)


def camera_info(K=K, shape=SHAPE, frame="camera_optical_frame"):
    return fill_camera_info(new_message("sensor_msgs/msg/CameraInfo"), K, shape[1], shape[0], frame, 7)


def slanted(shape=SHAPE):
    """(H, W) float32 depth of a wall that recedes to the right, 1 to 3 m."""
    return np.tile(np.linspace(1, 3, shape[1], dtype=np.float32), (shape[0], 1))


class ByDepth:
    """A segmenter whose labels can be told from the points: near is 0, far is 1."""

    contract, label_set = InputContract(0.1, ("offset",)), load_label_set("room9")

    def __call__(self, cloud):
        labels = np.where(cloud.xyz[:, 2] < 2, 0, 1).astype(np.uint16)
        labels[~cloud.finite()] = UNLABELED
        return SegmentationResult(labels, np.ones(len(cloud), np.float32), self.label_set, {})


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_decimation_picks_points_of_the_full_cloud(step):
    depth, info = image(slanted()), camera_info()
    rgb = image(np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8))
    full, few = rgbd_cloud(depth, info, rgb), rgbd_cloud(depth, info, rgb, step)
    kept = np.arange(len(full)).reshape(SHAPE)[step // 2 :: step, step // 2 :: step]
    assert few.grid_shape == kept.shape
    np.testing.assert_allclose(few.xyz, full.xyz[kept.ravel()], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(few.fields["rgb"], full.fields["rgb"][kept.ravel()])


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (slanted() * 1000, "32FC1 must hold metres"),
        (slanted() / 1000, "32FC1 must hold metres"),
        (slanted().astype(np.uint16), "16UC1 must hold millimetres"),
        (np.full(SHAPE, 3, np.uint16), "16UC1 must hold millimetres"),
    ],
)
def test_depth_in_the_wrong_unit_is_refused(values, unit):
    with pytest.raises(ValueError, match=unit):
        rgbd_cloud(image(values), camera_info())


def test_depth_without_any_measurement_is_no_wrong_unit():
    cloud = rgbd_cloud(image(np.zeros(SHAPE, np.uint16)), camera_info())
    assert np.isnan(cloud.xyz).all()


@pytest.mark.parametrize(
    ("rgb_shape", "K_info", "info_shape", "reason"),
    [
        ((24, 32), K, SHAPE, r"colour image has \(24, 32\) pixels, the depth \(48, 64\)"),
        (SHAPE, np.zeros((3, 3)), SHAPE, "focal lengths are not positive"),
        (SHAPE, K, (24, 32), "camera_info is for 24 x 32 pixels"),
    ],
)
def test_what_does_not_fit_is_refused_with_numbers(rgb_shape, K_info, info_shape, reason):
    rgb = image(np.zeros((*rgb_shape, 3), np.uint8))
    with pytest.raises(ValueError, match=reason):
        rgbd_cloud(image(slanted()), camera_info(K_info, info_shape), rgb)


def test_an_unregistered_camera_colours_what_it_sees():
    # A near panel before a wall; the colour camera, larger and 0.2 m to the right, sees the wall to the panel's right.
    depth = np.full(SHAPE, 3.0, np.float32)
    depth[:, 24:40] = 1.0
    K_color = np.array([[120.0, 0, 63.5], [0, 120.0, 47.5], [0, 0, 1]])
    T_color_depth = pose((-0.2, 0.0, 0.0))
    picture = np.full((96, 128, 3), (0, 0, 255), np.uint8)  # the wall is blue, the panel red
    panel = rgbd_cloud(image(depth), camera_info()).xyz[depth.ravel() == 1.0]
    xyz = transform(T_color_depth, panel)
    u = K_color[0, 0] * xyz[:, 0] / xyz[:, 2] + K_color[0, 2]
    picture[:, int(u.min()) : int(u.max()) + 1] = (255, 0, 0)
    camera = ColorCamera(camera_info(K_color, (96, 128), "color_optical_frame"), T_color_depth)
    cloud = rgbd_cloud(image(depth), camera_info(), image(picture), 1, camera)
    rgb = cloud.fields["rgb"]
    assert (rgb[depth.ravel() == 1.0] == (255, 0, 0)).all(1).mean() > 0.95
    wall = rgb[depth.ravel() == 3.0]
    assert (wall == (255, 0, 0)).all(1).mean() < 0.02  # what hides behind the panel takes no colour of it
    assert (wall == GREY).all(1).mean() > 0.05
    assert (wall == (0, 0, 255)).all(1).mean() > 0.6
    with pytest.raises(ValueError, match="its camera_info is for 96 x 128"):
        rgbd_cloud(image(depth), camera_info(), image(picture[::2, ::2]), 1, camera)


@pytest.mark.parametrize("step", [1, 3])
def test_the_label_image_covers_every_pixel_with_depth(step):
    values = slanted()
    values[5:9, 7:20], values[20, 20], values[21, 21] = 0.0, np.nan, np.inf
    depth = image(values)
    result = RgbdSegmenter(SweepSegmenter(ByDepth()), step)(
        depth, rgbd_cloud(depth, camera_info(), None, step)
    )
    assert result.image.shape == SHAPE
    assert result.image.dtype == np.uint16
    measured = np.isfinite(values) & (values > 0)
    assert (result.image[~measured] == UNLABELED).all()
    away = measured & (np.abs(values - 2) > 0.15)  # a step's width off the border between the two labels
    labelled = away & (result.image != UNLABELED)
    assert labelled.sum() > 0.95 * away.sum()
    np.testing.assert_array_equal(result.image[labelled], (values[labelled] >= 2).astype(np.uint16))


def test_frames_that_do_not_fit_are_named():
    depth, rgb = image(slanted()), image(np.zeros((*SHAPE, 3), np.uint8), "color")
    told = mismatched_frames(depth, camera_info(frame="lidar"), rgb, registered=True)
    assert told == [
        "depth is in 'camera_optical_frame', camera_info in 'lidar'",
        "depth is in 'camera_optical_frame', rgb in 'color'",
    ]
    assert mismatched_frames(depth, camera_info(), rgb, registered=False) == []


def test_heights_of_a_camera_are_compared_upright():
    from dataclasses import replace

    model = ByDepth()
    seen = {"height_m": (-1.9, -0.4, 3.0)}
    floor = np.full(SHAPE, 4.0, np.float32)  # a wall 4 m away, and the floor 1.2 m below the camera
    rows = np.arange(SHAPE[0])[:, None]
    floor = np.where(rows > 30, np.minimum(floor, 1.2 * K[1, 1] / np.maximum(rows - K[1, 2], 1)), floor)
    cloud = rgbd_cloud(image(floor.astype(np.float32)), camera_info())
    model.contract = replace(ByDepth.contract, level_camera=True, seen=seen)
    assert SweepSegmenter(model).check_sensor(cloud) == {}
    model.contract = replace(model.contract, level_camera=False)
    assert "heights run from" in SweepSegmenter(model).check_sensor(cloud)["height_m"]
