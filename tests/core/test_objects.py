# SPDX-License-Identifier: Apache-2.0
"""Objects of whole sweeps: what is found in scenes that are known, and what comes of bad ones."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks.instances_measure import Score, simulated_truth
from benchmarks.instances_real import keyframes
from pc_perception.cloud import PointCloud
from pc_perception.geometry import (
    R_BODY_OPTICAL,
    inverse,
    pose,
    rotation_x,
    rotation_y,
    rotation_z,
    transform,
)
from pc_perception.inference.agreement import agreed
from pc_perception.inference.classifier import Classifier
from pc_perception.inference.fragments import join_fragments
from pc_perception.inference.instances import ROOM, InstanceOptions, Instances, find_instances, things_of
from pc_perception.inference.loading import load_classifier
from pc_perception.inference.motion import SweepMotion
from pc_perception.inference.object_results import ObjectsResult
from pc_perception.inference.objects import ObjectOptions, SweepObjects
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.labels import UNLABELED, LabelSet, load_label_set, overlap
from pc_perception.simulation.drive import DriveFrame, simulate_drive
from pc_perception.simulation.lidar import SpinningLidar
from tests.nodes import tiny_model

PERIOD_NS = 100_000_000
START_NS = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load_classifier(tiny_model.write_objects(tmp_path_factory.mktemp("m") / "o.safetensors"), "cpu")


@pytest.fixture(scope="module")
def drive() -> list[DriveFrame]:
    return list(simulate_drive(70_001, 8, lidar=SpinningLidar(n_beams=32, n_azimuths=1085), speed=6.0))


def scene(centers: np.ndarray, size: float = 1.0, ground: int = 4000, seed: int = 0) -> PointCloud:
    """Level ground at -1.8 m and cubes of points that stand on it; K cubes of 60 points after the ground."""
    rng = np.random.default_rng(seed)
    road = np.column_stack([rng.uniform(-40, 40, (ground, 2)), np.full(ground, -1.8)])
    cubes = [np.append(c, -1.8 + size / 2) + rng.uniform(-size / 2, size / 2, (60, 3)) for c in centers]
    return PointCloud(np.concatenate([road, *cubes]).astype(np.float32), {}, "lidar", START_NS)


def same(a: ObjectsResult, b: ObjectsResult, order: np.ndarray | None = None) -> None:
    """Hold that two results are the same; ``b`` belongs to the points in another order."""
    np.testing.assert_array_equal(a.index if order is None else a.index[order], b.index)
    np.testing.assert_allclose(a.T_cloud_box, b.T_cloud_box, atol=1e-4)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)


def test_cubes_are_found_where_they_stand(classifier: Classifier) -> None:
    centers = np.array([[5.0, 0.0], [8.0, 6.0], [-12.0, 3.0], [25.0, -20.0]])
    cloud = scene(centers)
    result = SweepObjects(classifier, options=ObjectOptions(complete=False))(cloud)
    assert len(result) == 4
    np.testing.assert_allclose(result.T_cloud_box[:, :2, 3], centers, atol=0.1)
    np.testing.assert_allclose(result.sizes, 1.0, atol=0.15)
    np.testing.assert_allclose(result.T_cloud_box[:, 2, 3] - result.sizes[:, 2] / 2, -1.8, atol=0.05)
    for row in range(4):
        points = result.points(row)
        assert (points >= 4000 + 60 * row).all()
        assert (points < 4060 + 60 * row).all()
        assert len(points) >= 40  # those close to the ground are the ground's
    assert result.track_ids.tolist() == [1, 2, 3, 4]
    assert (result.instance[result.index == 2] == 3).all()
    assert (result.instance[result.index < 0] == 0).all()
    assert np.isnan(result.velocities).all()


def test_order_of_points_and_frame_do_not_matter(classifier: Classifier) -> None:
    centers = np.array([[5.0, 0.0], [8.0, 6.0], [-12.0, 3.0]])
    cloud = scene(centers)
    plain = SweepObjects(classifier)(cloud)
    order = np.random.default_rng(1).permutation(len(cloud))
    same(plain, SweepObjects(classifier)(cloud.select(order)), order)
    optical = replace(cloud, xyz=cloud.xyz @ R_BODY_OPTICAL.astype(np.float32), frame="camera_optical_frame")
    seen = SweepObjects(classifier)(optical)
    assert np.array_equal(plain.index, seen.index)
    T_body_optical = pose(R=R_BODY_OPTICAL)
    np.testing.assert_allclose(T_body_optical @ seen.T_cloud_box, plain.T_cloud_box, atol=1e-3)


def test_a_camera_that_looks_down_on_a_table(classifier: Classifier) -> None:
    """An organised view of a table top from 45 degrees above, with a box on it."""
    rows, columns = np.mgrid[0:120, 0:160]
    rays = np.stack([(columns - 79.5) / 140, (rows - 59.5) / 140, np.ones(rows.shape)], -1)
    R = rotation_y(np.pi / 4) @ R_BODY_OPTICAL  # z up, from the optical frame
    level = rays @ R.T
    top = level * (1.0 / -level[..., 2])[..., None]  # the table is a metre below the camera
    over = level * (0.8 / -level[..., 2])[..., None]  # the box reaches up to 0.8 m below
    on_box = (np.abs(over[..., 0] - 1.0) < 0.1) & (np.abs(over[..., 1]) < 0.15)
    xyz = np.where(on_box[..., None], over, top).reshape(-1, 3) @ R
    cloud = PointCloud(xyz.astype(np.float32), {}, "camera_optical_frame", 0, (120, 160))
    result = SweepObjects(classifier, options=ObjectOptions(ROOM))(cloud)
    assert len(result) == 1
    assert set(result.points(0).tolist()) == set(np.flatnonzero(on_box.ravel()).tolist())
    np.testing.assert_allclose(R @ result.T_cloud_box[0, :3, 2], [0, 0, 1], atol=0.02)
    np.testing.assert_allclose(result.sizes[0], [0.3, 0.2, 0.2], atol=0.03)


def test_a_sensor_that_is_not_level_is_levelled_by_its_pose(classifier: Classifier) -> None:
    cloud = scene(np.array([[5.0, 0.0], [8.0, 6.0], [-12.0, 3.0]]))
    T_map_lidar = pose((100.0, 50.0, 7.0), rotation_z(0.4) @ rotation_x(0.6))
    tilted = replace(cloud, xyz=transform(inverse(pose(R=T_map_lidar[:3, :3])), cloud.xyz))
    plain, found = SweepObjects(classifier)(cloud), SweepObjects(classifier)(tilted, T_map_lidar)
    np.testing.assert_array_equal(plain.index, found.index)
    level = pose(R=T_map_lidar[:3, :3]) @ found.T_cloud_box
    np.testing.assert_allclose(level[:, :3, 3], plain.T_cloud_box[:, :3, 3], atol=0.05)
    np.testing.assert_allclose(level[:, :3, 2], [[0, 0, 1]] * 3, atol=1e-6)


def test_a_moving_object_from_a_moving_sensor(classifier: Classifier) -> None:
    """A cube at 5 m/s, seen from a sensor that drives and turns: velocity over ground, one id, in the cloud's axes."""
    sweeps = SweepObjects(classifier)
    for i in range(12):
        time_s = 0.1 * i
        T_map_lidar = pose((3.0 * time_s, 1.0, 1.8), rotation_z(0.5 * time_s))
        world = scene(np.array([[20.0 + 5.0 * time_s, 4.0], [10.0, -6.0]]))
        world = replace(world, xyz=world.xyz + np.float32([0, 0, 1.8]))
        cloud = replace(
            world, xyz=transform(inverse(T_map_lidar), world.xyz), stamp_ns=START_NS + i * PERIOD_NS
        )
        result = sweeps(cloud, T_map_lidar)
        assert sorted(result.track_ids.tolist()) == [1, 2]
    moving, standing = np.argsort(-result.track_ids)
    R = T_map_lidar[:3, :3]
    np.testing.assert_allclose(R @ result.velocities[moving], [5, 0, 0], atol=0.4)
    np.testing.assert_allclose(result.velocities[standing], 0, atol=0.4)
    assert result.confirmed.all()


