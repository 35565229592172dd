# SPDX-License-Identifier: Apache-2.0
"""From the triangles of a file to a closed mesh that faces outwards: what was found, repaired, refused.

Repaired: unused and equal vertices, empty and repeated triangles, turned triangles and inside-out pieces, small
holes. Refused: surfaces that stay open, and what encloses nothing. Pieces that run through each
other or themselves are kept and told: their inside is that of the union (``occupancy.Solid``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pc_perception.io.meshes import Mesh
from pc_perception.simulation.occupancy import Solid
from pc_perception.simulation.shapes import volume

MAX_OPEN = 0.02
"""Meshes with a larger share of open edges are refused, not filled."""
HOLE = 0.1
"""Holes are filled that reach at most this share of the longest side from their middle."""
CHECKED = 4000
"""Random places that are asked for overlaps."""


@dataclass(frozen=True)
class Repaired:
    """A closed mesh that faces outwards, and the way to it.

    Attributes:
        mesh: in the coordinates of the file.
        found: what was wrong, and what is odd but no fault (overlaps).
        repaired: what was done about it.
    """

    mesh: Mesh
    found: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """One line for a report; empty where nothing was found."""
        parts = [f"found: {', '.join(self.found)}"] if self.found else []
        parts += [f"repaired: {', '.join(self.repaired)}"] if self.repaired else []
        return "; ".join(parts)


def repair(mesh: Mesh) -> Repaired:
    """Close a mesh and turn it outwards.

    Raises:
        ValueError: it cannot be closed, or encloses nothing; the message says what was found.
    """
    found: list[str] = []
    done: list[str] = []
    mesh = _clean(mesh, found, done)
    if not _is_closed(mesh):
        mesh = _turned_alike(mesh, found, done)
    if not _is_closed(mesh):
        mesh = _filled(mesh, found, done)
    mesh = _outwards(mesh, found, done)
    _tell_overlaps(mesh, found)
    return Repaired(mesh, tuple(found), tuple(done))


def _clean(mesh: Mesh, found: list[str], done: list[str]) -> Mesh:
    """Drop what is not finite, empty, repeated or unused, and make equal vertices one."""
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
    strange = faces[(faces < 0) | (faces >= len(vertices))]
    if len(strange):
        raise ValueError(f"a triangle names vertex {strange[0]}, but there are {len(vertices)}")
    bad = ~np.isfinite(vertices[faces]).all((1, 2))
    if bad.any():
        raise ValueError(f"{int(bad.sum())} of {len(faces)} triangles have corners that are NaN or Inf")
    merged, row = np.unique(vertices + 0.0, axis=0, return_inverse=True)  # + 0.0: -0 and 0 are one place
    faces = row.reshape(-1)[faces]
    empty = (faces == np.roll(faces, 1, axis=1)).any(1)
    kept = faces[~empty]
    _, first, count = np.unique(_rolled(kept), axis=0, return_index=True, return_counts=True)
    n_repeated = int((count - 1).sum())
    kept = kept[np.sort(first)]
    used, faces = np.unique(kept, return_inverse=True)
    for n, what in ((int(empty.sum()), "empty triangles"), (n_repeated, "repeated triangles")):
        if n:
            found.append(f"{n} {what}")
            done.append(f"{what} dropped")
    if not len(kept):
        raise ValueError(f"none of its {len(bad)} triangles has an area")
    return Mesh(merged[used], faces.reshape(-1, 3).astype(np.int32))


def _rolled(faces: NDArray) -> NDArray:
    """Start every triangle at its lowest vertex, keeping its direction."""
    start = faces.argmin(1)
    return faces[np.arange(len(faces))[:, None], (start[:, None] + np.arange(3)) % 3]


def _edges(mesh: Mesh) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Undirected edges (E, 2), and how often each is run upwards less downwards (0 on a closed surface)."""
    start, end = mesh.faces.ravel().astype(np.int64), np.roll(mesh.faces, -1, axis=1).ravel().astype(np.int64)
    low, high = np.minimum(start, end), np.maximum(start, end)
    key, row = np.unique(low * len(mesh.vertices) + high, return_inverse=True)
    balance = np.bincount(row.reshape(-1), np.where(start < end, 1.0, -1.0), len(key)).astype(np.int64)
    return np.stack([key // len(mesh.vertices), key % len(mesh.vertices)], 1), balance


def _is_closed(mesh: Mesh) -> bool:
    """True where every edge is run as often one way as the other: then every place has one winding number."""
    return not _edges(mesh)[1].any()


def _open3d(mesh: Mesh):  # type: ignore[no-untyped-def]
    import open3d as o3d

    return o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices.astype(np.float64)), o3d.utility.Vector3iVector(mesh.faces)
    )


