# SPDX-License-Identifier: Apache-2.0
"""Streets: shapes are solid, scenes repeat by seed, labels agree with boxes, nothing gives classes away."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from pc_perception.geometry import in_box, transform
from pc_perception.labels import label_map, load_label_set
from pc_perception.simulation import people, shapes, street_furniture, trucks, vegetation, vehicles
from pc_perception.simulation.drive import simulate_drive
from pc_perception.simulation.echo import Echo
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.materials import RECIPES, draw_material
from pc_perception.simulation.scene import PART_IDS
from pc_perception.simulation.street import make_street

STREET8 = label_map("simulation", "street8")
SOLID = {
    "car": (vehicles.car, vehicles.N_CARS),
    "truck": (trucks.truck, trucks.N_TRUCKS),
    "bus": (trucks.bus, trucks.N_BUSES),
    "trailer": (trucks.trailer, trucks.N_TRAILERS),
    "pedestrian": (people.pedestrian, people.N_PEDESTRIANS),
    "cyclist": (people.cyclist, people.N_CYCLISTS),
    "bicycle": (people.bicycle, people.N_BICYCLES),
    "pole": (street_furniture.pole, street_furniture.N_POLES),
    "sign": (street_furniture.sign, street_furniture.N_SIGNS),
    "traffic light": (street_furniture.traffic_light, street_furniture.N_LIGHTS),
    "cone": (street_furniture.traffic_cone, street_furniture.N_CONES),
    "furniture": (street_furniture.thing, street_furniture.N_THINGS),
    "fence": (street_furniture.fence, street_furniture.N_FENCES),
}


@pytest.fixture(scope="module")
def sweeps():
    """One sweep with a 32-beam sensor in each of 16 streets: (frame, labels in street8)."""
    sensor = SpinningLidar(32, 10, 720)
    frames = [next(simulate_drive(seed, 1, sensor)) for seed in range(16)]
    return [(frame, STREET8[frame.cloud.fields["label"]]) for frame in frames]


@pytest.mark.parametrize("name", SOLID)
def test_solid_things_are_watertight_and_face_outwards(name):
    make, count = SOLID[name]
    for number in range(0, count, max(count // 6, 1)):
        for piece in make(number).pieces:
            assert shapes.is_watertight(piece.mesh), (number, piece.name)
            assert shapes.volume(piece.mesh) > 0, (number, piece.name)


GROUNDS = {"road", "sidewalk", "kerb", "terrain"}


def test_everything_but_the_ground_is_watertight():
    names = ["none", *load_label_set("simulation_street").classes]
    for seed in range(3):
        closed = Counter()
        for thing in make_street(seed).objects:
            for part in thing.parts:
                kind = names[part.raw_class or thing.raw_class]
                assert shapes.is_watertight(part.mesh) == (kind not in GROUNDS), (seed, kind, part.name)
                closed[kind] += 1
        assert {"building", "tree_crown", "tree_trunk", "bush", "car"} <= set(closed)


def test_leaves_are_sheets_whose_backs_add_no_area():
    crown = vegetation.tree(0).pieces[-1]
    assert crown.name == "crown"
    assert abs(shapes.volume(crown.mesh)) < 1e-4
    vertices, fronts = shapes.one_sided(crown.mesh)
    assert len(vertices) == 3 * len(fronts) == 1.5 * len(crown.mesh[1])
    both = shapes.two_sided((vertices, fronts))
    assert np.array_equal(both[1], crown.mesh[1])


def test_cars_have_the_size_of_cars():
    size = np.array([vehicles.car(i).high - vehicles.car(i).low for i in range(vehicles.N_CARS)])
    assert (size[:, 0] > 3.3).all()
    assert (size[:, 0] < 6.6).all()
    assert (size[:, 1] < 2.6).all()
    assert (size[:, 2] > 1.3).all()
    assert (size[:, 2] < 3.0).all()
    assert np.ptp(size[:, 2]) > 1.0, "kinds of cars should differ"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    sensor = SpinningLidar(16, 10, 360, "vlp16", echo=Echo.random(np.random.default_rng(0)))
    first, second = (list(simulate_drive(5, 2, sensor)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.cloud.xyz.tobytes() == b.cloud.xyz.tobytes()
        assert all(a.cloud.fields[k].tobytes() == b.cloud.fields[k].tobytes() for k in a.cloud.fields)
        assert a.T_world_base.tobytes() == b.T_world_base.tobytes()
    other = next(simulate_drive(6, 1, sensor))
    assert other.cloud.xyz.tobytes() != first[0].cloud.xyz.tobytes()


def test_no_street_is_empty_or_of_one_class(sweeps):
    n_rays = 32 * 720
    for frame, labels in sweeps:
        assert len(frame.cloud) > 0.5 * n_rays
        counts = np.bincount(labels[labels < 8], minlength=8)
        assert (counts > 20).sum() >= 4
        assert (labels < 8).mean() > 0.9


def test_class_shares_are_those_of_streets(sweeps):
    shares = np.mean([np.bincount(y[y < 8], minlength=8) / max((y < 8).sum(), 1) for _, y in sweeps], axis=0)
    present = np.mean([np.bincount(y[y < 8], minlength=8) > 0 for _, y in sweeps], axis=0)
    share = dict(zip(load_label_set("street8").classes, shares, strict=True))
    assert 0.15 < share["road"] < 0.6
    assert 0.05 < share["building"] < 0.5
    assert 0.03 < share["vegetation"] < 0.35
    assert 0.05 < share["vehicle"] < 0.4
    assert share["person"] < 0.06
    assert share["pole"] < 0.06
    assert (present > 0.55).all(), present


def test_intensity_alone_does_not_give_classes_away(sweeps):
    tree_module = pytest.importorskip("sklearn.tree")
    rng = np.random.default_rng(0)

    def gather(part):
        x = np.concatenate([f.cloud.fields["intensity"] for f, _ in part])
        y = np.concatenate([labels for _, labels in part])
        pick = rng.permutation(np.flatnonzero(y < 8))[:60_000]
        return x[pick, None], y[pick]

    x, y = gather(sweeps[:11])
    x_new, y_new = gather(sweeps[11:])
    for weight in (None, "balanced"):
        tree = tree_module.DecisionTreeClassifier(max_leaf_nodes=64, class_weight=weight, random_state=0)
        guess = tree.fit(x, y).predict(x_new)
        iou = [
            ((guess == c) & (y_new == c)).sum() / max(((guess == c) | (y_new == c)).sum(), 1)
            for c in range(8)
        ]
        assert np.mean(iou) < 0.25


def test_materials_of_all_kinds_overlap():
    rng = np.random.default_rng(1)
    bands = {
        k: np.quantile([draw_material(k, rng).reflectivity for _ in range(600)], [0.2, 0.8]) for k in RECIPES
    }
    outdoor = ("asphalt", "concrete", "grass", "leaf", "wall", "metal", "paint", "cloth", "bark")
    for a in outdoor:
        for b in outdoor:
            assert bands[a][0] < bands[b][1], (a, b)
    with pytest.raises(ValueError, match="no material 'cheese'"):
        draw_material("cheese", rng)


def test_labels_agree_with_boxes(sweeps):
    """Points of a still thing lie in the box that has their instance id."""
    checked = 0
    for frame, _ in sweeps[:10]:
        T = frame.T_world_base @ frame.T_base_lidar
        for b in frame.boxes:
            mine = frame.cloud.fields["instance"] == b.instance
            # A moving sensor's sweep is not corrected for motion; near the sweep's start it is right.
            mine &= frame.cloud.fields["time"] < 0.02
            if mine.sum() < 15 or b.raw_class not in (11, 12, 13, 15):
                continue
            assert (frame.cloud.fields["label"][mine] == b.raw_class).all()
            world = transform(T, frame.cloud.xyz[mine].astype(np.float64))
            assert in_box(world, b.T_world_box, b.size + 0.6).mean() > 0.85
            checked += 1
    assert checked > 5


def test_moving_things_move_and_parked_ones_stay():
    scene = make_street(4)
    later = scene.at(0.5)
    moved = [np.linalg.norm(b.T_world_object[:3, 3] - a.T_world_object[:3, 3])
             for a, b in zip(scene.objects, later.objects, strict=True)]  # fmt: skip
    dynamic = np.array([o.is_dynamic for o in scene.objects])
    assert dynamic.sum() >= 3
    assert (np.array(moved)[~dynamic] == 0).all()
    assert np.median(np.array(moved)[dynamic]) > 0.2
    speeds = [np.linalg.norm(o.velocity) for o in later.objects if o.is_dynamic]
    np.testing.assert_allclose(np.array(moved)[dynamic], 0.5 * np.array(speeds), rtol=0.3, atol=0.1)


def test_parts_and_instances_are_written(sweeps):
    parts = np.concatenate([f.cloud.fields["part"] for f, _ in sweeps])
    wanted = ("body", "wheel", "torso", "leg", "crown", "trunk", "wall", "stem", "surface")
    assert {PART_IDS[name] for name in wanted} <= set(parts.tolist())
    for frame, _ in sweeps:
        nothing = frame.cloud.fields["label"] == 0
        assert (frame.cloud.fields["instance"][nothing] == 0).all()
        assert (frame.cloud.fields["instance"][~nothing] > 0).all()


def test_a_long_drive_goes_on_smoothly_into_the_next_street():
    sensor = SpinningLidar(2, 10, 60)
    frames = list(islice(simulate_drive(2, 32, sensor, speed=100.0), 32))
    stretches = [f.stretch for f in frames]
    assert stretches[0] == 0
    assert stretches[-1] == 1
    place = np.array([f.T_world_base[:3, 3] for f in frames])
    steps = np.linalg.norm(np.diff(place, axis=0), axis=1)
    np.testing.assert_allclose(steps, 10.0, rtol=0.2)
    assert [f.stamp_ns - frames[0].stamp_ns for f in frames[:3]] == [0, 100_000_000, 200_000_000]


def test_cameras_see_the_drive_and_leave_its_clouds_alone():
    class Camera:
        def render(self, raycaster, T_world_camera, rng, stamp_ns):
            rng.random(7)
            ahead = np.concatenate([T_world_camera[:3, 3], T_world_camera[:3, 2]]).astype(np.float32)[None]
            return raycaster.cast(ahead).raw_class[0], stamp_ns

    # Optical axis straight down: it must meet the road.
    mount = np.array([[0.0, -1, 0, 2], [-1, 0, 0, 0], [0, 0, -1, 1.6], [0, 0, 0, 1]])
    sensor = SpinningLidar(8, 10, 90)
    plain = list(simulate_drive(9, 2, sensor))
    seen = list(simulate_drive(9, 2, sensor, cameras=[("down", Camera(), mount)]))
    for a, b in zip(plain, seen, strict=True):
        assert b.images["down"] == (1, b.stamp_ns)
        np.testing.assert_array_equal(b.T_base_cameras["down"], mount)
        assert a.cloud.xyz.tobytes() == b.cloud.xyz.tobytes()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        make_street(0, length_m=-1)
    with pytest.raises(ValueError, match="must not be negative"):
        next(simulate_drive(0, -1))
