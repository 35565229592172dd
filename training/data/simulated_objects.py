# SPDX-License-Identifier: Apache-2.0
"""Single objects of the simulator: every shape has its own seed, and is seen from one or more sides.

Half of the views are what a spinning LiDAR sees of the object alone from a few metres away, with its noise
and gaps; the others are points all over the surface, as scans of all sides and CAD models have them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.simulation import (
    buildings,
    furniture_objects,
    furniture_seating,
    furniture_storage,
    furniture_tables,
    people,
    street_furniture,
    trucks,
    vegetation,
    vehicles,
)
from pc_perception.simulation.furniture_assembly import Assembly
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.raycast import Raycaster
from pc_perception.simulation.scene import Scene, SceneObject
from pc_perception.simulation.template import Template, instance

from .object_files import read_objects, write_objects
from .object_sets import JoinedObjects
from .plain_files import cache_root

FORMAT = 1
"""Raise when the objects of a seed change, so that old files are not taken for new ones."""
SHARD = 250
"""Shapes in a file."""
N_POINTS = 2048
N_LEAST = 64
VIEWS = ("lidar", "surface")


def _templates(make: Callable[[int], Template], n: int) -> Callable[[Generator], list[SceneObject]]:
    def build(rng: Generator) -> list[SceneObject]:
        stretch = tuple(rng.uniform(0.9, 1.1, 3).tolist())
        return [instance(make(int(rng.integers(n))), 1, np.eye(4), rng, stretch)]

    return build


def _building(rng: Generator) -> list[SceneObject]:
    style = str(rng.choice(["house", "block", "shop", "hall", "garage"]))
    width, depth, height = rng.uniform((5, 5, 3), (18, 12, 12)).tolist()
    return [instance(buildings.building(rng, width, depth, height, style), 1, np.eye(4), rng)]


def _furniture(*builders: Callable[[Generator], list[Assembly]]) -> Callable[[Generator], list[SceneObject]]:
    def build(rng: Generator) -> list[SceneObject]:
        return [piece.make(np.eye(4)) for piece in builders[int(rng.integers(len(builders)))](rng)]

    return build


BUILDERS: dict[str, Callable[[Generator], list[SceneObject]]] = {
    "car": _templates(vehicles.car, vehicles.N_CARS),
    "truck": _templates(trucks.truck, trucks.N_TRUCKS),
    "bus": _templates(trucks.bus, trucks.N_BUSES),
    "trailer": _templates(trucks.trailer, trucks.N_TRAILERS),
    "pedestrian": _templates(people.pedestrian, people.N_PEDESTRIANS),
    "cyclist": _templates(people.cyclist, people.N_CYCLISTS),
    "two_wheeler": _templates(people.bicycle, people.N_BICYCLES),
    "tree": _templates(vegetation.tree, vegetation.N_TREES),
    "bush": _templates(vegetation.bush, vegetation.N_BUSHES),
    "hedge": _templates(vegetation.hedge, vegetation.N_HEDGES),
    "pole": _templates(street_furniture.pole, street_furniture.N_POLES),
    "sign": _templates(street_furniture.sign, street_furniture.N_SIGNS),
    "traffic_light": _templates(street_furniture.traffic_light, street_furniture.N_LIGHTS),
    "cone": _templates(street_furniture.traffic_cone, street_furniture.N_CONES),
    "fence": _templates(street_furniture.fence, street_furniture.N_FENCES),
    "building": _building,
    "chair": _furniture(
        furniture_seating.office_chair, furniture_seating.dining_chair, furniture_seating.shell_chair
    ),
    "stool": _furniture(furniture_seating.stool),
    "sofa": _furniture(furniture_seating.sofa, furniture_seating.armchair),
    "bed": _furniture(furniture_seating.bed),
    "table": _furniture(furniture_tables.table, furniture_tables.coffee_table, furniture_tables.bar_table),
    "desk": _furniture(furniture_tables.desk),
    "shelf": _furniture(furniture_storage.shelf, furniture_storage.metal_rack),
    "cabinet": _furniture(furniture_storage.cabinet, furniture_storage.nightstand, furniture_storage.fridge),
    "plant": _furniture(furniture_objects.plant),
    "lamp": _furniture(furniture_objects.table_lamp, furniture_objects.floor_lamp),
    "monitor": _furniture(furniture_objects.monitor),
    "laptop": _furniture(furniture_objects.laptop),
    "bottle": _furniture(furniture_objects.bottle),
    "bag": _furniture(furniture_objects.bag),
    "bin": _furniture(furniture_objects.bin_),
    "box": _furniture(furniture_objects.carton, furniture_objects.computer),
}
"""How an object of each class is built; classes are named as PandaSet's objects and ModelNet40 name them."""
CLASSES = tuple(BUILDERS)