def test_what_moved_during_the_sweep_is_put_right() -> None:
    """A wall of points, seen point by point from a sensor that drives and turns, is where it stands."""
    rng, n = np.random.default_rng(0), 500
    wall = np.column_stack([np.full(n, 20.0), rng.uniform(-10, 10, n), rng.uniform(0, 3, n)])
    time_s = rng.uniform(0, 0.1, n).astype(np.float32)

    def T_map_lidar(t: float) -> np.ndarray:
        return pose((10.0 * t, 0.0, 1.8), rotation_z(0.3 * t))

    motion = SweepMotion()
    motion(START_NS, T_map_lidar(0.0))
    now = motion(START_NS + PERIOD_NS, T_map_lidar(0.1))
    seen = [transform(inverse(T_map_lidar(0.1 + t)), p[None])[0] for p, t in zip(wall, time_s, strict=True)]
    cloud = PointCloud(np.array(seen, np.float32), {"time": time_s}, "lidar", START_NS + PERIOD_NS)
    expected = transform(inverse(T_map_lidar(0.1)), wall)
    assert np.abs(cloud.xyz - expected).max() > 0.8
    assert np.abs(now.undistorted(cloud).xyz - expected).max() < 0.05
    absolute = replace(cloud, fields={"time": time_s + 1000})  # no time after the stamp: left alone
    assert now.undistorted(absolute) is absolute
    assert not motion(START_NS, T_map_lidar(0.0)).linear.any()  # the clock went back


