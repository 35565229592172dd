# SPDX-License-Identifier: Apache-2.0
"""Simulated data on disk, read back by the tools that the formats belong to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cloud import PointCloud

pytest.importorskip("open3d", reason="ray casting needs open3d")

from pc_perception.geometry import in_box, inverse, pose, project, transform
from pc_perception.io.bags import BagReader
from pc_perception.io.files import read_cloud
from pc_perception.labels import label_map
from pc_perception.simulation.camera import PinholeCamera, look
from pc_perception.simulation.drive import simulate_drive
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.rgbd import rgbd_frames
from pc_perception.simulation.scan import ScanSettings, scan_room
from pc_perception.simulation.writers.bag import write_drive_bag, write_rgbd_bag
from pc_perception.simulation.writers.folder import write_folder
from pc_perception.simulation.writers.nuscenes import write_nuscenes
from pc_perception.simulation.writers.nuscenes_tables import CATEGORIES, nuscenes32_table
from pc_perception.simulation.writers.scannet import nyu40_table, write_scannet, write_scannet_scene


@pytest.fixture(scope="module")
def drive():
    lidar = SpinningLidar(n_beams=16, n_azimuths=600, pattern="vlp16")
    camera = PinholeCamera.from_fov(160, 90, 70.0)
    cameras = [("CAM_FRONT", camera, look((1.0, 0.0, 1.6), 0.0, 0.0))]
    return list(simulate_drive(11, 5, lidar=lidar, cameras=cameras, speed=5.0))


@pytest.fixture(scope="module")
def nuscenes_root(drive, tmp_path_factory):
    return write_nuscenes(tmp_path_factory.mktemp("nuscenes"), [drive], keyframe_every=2)


@pytest.fixture(scope="module")
def nusc(nuscenes_root):
    devkit = pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")
    return devkit.NuScenes("v1.0-mini", str(nuscenes_root), verbose=False)


def test_devkit_loads_scene_samples_and_sweeps(nusc, drive):
    assert len(nusc.scene) == 1
    assert len(nusc.sample) == 3  # sweeps 0, 2 and 4 of 5
    stamps, at = [], nusc.scene[0]["first_sample_token"]
    while at:
        stamps.append(nusc.get("sample", at)["timestamp"])
        at = nusc.get("sample", at)["next"]
    assert stamps == [drive[k].stamp_ns // 1000 for k in (0, 2, 4)]
    n_sweeps, at = 0, nusc.sample[0]["data"]["LIDAR_TOP"]
    while at:
        row = nusc.get("sample_data", at)
        n_sweeps, at = n_sweeps + 1, row["next"]
    assert n_sweeps == 5
    assert all(Path(nusc.get_sample_data_path(row["token"])).is_file() for row in nusc.sample_data)


def test_devkit_places_the_points_where_they_were_simulated(nusc, drive):
    from nuscenes.utils.data_classes import LidarPointCloud
    from pyquaternion import Quaternion

    row = nusc.get("sample_data", nusc.sample[1]["data"]["LIDAR_TOP"])
    cloud = LidarPointCloud.from_file(nusc.get_sample_data_path(row["token"]))
    for table, key in (("calibrated_sensor", "calibrated_sensor_token"), ("ego_pose", "ego_pose_token")):
        placement = nusc.get(table, row[key])
        cloud.rotate(Quaternion(placement["rotation"]).rotation_matrix)
        cloud.translate(np.array(placement["translation"]))
    frame = drive[2]
    expected = transform(frame.T_world_base @ frame.T_base_lidar, frame.cloud.xyz.astype(np.float64))
    assert np.allclose(cloud.points[:3].T, expected, atol=2e-3)
    assert np.allclose(cloud.points[3], frame.cloud.fields["intensity"])


def test_lidarseg_counts_agree_with_the_simulated_labels(nusc, drive):
    from nuscenes.utils.data_io import load_bin_file

    for sample, k in zip(nusc.sample, (0, 2, 4), strict=True):
        key = sample["data"]["LIDAR_TOP"]
        labels = load_bin_file(f"{nusc.dataroot}/{nusc.get('lidarseg', key)['filename']}", "lidarseg")
        assert np.array_equal(labels, nuscenes32_table()[drive[k].cloud.fields["label"]])
        panoptic = load_bin_file(f"{nusc.dataroot}/{nusc.get('panoptic', key)['filename']}", "panoptic")
        assert np.array_equal(panoptic // 1000, labels)
    assert [nusc.lidarseg_idx2name_mapping[k] for k in range(32)] == list(CATEGORIES)


def test_nuscenes_ids_mean_the_same_coarse_class_as_the_simulator_s(drive):
    raw = np.arange(1, 19)  # signs and lights have no class of their own in nuScenes
    raw = raw[raw != 18]
    ours, theirs = label_map("simulation", "street8"), label_map("nuscenes32", "street8")
    assert np.array_equal(ours[raw], theirs[nuscenes32_table()[raw]])


def test_boxes_hold_their_points_and_instances_keep_their_track(nusc, drive):
    for sample, k in zip(nusc.sample, (0, 2, 4), strict=True):
        frame = drive[k]
        assert sample["anns"]
        T_world_lidar = frame.T_world_base @ frame.T_base_lidar
        world = transform(T_world_lidar, frame.cloud.xyz.astype(np.float64))
        centers = np.array([b.T_world_box[:3, 3] for b in frame.boxes])
        boxes = [(nusc.get("sample_annotation", key), nusc.get_box(key)) for key in sample["anns"]]
        for _, box in boxes:
            apart = np.linalg.norm(centers - box.center, axis=1)
            assert apart.min() < 1e-6
            assert np.allclose(box.wlh, np.asarray(frame.boxes[apart.argmin()].size)[[1, 0, 2]])
        note, box = max(boxes, key=lambda pair: pair[0]["num_lidar_pts"])
        T_world_box = pose(box.center, box.rotation_matrix)
        inside = in_box(world, T_world_box, np.array(box.wlh)[[1, 0, 2]] + 0.3)
        assert inside.sum() > 0.8 * note["num_lidar_pts"] > 0
    for track in nusc.instance:
        n, at = 0, track["first_annotation_token"]
        while at:
            n, last, at = n + 1, at, nusc.get("sample_annotation", at)["next"]
        assert n == track["nbr_annotations"]
        assert last == track["last_annotation_token"]


def test_lidar_points_project_onto_the_camera_s_depth(nusc, drive):
    from PIL import Image

    row = nusc.get("sample_data", nusc.sample[0]["data"]["CAM_FRONT"])
    path, _, K = nusc.get_sample_data(row["token"])
    with Image.open(path) as picture:
        assert picture.size == (160, 90)
    frame = drive[0]
    image = frame.images["CAM_FRONT"]
    assert np.allclose(K, image.K)
    world = transform(frame.T_world_base @ frame.T_base_lidar, frame.cloud.xyz.astype(np.float64))
    uv, depth = project(image.K, transform(inverse(image.T_world_camera), world))
    ahead = np.flatnonzero((depth > 1) & (uv > 0).all(1) & (uv[:, 0] < 159) & (uv[:, 1] < 89))
    u, v = np.rint(uv[ahead]).astype(int).T
    assert len(ahead) > 200
    # Parallax, noise and coarse pixels spoil some; a wrong mount would spoil nearly all.
    assert (np.abs(image.depth[v, u] - depth[ahead]) < 0.05 * depth[ahead] + 0.3).mean() > 0.7


def test_a_data_set_is_not_overwritten_and_needs_frames(nuscenes_root, drive, tmp_path):
    with pytest.raises(FileExistsError, match="already holds"):
        write_nuscenes(nuscenes_root, [drive])
    with pytest.raises(ValueError, match="no frames"):
        write_nuscenes(tmp_path, [[]])


def test_drive_bag_gives_back_clouds_transforms_and_pictures(drive, tmp_path):
    assert write_drive_bag(tmp_path / "drive.mcap", drive) == 5
    with BagReader(tmp_path / "drive.mcap") as bag:
        assert {"/points", "/tf", "/tf_static", "/cam_front/image_raw/compressed"} <= set(bag.topics)
        clouds = [cloud for _, cloud in bag.clouds("/points")]
        tree = bag.transforms()
    assert len(clouds) == 5
    for cloud, frame in zip(clouds, drive, strict=True):
        assert cloud.stamp_ns == frame.stamp_ns
        assert np.array_equal(cloud.xyz, frame.cloud.xyz)
        assert np.array_equal(cloud.fields["label"], frame.cloud.fields["label"])
        T = tree.lookup("map", "lidar", frame.stamp_ns)
        assert np.allclose(T, frame.T_world_base @ frame.T_base_lidar, atol=1e-9)
    optical = tree.lookup("base_link", "cam_front_optical_frame", drive[0].stamp_ns)
    assert np.allclose(optical, drive[0].T_base_cameras["CAM_FRONT"], atol=1e-9)


def test_a_bag_without_labels_has_none(drive, tmp_path):
    write_drive_bag(tmp_path / "plain.mcap", drive[:1], with_labels=False)
    with BagReader(tmp_path / "plain.mcap") as bag:
        ((_, cloud),) = bag.clouds("/points")
    assert not {"label", "instance", "part"} & set(cloud.fields)


def test_rgbd_bag_gives_the_same_cloud_from_points_and_from_depth(tmp_path):
    frames = list(rgbd_frames(3, 2, width=80, height=60))
    assert write_rgbd_bag(tmp_path / "walk.mcap", frames) == 2
    with BagReader(tmp_path / "walk.mcap") as bag:
        direct = [c for _, c in bag.clouds("/points")]
        from_depth = [c for _, c in bag.clouds("/camera/depth/image_raw")]
    for cloud, other, (original, _) in zip(direct, from_depth, frames, strict=True):
        assert cloud.frame.endswith("_optical_frame")
        assert cloud.grid_shape == other.grid_shape == (60, 80)
        assert np.array_equal(cloud.xyz, original.xyz, equal_nan=True)
        assert np.array_equal(cloud.fields["rgb"], other.fields["rgb"])
        assert np.allclose(cloud.xyz, other.xyz, atol=1e-3, equal_nan=True)  # depth in whole millimetres


def test_folder_keeps_everything(drive, tmp_path):
    paths = write_folder(tmp_path, [f.cloud for f in drive[:2]])
    assert [p.name for p in paths] == ["000000.npz", "000001.npz"]
    cloud = read_cloud(paths[1])
    assert np.array_equal(cloud.xyz, drive[1].cloud.xyz)
    for name in ("intensity", "ring", "time", "label", "instance", "part"):
        assert np.array_equal(cloud.fields[name], drive[1].cloud.fields[name]), name
    assert (cloud.frame, cloud.stamp_ns) == ("lidar", drive[1].stamp_ns)
    with pytest.raises(FileExistsError, match="already holds clouds"):
        write_folder(tmp_path, [])


def test_scannet_scene_round_trip(tmp_path):
    cloud = scan_room(2, ScanSettings("handheld", spacing_m=0.06))
    folder = write_scannet_scene(tmp_path, "scene0000_00", cloud)
    mesh = read_cloud(folder / "scene0000_00_vh_clean_2.ply")
    assert np.array_equal(mesh.xyz, cloud.xyz)
    assert np.array_equal(mesh.fields["rgb"][:, :3], cloud.fields["rgb"])
    labels = read_cloud(folder / "scene0000_00_vh_clean_2.labels.ply").fields["label"]
    ours, theirs = label_map("simulation", "room9"), label_map("nyu40", "room9")
    assert np.array_equal(labels, nyu40_table()[cloud.fields["label"]])
    assert np.array_equal(theirs[labels], ours[cloud.fields["label"]])
    segments = json.loads((folder / "scene0000_00_vh_clean_2.0.010000.segs.json").read_text())["segIndices"]
    groups = json.loads((folder / "scene0000_00.aggregation.json").read_text())["segGroups"]
    assert np.array_equal(segments, cloud.fields["instance"])
    assert {s for g in groups for s in g["segments"]} == set(np.unique(segments).tolist())


def test_scannet_folder_has_lists_and_label_table(tmp_path):
    names = write_scannet(tmp_path, range(2), val_share=0.5)
    assert names == ["scene0000_00", "scene0001_00"]
    assert (tmp_path / "scannetv2_train.txt").read_text() == "scene0000_00\n"
    assert (tmp_path / "scannetv2_val.txt").read_text() == "scene0001_00\n"
    assert len((tmp_path / "scannetv2-labels.combined.tsv").read_text().splitlines()) == 16
    with pytest.raises(ValueError, match="missing"):
        write_scannet_scene(tmp_path, "scene0009_00", PointCloud(np.zeros((1, 3), np.float32)))
