# SPDX-License-Identifier: Apache-2.0
"""``pc-perception complete``: the whole shape of an object that a sensor saw one side of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pc_perception.inference.loading import load_shapes
from pc_perception.inference.object_contract import object_points
from pc_perception.io.arrays import Columns
from pc_perception.io.meshes import WRITTEN, write_mesh
from pc_perception.io.whole_files import whole_file
from pc_perception.refusals import refuse_unwritable

from .sinks import refuse_picture
from .sources import open_source


def run(
    path: Path,
    *,
    model: str,
    out: Path,
    picture: Path | None = None,
    class_name: str | None = None,
    seed: int = 0,
    device: str = "auto",
    columns: Columns = None,
) -> None:
    """Complete the one cloud of ``path`` and write its mesh, in the cloud's units, z up.

    Raises:
        FileNotFoundError, ValueError: with one sentence.
    """
    if out.suffix.lower() not in WRITTEN:
        raise ValueError(f"'{out}': meshes are written to files ending in {' or '.join(WRITTEN)}")
    refuse_unwritable(out)
    refuse_picture(picture)
    shapes = load_shapes(model, device)
    clouds = list(open_source(path, None, columns).clouds())
    if len(clouds) != 1:
        raise ValueError(f"'{path}' holds {len(clouds)} clouds; give a file with one object in it")
    cloud = clouds[0].cloud
    found = shapes.complete(cloud, seed, class_name=class_name)
    if not len(found.mesh.faces):
        raise ValueError(
            f"the shape drawn for '{path}' came out empty; try another --seed or name its --class"
        )
    write_mesh(out, found.mesh)
    size = np.ptp(found.mesh.vertices, axis=0)
    n_patches = shapes.network.tokenizer.n_patches
    print(
        f"{out}: {len(found.mesh.faces):,} triangles, {size[0]:.2f} x {size[1]:.2f} x {size[2]:.2f},"
        f" {found.n_seen} of {n_patches} tokens seen, {found.milliseconds:.0f} ms"
    )
    if picture is not None:
        from pc_perception.visualization.grid import render_grid

        names = (f"{len(cloud):,} points", "completed")
        with whole_file(picture) as partial:
            render_grid([object_points(cloud), found.mesh], names, cell=480).save(partial)
        print(picture)
