# SPDX-License-Identifier: Apache-2.0
"""Rooms, their scans and RGB-D frames: deterministic, solid, varied, and not given away by colour."""

from __future__ import annotations

import numpy as np
import pytest

from pc_perception.labels import label_map, load_label_set

pytest.importorskip("open3d", reason="ray casting needs open3d")

from pc_perception.simulation import shapes
from pc_perception.simulation.rgbd import LEAST_SEEN, rgbd_frames
from pc_perception.simulation.room import ROOM_KINDS, make_room
from pc_perception.simulation.scan import SCAN_STYLES, ScanSettings, scan_room

N_SCANS = 24


@pytest.fixture(scope="module")
def rooms():
    return [make_room(seed, kind) for seed, kind in enumerate(ROOM_KINDS)]


@pytest.fixture(scope="module")
def scans():
    # Coarse, so that two dozen rooms stay quick; the classes and colours do not change with spacing.
    settings = [ScanSettings(style, spacing_m=0.06) for style in SCAN_STYLES]
    return [scan_room(seed, settings[seed % 3]) for seed in range(200, 200 + N_SCANS)]


def test_the_same_seed_gives_the_same_room_scan_and_frame():
    first, again, other = (scan_room(seed) for seed in (4, 4, 5))
    assert np.array_equal(first.xyz, again.xyz)
    for name in ("rgb", "label", "instance", "part"):
        assert np.array_equal(first.fields[name], again.fields[name])
    assert len(first) != len(other) or not np.array_equal(first.xyz, other.xyz)
    (cloud, _), (cloud_again, _) = next(rgbd_frames(9)), next(rgbd_frames(9))
    assert np.array_equal(cloud.xyz, cloud_again.xyz, equal_nan=True)
    assert np.array_equal(cloud.fields["rgb"], cloud_again.fields["rgb"])


def test_every_part_of_every_object_is_solid(rooms):
    for room in rooms:
        for thing in room.objects:
            for part in thing.parts:
                assert shapes.is_watertight(part.mesh), (room.kind, thing.raw_class, part.name)
                assert shapes.volume(part.mesh) > 0, (room.kind, thing.raw_class, part.name)


def test_objects_have_instances_boxes_and_classes_of_the_label_set(rooms):
    n_classes = len(load_label_set("simulation_room"))
    for room in rooms:
        assert [o.instance for o in room.objects] == list(range(1, len(room.objects) + 1))
        for thing in room.objects:
            assert 1 <= thing.raw_class <= n_classes
            vertices = np.concatenate([p.vertices for p in thing.parts])
            low, high = thing.center - thing.size / 2, thing.center + thing.size / 2
            assert (vertices >= low - 1e-4).all()
            assert (vertices <= high + 1e-4).all()


def test_furniture_stands_inside_the_room(rooms):
    for room in rooms:
        low, high = room.plan.min(0) - 0.6, room.plan.max(0) + 0.6  # doors may open outwards
        for thing in room.objects:
            if thing.is_thing and thing.raw_class not in (4, 5):
                at = thing.T_world_box[:2, 3]
                assert (at > low).all(), (room.kind, thing.raw_class)
                assert (at < high).all(), (room.kind, thing.raw_class)


def test_an_unknown_kind_of_room_or_scan_is_refused():
    with pytest.raises(ValueError, match="no room kind 'castle'"):
        make_room(0, "castle")
    with pytest.raises(ValueError, match="no scan style 'x-ray'"):
        scan_room(0, ScanSettings("x-ray"))


def test_scans_hold_all_classes_in_plausible_shares(scans):
    table = label_map("simulation", "room9")
    label_set = load_label_set("room9")
    shares = np.zeros(len(label_set))
    for cloud in scans:
        labels = table[cloud.fields["label"]]
        assert (labels < len(label_set)).all()
        shares += np.bincount(labels, minlength=len(label_set)) / len(labels) / len(scans)
    share = dict(zip(label_set.classes, shares, strict=True))
    assert min(shares) > 0.01, share
    assert 0.08 < share["floor"] < 0.4
    assert 0.15 < share["wall"] < 0.6
    assert share["furniture"] + share["chair"] + share["table"] + share["sofa_bed"] > 0.1, share


def test_scans_stand_on_the_floor_with_about_the_spacing_asked_for():
    from scipy.spatial import cKDTree

    cloud = scan_room(7, ScanSettings("handheld", spacing_m=0.025, noise_m=0.004, warp_m=0.01))
    floor = cloud.xyz[cloud.fields["label"] == 1]
    assert abs(np.median(floor[:, 2])) < 0.05
    apart = cKDTree(cloud.xyz).query(cloud.xyz[::20], k=2)[0][:, 1]
    assert 0.012 < np.median(apart) < 0.03
    assert 20_000 < len(cloud) < 400_000


def test_colour_alone_does_not_give_the_class_away(scans):
    table, n_classes = label_map("simulation", "room9"), 9
    bins, labels, is_train = [], [], []
    for k, cloud in enumerate(scans):
        rgb = cloud.fields["rgb"].astype(np.int64) // 16
        bins.append((rgb[:, 0] * 16 + rgb[:, 1]) * 16 + rgb[:, 2])
        labels.append(table[cloud.fields["label"]].astype(np.int64))
        is_train.append(np.full(len(cloud), k < 2 * N_SCANS // 3))
    bins, labels, is_train = (np.concatenate(a) for a in (bins, labels, is_train))
    counts = np.zeros((4096, n_classes))
    np.add.at(counts, (bins[is_train], labels[is_train]), 1)
    truth = labels[~is_train]
    for weight in (np.ones(n_classes), 1.0 / counts.sum(0)):  # most likely class, plain and balanced
        guess = (counts * weight).argmax(1)[bins[~is_train]]
        hits = np.array([((guess == c) & (truth == c)).sum() for c in range(n_classes)])
        union = np.array([((guess == c) | (truth == c)).sum() for c in range(n_classes)])
        assert (hits / np.maximum(union, 1)).mean() < 0.25


def test_rgbd_clouds_are_organised_optical_and_have_holes():
    shares = []
    for seed in range(6):
        for cloud, frame in rgbd_frames(seed, 2, width=160, height=120):
            assert cloud.is_optical
            assert cloud.grid_shape == (120, 160)
            valid = cloud.finite()
            shares.append(valid.mean())
            assert np.array_equal(valid, (frame.depth > 0).ravel())
            assert (cloud.fields["label"][~valid] == 0).all()
            assert (cloud.fields["label"][valid] > 0).all()
            assert (cloud.xyz[valid, 2] > 0.2).all()
            assert (cloud.xyz[valid, 2] < 8.5).all()
    assert 0.4 < np.mean(shares) < 0.99


@pytest.mark.parametrize("seed", [457, 500, 636])
def test_no_view_is_empty(seed):
    """Cameras of short range: each of these rooms had a view with no depth at all."""
    assert min(np.mean(frame.depth > 0) for _, frame in rgbd_frames(seed, 3)) >= LEAST_SEEN