def test_simulated_drive(classifier: Classifier, drive: list[DriveFrame]) -> None:
    """Geometry alone finds most objects of a street that no figure of the documentation is measured on."""
    sweeps, score = SweepObjects(classifier), Score(gate_m=2.0, range_m=25.0, least_points=20)
    for frame in drive:
        score.add(sweeps(frame.cloud, frame.T_world_base @ frame.T_base_lidar), simulated_truth(frame))
    figures = score.figures()
    assert figures["asked"] >= 40
    assert figures["recall"] > 0.75
    assert figures["center_m"] < 0.6
    assert figures["switches_100"] < 15


def test_real_drive(classifier: Classifier) -> None:
    """Geometry alone on two real keyframes, boxes as they are seen, since the small model knows no classes."""
    root = Path(os.environ.get("PC_PERCEPTION_DATA", "")) / "nuscenes" / "pandaset002_nusc_dev"
    if not root.is_dir():
        pytest.skip("PC_PERCEPTION_DATA names no folder with a real drive")
    pytest.importorskip("nuscenes", reason="nuscenes-devkit reads the tables")
    sweeps, score = SweepObjects(classifier, options=ObjectOptions(complete=False)), Score(gate_m=1.0)
    for cloud, T_world_lidar, truths in islice(keyframes(root), 2):
        score.add(sweeps(cloud, T_world_lidar), truths)
    assert score.asked["car"] >= 30
    assert score.found["car"] > 0.6 * score.asked["car"]


def test_things_of_a_segmentation_are_clustered_class_by_class() -> None:
    cloud = scene(np.array([[5.0, 0.0], [6.0, 0.0], [8.0, 6.0]]))  # the first two touch
    classes = np.zeros(len(cloud), np.uint16)
    classes[4000:4060], classes[4060:4120], classes[4120:] = 1, 2, 3
    everything = find_instances(cloud.xyz)
    assert everything.count == 2
    found = find_instances(cloud.xyz, classes, {1: 1.0, 2: 1.0})
    assert found.count == 2
    assert set(found.index[4000:4060].tolist()) <= {0, -1}
    assert set(found.index[4060:4120].tolist()) <= {1, -1}
    assert (found.index[4120:] == -1).all()


def test_people_who_walk_together_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    half_m = np.array([0.2, 0.2, 0.8])
    people = [rng.uniform(-half_m, half_m, (200, 3)) + np.array([8.0, y, -0.8]) for y in (-0.4, 0.4)]
    ground = np.column_stack([rng.uniform(-20, 20, (4000, 2)), np.full(4000, -1.8)])
    xyz = np.concatenate([ground, *people]).astype(np.float32)
    classes = np.repeat([0, 1, 1], [4000, 200, 200]).astype(np.uint16)
    things = things_of(("road", "person"))
    assert things == {1: 0.5}
    assert find_instances(xyz, classes, {1: 1.0}).count == 1  # at the distance that a car wants
    found = find_instances(xyz, classes, things)
    assert found.count == 2
    assert len(set(found.index[4000:4200].tolist()) - {-1}) == 1


