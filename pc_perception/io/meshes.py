# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes and their files: PLY and OBJ are written here, all that Open3D knows is read through it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc_perception.io.whole_files import whole_file

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
    """Return the triangles of a mesh file as they are stored, polygons cut into fans.

    Needs the extra ``open3d``, but for OFF, of which ModelNet has files whose first line is amiss.

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
    mesh = _read_off(path) if path.suffix.lower() == ".off" else _read_by_open3d(path)
    if not len(mesh.faces):
        raise ValueError(f"'{path}' holds no triangles that can be read; is it a mesh, and complete?")
    return mesh


def _read_by_open3d(path: Path) -> Mesh:
    try:
        import open3d as o3d
    except ImportError as error:
        raise ImportError("reading meshes needs Open3D: pip install 'pc_perception[open3d]'") from error
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        # The older reader, o3d.io, drops polygons with more than three corners.
        found = o3d.t.io.read_triangle_mesh(str(path))
    if "positions" not in found.vertex or "indices" not in found.triangle:
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    vertices, faces = found.vertex["positions"].numpy(), found.triangle["indices"].numpy()
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def _read_off(path: Path) -> Mesh:
    text = path.read_text(encoding="ascii", errors="replace")
    words = " ".join(line.partition("#")[0] for line in text.splitlines()).split()
    if not words or not words[0].startswith("OFF"):
        raise ValueError(f"'{path}' is no OFF file: it begins with {text[:8]!r}, not 'OFF'")
    words[:1] = [words[0][3:]] if words[0] != "OFF" else []  # ModelNet: "OFF490 518 0" on one line
    try:
        n_vertices, n_faces = int(words[0]), int(words[1])
        numbers = np.array(words[3:], np.float64)
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"'{path}' cannot be read as OFF: the numbers of vertices, faces and edges must follow, then "
            f"numbers only ({error})"
        ) from error
    vertices, rest = numbers[: 3 * n_vertices], numbers[3 * n_vertices :].astype(np.int64)
    faces: list[tuple[int, int, int]] = []
    at = 0
    for _ in range(n_faces):
        n = int(rest[at]) if at < len(rest) else 0
        corners = rest[at + 1 : at + 1 + n]
        if n < 3 or len(corners) < n:
            raise ValueError(
                f"'{path}' is truncated: {len(faces)} triangles could be read of {n_faces} faces"
            )
        faces += [(corners[0], corners[k], corners[k + 1]) for k in range(1, n - 1)]
        at += n + 1
    return Mesh(vertices.reshape(-1, 3).astype(np.float32), np.array(faces, np.int32).reshape(-1, 3))


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
    with whole_file(path) as partial:
        partial.write_bytes(raw)
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
