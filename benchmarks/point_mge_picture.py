# SPDX-License-Identifier: Apache-2.0
"""Draw new shapes and completions of the shipped model: ``python -m benchmarks.point_mge_picture [FILE]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.point_mge_measure import VIEWS, seen_from
from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_shapes
from pc_perception.simulation.object_shapes import random_shape
from pc_perception.visualization.grid import render_grid

MADE = ("chair", "table", "sofa", "bed", "cabinet", "bottle", "car", "bus", "cone")
SEEN = ("chair", "sofa", "car")


def main(path: str, model: str) -> None:
    """Write the picture: what is made of names alone, then single views and what they become, seed 0 of each."""
    shapes = load_shapes(model, "cpu")
    drawn: list = [shapes.generate(name, 1, 0)[0] for name in MADE]
    names = [f"new: {name}" for name in MADE]
    for i, name in enumerate(SEEN):
        eye = np.array([2.0, 2.0, 1.0])
        seen = seen_from(
            random_shape(name, 2_500_000 + i), eye, VIEWS["depth camera"], np.random.default_rng(i)
        )
        found = shapes.complete(PointCloud((seen - eye).astype(np.float32)))
        drawn += [seen, found.mesh._replace(vertices=found.mesh.vertices + eye.astype(np.float32))]
        drawn.append(random_shape(name, 2_500_000 + i))
        names += [f"{name}, seen", "completed", "as it was"]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    render_grid(drawn, names, columns=9, cell=150).quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw new shapes and completions of single views.")
    parser.add_argument("path", nargs="?", default="docs/images/shapes.png", help="picture to write")
    parser.add_argument("model", nargs="?", default="shapes", help="a model of shapes")
    arguments = parser.parse_args()
    main(arguments.path, arguments.model)
