# SPDX-License-Identifier: Apache-2.0
"""Procedural shapes whose points say which part they belong to, laid out as ShapeNetPart is.

Every shape has its own seed; points lie evenly over all surfaces, as those of CAD models do. Part ids run on from
class to class, and no two classes share one. Surfaces that are less than a fiftieth of their class on average
(handles, mirrors, plates) give no points.
"""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.meshing import sample_triangles
from pc_perception.io.files import read_cloud
from pc_perception.simulation.object_shapes import build_object

from .objects import StoredObjects
from .plain_files import cache_root, write_plain

CATEGORIES = {
    "chair": ("seat", "back", "leg", "arm", "base"),
    "table": ("top", "leg", "frame", "shelf", "base"),
    "sofa": ("back", "base", "arm", "seat", "cushion"),
    "bed": ("cushion", "frame", "back", "panel"),
    "shelf": ("shelf", "body", "back", "panel", "leg"),
    "cabinet": ("body", "door", "top"),
    "lamp": ("lamp", "base", "stem"),
    "bottle": ("body", "top", "handle"),
    "car": ("body", "glass", "interior", "wheel"),
    "truck": ("cargo", "cab", "frame", "glass", "wheel"),
    "bus": ("body", "glass", "interior", "wheel"),
    "pedestrian": ("leg", "torso", "arm", "bag", "head"),
    "tree": ("crown", "trunk"),
}
"""Parts of each class, by their names in ``simulation.scene.PARTS``."""
LABEL_SET = "simulation_parts"
FORMAT = 1
"""Raise when the objects of a seed change, so that old files are not taken for new ones."""
N_POINTS = 2048


class SimulatedParts(StoredObjects):
    """Shapes with part ids 0 .. 52 in the field ``label`` (uint16); classes take turns."""

    part_ids = tuple(
        tuple(range(end - len(parts), end))
        for parts, end in zip(CATEGORIES.values(), accumulate(map(len, CATEGORIES.values())), strict=True)
    )


def open_simulated_parts(n_shapes: int, seed: int = 0, cache_dir: str = "") -> SimulatedParts:
    """Return the shapes of seeds ``seed`` .. ``seed + n_shapes - 1``; shape s has class s mod C.

    Each has 2,048 points, metres, standing upright about the middle of its box. They are made when first asked for,
    and kept.

    Raises:
        ValueError: a number is out of range.
    """
    if n_shapes < 1 or seed < 0:
        raise ValueError(f"n_scenes {n_shapes} must be at least 1, seed {seed} at least 0")
    seeds = range(seed, seed + n_shapes)
    root = Path(cache_dir) if cache_dir else cache_root()
    file = root / "simulation" / f"parts-{FORMAT}" / f"{seeds.start:08d}-{seeds.stop:08d}.npz"
    if not file.is_file():
        write_plain(file, _make(seeds))
    labels = np.array(seeds) % len(CATEGORIES)
    names = [f"{list(CATEGORIES)[k]} seed {s}" for k, s in zip(labels, seeds, strict=True)]
    offsets = np.arange(n_shapes + 1) * N_POINTS
    return SimulatedParts(read_cloud(file), offsets, labels, tuple(CATEGORIES), names, source=str(file))


def _make(seeds: range) -> PointCloud:
    """Return all shapes behind each other."""
    from tqdm import tqdm

    bar = tqdm(seeds, desc="making shapes with parts", unit="shape", disable=None)
    points, parts = zip(*(shape_with_parts(seed) for seed in bar), strict=True)
    return PointCloud(np.concatenate(points), {"label": np.concatenate(parts)})


def shape_with_parts(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Return the points, (2048, 3), and part ids, (2048,), of the shape that a seed stands for."""
    number = seed % len(CATEGORIES)
    name, parts = list(CATEGORIES.items())[number]
    rng = np.random.default_rng([20261127, seed])
    pieces = [
        (parts.index(part.name), part.vertices[part.surface[1]] @ T[:3, :3].T + T[:3, 3])
        for piece in build_object(name, rng, fresh=True)
        for part, T in ((part, piece.T_world_object) for part in piece.parts)
        if part.name in parts
    ]
    ids = SimulatedParts.part_ids[number][0] + np.repeat([k for k, _ in pieces], [len(t) for _, t in pieces])
    corners = np.concatenate([triangles for _, triangles in pieces]).reshape(-1, 3)
    points, _, rows = sample_triangles((corners, np.arange(len(corners)).reshape(-1, 3)), N_POINTS, rng)
    return (points - (points.min(0) + points.max(0)) / 2).astype(np.float32), ids[rows].astype(np.uint16)
