# SPDX-License-Identifier: Apache-2.0
"""``pc-perception generate``: new shapes of a class as meshes, and a picture of all."""

from __future__ import annotations

import time
from pathlib import Path

from pc_perception.inference.loading import load_shapes
from pc_perception.inference.shapes import GUIDANCE
from pc_perception.io.meshes import write_mesh
from pc_perception.io.whole_files import whole_file
from pc_perception.refusals import refuse_unwritable


def run(
    out: Path,
    *,
    model: str,
    class_name: str | None = None,
    n: int = 16,
    seed: int = 0,
    guidance: float = GUIDANCE,
    device: str = "auto",
) -> None:
    """Write ``out/<class>_<number>.ply``, in the cube -1 .. 1, and ``out/<class>.png``.

    Raises:
        FileNotFoundError, ValueError: with one sentence.
    """
    from pc_perception.visualization.grid import render_grid

    refuse_unwritable(out, is_folder=True)
    shapes = load_shapes(model, device)
    start = time.perf_counter()
    meshes = shapes.generate(class_name, n, seed, guidance=guidance)
    seconds = time.perf_counter() - start
    stem = class_name or "shape"
    for i, mesh in enumerate(meshes):
        write_mesh(out / f"{stem}_{i:02d}.ply", mesh)
    picture = out / f"{stem}.png"
    with whole_file(picture) as partial:
        render_grid(meshes).save(partial)
    n_empty = sum(not len(mesh.faces) for mesh in meshes)
    note = f", {n_empty} of them empty" if n_empty else ""
    print(f"{n} meshes in '{out}'{note}, {seconds:.1f} s; {picture}")
