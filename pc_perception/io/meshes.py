# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes and their files: PLY and OBJ are written here, all that Open3D knows is read through it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

READ = (".obj", ".ply", ".off", ".stl")
WRITTEN = (".ply", ".obj")


class Mesh(NamedTuple):
    """Triangles that wind counter-clockwise seen from outside.

    Attributes:
        vertices: (V, 3) float32.
        faces: (F, 3) int32 rows of ``vertices``.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


def read_mesh(path: str | Path) -> Mesh:
    """Return the triangles of a mesh file as they are stored; needs the extra ``open3d``.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: Open3D is not installed.
        ValueError: the format is unknown, or the file holds no triangle that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    if path.suffix.lower() not in READ:
        raise ValueError(
            f"'{path}': meshes ending in '{path.suffix}' are not read; these are: {', '.join(READ)}"
        )
    try:
        import open3d as o3d
    except ImportError as error:
        raise ImportError("reading meshes needs Open3D: pip install 'pc_perception[open3d]'") from error
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        found = o3d.io.read_triangle_mesh(path)
    mesh = Mesh(np.asarray(found.vertices, np.float32), np.asarray(found.triangles, np.int32))
    if not len(mesh.faces):
        raise ValueError(f"'{path}' holds no triangles that can be read; is it a mesh, and complete?")
    return mesh


def write_mesh(path: str | Path, mesh: Mesh) -> Path:
    """Write a mesh as binary PLY or as OBJ, as the file's suffix says, and return the path.

    The file appears under its name only when it is complete.

    Raises:
        ValueError: the suffix is another one.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITTEN:
        raise ValueError(
            f"'{path}': meshes ending in '{path.suffix}' are not written; these are: {', '.join(WRITTEN)}"
        )
    raw = _ply(mesh) if path.suffix.lower() == ".ply" else _obj(mesh)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        partial.write_bytes(raw)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _ply(mesh: Mesh) -> bytes:
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(mesh.vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(mesh.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(mesh.faces), np.dtype([("n", "u1"), ("vertices", "<i4", 3)]))
    rows["n"], rows["vertices"] = 3, mesh.faces
    return header.encode("ascii") + np.asarray(mesh.vertices, "<f4").tobytes() + rows.tobytes()


def _obj(mesh: Mesh) -> bytes:
    lines = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces.astype(np.int64) + 1).tolist()]
    return ("\n".join(lines) + "\n").encode("ascii")