def _turned_alike(mesh: Mesh, found: list[str], done: list[str]) -> Mesh:
    """Turn triangles so that neighbours run their edge in opposite directions, where that closes the mesh."""
    legacy = _open3d(mesh)
    if not legacy.orient_triangles():
        return mesh
    turned = Mesh(mesh.vertices, np.asarray(legacy.triangles, np.int32))
    n = int((_rolled(turned.faces) != _rolled(mesh.faces)).any(1).sum())
    if n and np.abs(_edges(turned)[1]).sum() < np.abs(_edges(mesh)[1]).sum():
        found.append(f"{n} triangles that face the other way than their neighbours")
        done.append("triangles turned")
        return turned
    return mesh


def _filled(mesh: Mesh, found: list[str], done: list[str]) -> Mesh:
    """Close small holes, each with a fan about its middle; refuse a mesh that stays open."""
    edges, balance = _edges(mesh)
    n_open = int((balance != 0).sum())
    said = f"{n_open} of {len(edges)} edges are open or have all their triangles on one side"
    cure = "make the mesh watertight first (ManifoldPlus and mesh-fusion do), or leave it out"
    if n_open > MAX_OPEN * len(edges):
        raise ValueError(f"{said}: its inside is not defined; {cure}")
    loops = _open_loops(edges, balance)
    longest = float(np.ptp(mesh.vertices, axis=0).max())
    middles = [mesh.vertices[loop].mean(0) for loop in loops]
    reach = [
        float(np.linalg.norm(mesh.vertices[loop] - middle, axis=1).max())
        for loop, middle in zip(loops, middles, strict=True)
    ]
    if max(reach) > HOLE * longest:
        raise ValueError(f"{said}, and the holes are too large to be filled; {cure}")
    fans = [
        np.stack([loop, np.roll(loop, -1), np.full(len(loop), len(mesh.vertices) + k)], 1)
        for k, loop in enumerate(loops)
    ]
    found.append(f"{n_open} open edges")
    done.append(f"holes filled: {len(loops)}")
    return Mesh(
        np.concatenate([mesh.vertices, np.array(middles, np.float32)]),
        np.concatenate([mesh.faces, *fans]).astype(np.int32),
    )


def _open_loops(edges: NDArray, balance: NDArray) -> list[NDArray[np.int64]]:
    """Vertices around each hole, in the direction that triangles in it have to run."""
    runs = np.repeat(np.where(balance[:, None] < 0, edges, edges[:, ::-1]), np.abs(balance), axis=0)
    after: dict[int, list[int]] = {}
    for tail, head in runs.tolist():
        after.setdefault(tail, []).append(head)
    loops = []
    # As many runs leave a vertex as reach it, since triangles are loops themselves: every walk comes back.
    while after:
        start = at = next(iter(after))
        loop = []
        while not loop or at != start:
            loop.append(at)
            heads = after[at]
            at = heads.pop()
            if not heads:
                del after[loop[-1]]
        loops.append(np.array(loop))
    return loops


def _outwards(mesh: Mesh, found: list[str], done: list[str]) -> Mesh:
    """Turn pieces that face inwards, unless they are cavities of another piece."""
    pieces = _pieces(mesh)
    volumes = [volume((mesh.vertices, mesh.faces[rows])) for rows in pieces]
    # Thinner than a thousandth of its box along each side: a sheet, whose inside no query would meet.
    box = float(np.ptp(mesh.vertices, axis=0).max()) ** 3
    if sum(map(abs, volumes)) < 1e-9 * box:
        raise ValueError("it encloses nothing: its volume is zero")
    inverted = [rows for rows, v in zip(pieces, volumes, strict=True) if v < 0]
    faces, n_turned = mesh.faces.copy(), 0
    for rows in inverted:
        others = np.setdiff1d(np.arange(len(faces)), rows, assume_unique=True)
        place = mesh.vertices[mesh.faces[rows[0]]].mean(0)
        if not len(others) or not Solid((mesh.vertices, mesh.faces[others])).contains(place)[0]:
            faces[rows] = faces[rows][:, ::-1]
            n_turned += 1
    if n_turned:
        found.append(f"{n_turned} of {len(pieces)} pieces inside out")
        done.append("pieces turned")
    if len(inverted) > n_turned:
        found.append(f"{len(inverted) - n_turned} cavities")
    return Mesh(mesh.vertices, faces)


def _pieces(mesh: Mesh) -> list[NDArray[np.int64]]:
    """Rows of the triangles of each connected piece."""
    a, b = np.concatenate([mesh.faces[:, :2], mesh.faces[:, 1:]]).T
    n = len(mesh.vertices)
    piece = connected_components(coo_matrix((np.ones(len(a)), (a, b)), (n, n)), directed=False)[1]
    of_face = piece[mesh.faces[:, 0]]
    order = np.argsort(of_face, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(of_face[order])) + 1)


def _tell_overlaps(mesh: Mesh, found: list[str]) -> None:
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    winding = Solid(mesh).winding(np.random.default_rng(0).uniform(low, high, (CHECKED, 3)))
    n = int(((winding < 0) | (winding > 1)).sum())
    if n:
        share = n / max(int((winding != 0).sum()), 1)
        found.append(f"it runs through itself in {100 * share:.1f} % of its inside (taken as a union)")