def test_objects_of_a_panoptic_model_are_taken_as_they_are() -> None:
    cloud = scene(np.array([[5.0, 0.0], [6.0, 0.0], [8.0, 6.0]]))  # the first two touch
    told = np.zeros(len(cloud), np.uint32)
    told[4000:4060], told[4060:4120], told[4120:4123] = 9, 3, 4  # the last has too few points
    found = find_instances(cloud.xyz, told=told)
    assert found.count == 2
    assert set(found.index[4000:4060].tolist()) <= {0, -1}
    assert set(found.index[4060:4120].tolist()) <= {1, -1}
    assert (found.index[4120:] == -1).all()
    assert find_instances(cloud.xyz, told=np.zeros_like(told)).count == 0


def test_classifier_and_segmentation_agree() -> None:
    street, objects = load_label_set("street8"), load_label_set("objects16")
    table = overlap(street, objects)

    def can_be(name: str) -> set[str]:
        return {objects.classes[j] for j in np.flatnonzero(table[street.classes.index(name)])}

    assert can_be("vehicle") == {"car", "truck"}
    assert can_be("person") == {"pedestrian", "two_wheeler"}
    assert can_be("road") == set()
    other = LabelSet("mine", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    assert overlap(street, other).all()
    labels = np.array([5, 5, 0, UNLABELED], np.uint16)  # vehicle, vehicle, road, none
    said = SegmentationResult(labels, np.float32([0.9, 0.7, 0.9, 0.0]), street, {})
    scores = np.full((3, 16), 0.05, np.float32)
    scores[:, :3] = [[0.1, 0.1, 0.5]] * 3  # car, truck, pedestrian
    found = agreed(scores, [np.array([0, 1]), np.array([2]), np.array([3])], said, table)
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-5)
    assert found[0, 0] / found[0, 2] == pytest.approx(0.1 * 0.8 / (0.5 * 0.2), rel=1e-4)
    np.testing.assert_allclose(found[1:], scores[1:] / scores[1:].sum(1, keepdims=True), rtol=1e-5)
    nothing = agreed(np.zeros((1, 16), np.float32), [np.array([0])], said, table)
    assert not nothing.any()


def test_fragments_go_to_what_they_lie_in() -> None:
    index = np.repeat([0, 1, 2, 3, -1], [50, 10, 5, 60, 2])
    found = Instances(index, 4, np.zeros(len(index), np.float32))
    car, seat, near, wall = (
        [5.0, 0, 0, 4, 2, 1, 0.5],
        [5.3, 0, 0, 0.5, 0.5, 1, 0],
        [5, 3.0, 0, 1, 1, 1, 0],
        [0, 0, 0],
    )
    boxes = np.array([car, seat, near, [*wall, 30, 30, 1, 0]], np.float64)
    joined = join_fragments(found, boxes)
    assert joined.count == 3
    assert joined.index.tolist() == np.repeat([0, 0, 1, 2, -1], [50, 10, 5, 60, 2]).tolist()
    apart = join_fragments(found, boxes, np.repeat([1, 2, 1, 1, 9], [50, 10, 5, 60, 2]).astype(np.uint16))
    assert apart.count == 4
    chain = np.array([car, [*car[:3], 3, 2, 1, 0.5], [*car[:3], 1, 1, 1, 0], [9, 9, 0, 1, 1, 1, 0]])
    assert (
        join_fragments(found, chain).index.tolist()
        == np.repeat([0, 0, 0, 1, -1], [50, 10, 5, 60, 2]).tolist()
    )


@pytest.mark.parametrize("n", [0, 1, 500])
def test_nothing_and_nothing_but_ground(classifier: Classifier, n: int) -> None:
    cloud = scene(np.zeros((0, 2)), ground=n)
    result = SweepObjects(classifier)(cloud)
    assert (len(result), len(result.index)) == (0, n)
    assert result.T_cloud_box.shape == (0, 4, 4)
    assert result.scores.shape == (0, 16)
    nothing = replace(cloud, xyz=np.full_like(cloud.xyz, np.nan))
    assert (SweepObjects(classifier)(nothing).index == -1).all()


