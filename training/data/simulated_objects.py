# SPDX-License-Identifier: Apache-2.0
"""Single objects of the simulator: every shape has its own seed, and is seen from one or more sides.

Half of the views are what a spinning LiDAR sees of the object alone from a few metres away, with its noise
and gaps; the others are points all over the surface, as scans of all sides and CAD models have them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.random import Generator

from pc_perception.cloud import PointCloud
from pc_perception.inference.meshing import sample_surface
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.object_shapes import CLASSES, build_object, object_mesh
from pc_perception.simulation.raycast import Raycaster
from pc_perception.simulation.scene import Scene, SceneObject

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
    pieces = build_object(CLASSES[seed % len(CLASSES)], shape_rng)
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
    return PointCloud(sample_surface(object_mesh(pieces), N_POINTS, rng))