def open_simulated_objects(
    n_shapes: int, per_shape: int = 1, seed: int = 0, cache_dir: str = "", progress: bool = False
) -> JoinedObjects:
    """Return ``per_shape`` views of each of the shapes of seeds ``seed`` .. ``seed + n_shapes - 1``.

    Shape s has class s mod C, so that all classes are equally common; its views share an instance. Files are
    made when first asked for, in whole shards, and kept.

    Raises:
        ValueError: a number is out of range.
    """
    from tqdm import tqdm

    if n_shapes < 1 or per_shape < 1 or seed < 0:
        raise ValueError(
            f"n_scenes {n_shapes} and per_scene {per_shape} must be at least 1, seed {seed} at least 0"
        )
    folder = (Path(cache_dir) if cache_dir else cache_root()) / "simulation" / f"objects-{FORMAT}-{per_shape}"
    parts = []
    shards = range(seed, seed + n_shapes, SHARD)
    for first in tqdm(shards, desc="simulating objects", unit="shard", disable=None if progress else True):
        last = min(first + SHARD, seed + n_shapes)
        file = folder / f"{first:08d}-{last:08d}.npz"
        if not file.is_file():
            _write(file, range(first, last), per_shape)
        parts.append(read_objects(file))
    return JoinedObjects(parts)


def _write(file: Path, seeds: range, per_shape: int) -> None:
    keys = [(s, v) for s in seeds for v in range(per_shape)]
    write_objects(
        file,
        [simulated_object(s, v) for s, v in keys],
        [s % len(CLASSES) for s, _ in keys],
        CLASSES,
        [f"seed {s} view {v}" for s, v in keys],
        [f"seed {s}" for s, _ in keys],
    )


def simulated_object(seed: int, view: int = 0) -> PointCloud:
    """Return one view of one shape: at most 2,048 points, metres, standing upright about its own middle.

    Views alternate between the LiDAR's and points all over, and so do the shapes of a class. An object that
    gives too few returns is seen all over too.
    """
    shape_rng = np.random.default_rng([20261125, seed])
    pieces = BUILDERS[CLASSES[seed % len(CLASSES)]](shape_rng)
    rng = np.random.default_rng([20261125, seed, view])
    cloud = None
    if (seed // len(CLASSES) + view) % 2 == 0:
        cloud = _seen_by_lidar(pieces, rng)
    cloud = _all_over(pieces, rng) if cloud is None else cloud
    return PointCloud(cloud.xyz - (cloud.xyz.min(0) + cloud.xyz.max(0)) / 2)


def _seen_by_lidar(pieces: list[SceneObject], rng: Generator, tries: int = 4) -> PointCloud | None:
    """Look from a random side, nearer with every try that returns too little."""
    corners = np.array([piece.center + s * piece.size / 2 for piece in pieces for s in (-1, 1)])
    low, high = corners.min(0), corners.max(0)
    middle, reach = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    raycaster = Raycaster(Scene.build(pieces, "simulation_street"))
    for attempt in range(tries):
        distance = reach + 1.5 + rng.uniform(0.5, 6.0) * reach / 2**attempt
        yaw = rng.uniform(0, 2 * np.pi)
        eye = np.eye(4)
        eye[:2, 3] = middle[:2] + distance * np.array([np.cos(yaw), np.sin(yaw)])
        eye[2, 3] = np.clip(low[2] + rng.uniform(0.3, 2.2), low[2], max(high[2], low[2] + 1.0))
        lidar = SpinningLidar.random(rng, int(rng.choice([32, 64, 128])))
        cloud = lidar.scan(raycaster, eye, rng=rng)
        cloud = cloud.select(np.flatnonzero(cloud.fields["label"] > 0))
        if len(cloud) >= N_LEAST:
            keep = rng.permutation(len(cloud))[:N_POINTS]
            return PointCloud(cloud.xyz[keep])
    return None


def _all_over(pieces: list[SceneObject], rng: Generator) -> PointCloud:
    """Draw points evenly over all surfaces."""
    corners = np.concatenate([_triangles(piece) for piece in pieces])
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    rows = rng.choice(len(area), N_POINTS, p=area / area.sum())
    u, v = rng.random((2, N_POINTS, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    xyz = a[rows] + u * (b[rows] - a[rows]) + v * (c[rows] - a[rows])
    return PointCloud(xyz.astype(np.float32))


def _triangles(piece: SceneObject) -> NDArray[np.float64]:
    """(T, 3, 3) corners of all triangles, in the common frame."""
    T = piece.T_world_object
    parts = [p.vertices[p.triangles] for p in piece.parts]
    return np.concatenate(parts).astype(np.float64) @ T[:3, :3].T + T[:3, 3]