def test_points_that_are_none_and_points_at_the_end_of_the_world(classifier: Classifier) -> None:
    cloud = scene(np.array([[5.0, 0.0]]))
    xyz = cloud.xyz.copy()
    xyz[0], xyz[1], xyz[2], xyz[4001] = np.nan, np.inf, 1e30, np.nan
    result = SweepObjects(classifier)(replace(cloud, xyz=xyz))
    assert len(result) == 1
    assert (result.index[[0, 1, 2, 4001]] == -1).all()
    assert np.isfinite(result.T_cloud_box).all()


def test_one_giant_cluster_is_no_object(classifier: Classifier) -> None:
    rng = np.random.default_rng(0)
    wall = np.column_stack([rng.uniform(-40, 40, 20_000), np.full(20_000, 5.0), rng.uniform(-1.8, 2, 20_000)])
    cloud = scene(np.array([[8.0, -6.0]]))
    cloud = PointCloud(np.concatenate([cloud.xyz, wall.astype(np.float32)]), {}, "lidar", START_NS)
    result = SweepObjects(classifier)(cloud)
    assert len(result) == 1
    assert (result.index[4060:] == -1).all()


def test_of_ten_thousand_clusters_the_nearest_are_kept(classifier: Classifier) -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(100), np.arange(100)), -1).reshape(-1, 2) * 1.2 - 60 + 0.05
    posts = (grid[:, None] + rng.uniform(-0.05, 0.05, (10_000, 8, 2))).reshape(-1, 2)
    xyz = np.column_stack([posts, np.tile(np.linspace(-1.8, 0, 8), 10_000)]).astype(np.float32)
    options = ObjectOptions(InstanceOptions(max_objects=100, distance_m=0.5, min_points=4))
    result = SweepObjects(classifier, options=options)(PointCloud(xyz, {}, "lidar", START_NS))
    assert len(result) == 100
    kept = np.hypot(*result.T_cloud_box[:, :2, 3].T)
    assert kept.max() < 1.2 * np.sqrt(100 / np.pi) + 1.5


def test_unsure_is_unknown_and_the_own_vehicle_is_left_out(classifier: Classifier) -> None:
    cloud = scene(np.array([[5.0, 0.0], [8.0, 6.0]]))
    unsure = SweepObjects(classifier, options=ObjectOptions(score_threshold=1.0))(cloud)
    assert [unsure.name(row) for row in range(2)] == ["unknown"] * 2
    assert (unsure.labels == UNLABELED).all()
    sure = SweepObjects(classifier, options=ObjectOptions(score_threshold=0.0))(cloud)
    assert (sure.labels == sure.scores.argmax(1)).all()
    box = (3.0, -2.0, -2.0, 7.0, 2.0, 2.0)
    assert len(SweepObjects(classifier, options=ObjectOptions(ego_box=box))(cloud)) == 1


def test_clock_that_goes_back_and_stamps_of_zero(classifier: Classifier) -> None:
    sweeps, cloud = SweepObjects(classifier), scene(np.array([[5.0, 0.0]]))
    ids = [
        int(sweeps(replace(cloud, stamp_ns=s), np.eye(4)).track_ids[0])
        for s in (START_NS, START_NS + PERIOD_NS, START_NS - PERIOD_NS, 0, 0, 0, 0)
    ]
    assert ids == [1, 1, 2, 3, 3, 3, 3]
    last = sweeps(replace(cloud, stamp_ns=0), np.eye(4))
    assert last.confirmed.all()
    assert np.isnan(last.velocities).all()


def test_tracks_end_when_the_pose_comes_or_goes(classifier: Classifier) -> None:
    sweeps, cloud = SweepObjects(classifier), scene(np.array([[5.0, 0.0]]))
    poses = [None, None, np.eye(4), np.eye(4), None]
    found = [sweeps(replace(cloud, stamp_ns=START_NS + i * PERIOD_NS), T) for i, T in enumerate(poses)]
    assert [int(r.track_ids[0]) for r in found] == [1, 1, 2, 2, 3]


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        InstanceOptions(distance_m=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        InstanceOptions(max_objects=0)


def test_tiny_model_is_the_same_every_time(tmp_path: Path) -> None:
    a, b = (tiny_model.write_objects(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert a == b
