# SPDX-License-Identifier: Apache-2.0
"""Meshes of fields, points on meshes, and mesh files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pc_perception.inference.meshing import extract_mesh, sample_surface
from pc_perception.io.meshes import Mesh, read_mesh, write_mesh
from pc_perception.simulation.shapes import box, is_watertight, volume

pytest.importorskip("skimage")


def sphere(radius: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0)):  # type: ignore[no-untyped-def]
    return lambda x: radius - (x - torch.tensor(center)).norm(dim=1)


def test_the_mesh_of_a_sphere_is_closed_faces_outwards_and_has_its_volume() -> None:
    mesh = extract_mesh(sphere(0.7, (0.1, -0.2, 0.05)), 64)
    assert mesh.vertices.dtype == np.float32
    assert mesh.faces.dtype == np.int32
    assert is_watertight(mesh)
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=2e-3)
    away = np.linalg.norm(mesh.vertices - [0.1, -0.2, 0.05], axis=1)
    assert abs(away - 0.7).max() < 1e-3


def test_level_and_what_the_cube_cuts() -> None:
    mesh = extract_mesh(sphere(0.9), 32, level=0.4)
    assert np.linalg.norm(mesh.vertices, axis=1).mean() == pytest.approx(0.5, abs=2e-3)
    cut = extract_mesh(sphere(1.2), 32)
    assert is_watertight(cut)
    assert cut.vertices.min() == -1
    assert cut.vertices.max() == 1
    assert extract_mesh(sphere(2.0), 16).vertices.min() == -1
    assert volume(extract_mesh(sphere(2.0), 16)) == pytest.approx(8, rel=0.02)


def thin_chair(x: Tensor) -> Tensor:
    """A seat with four legs thinner than the space between the corners of blocks."""
    seat = (x[:, :2].abs().amax(1) < 0.7) & (x[:, 2].abs() < 0.15)
    legs = ((x[:, :2].abs() - 0.6).abs().amax(1) < 0.045) & (x[:, 2] < 0) & (x[:, 2] > -0.9)
    return (seat | legs).float() - 0.5


def test_the_surface_is_followed_into_thin_parts_at_a_fraction_of_the_questions() -> None:
    asked = [0, 0]

    def counted(k: int):  # type: ignore[no-untyped-def]
        def field(x: Tensor) -> Tensor:
            asked[k] += len(x)
            return thin_chair(x)

        return field

    sparse, full = extract_mesh(counted(0), 64), extract_mesh(counted(1), 64, full=True)
    assert asked[1] == 65**3
    assert asked[0] < 0.3 * asked[1]
    assert sparse.vertices[:, 2].min() < -0.85
    np.testing.assert_array_equal(sparse.vertices, full.vertices)
    np.testing.assert_array_equal(sparse.faces, full.faces)


def test_an_empty_field_and_bad_ones() -> None:
    mesh = extract_mesh(lambda x: -torch.ones(len(x)), 16)
    assert len(mesh.vertices) == len(mesh.faces) == 0
    with pytest.raises(ValueError, match="NaN or Inf at"):
        extract_mesh(lambda x: x[:, 0] * float("nan"), 16)
    with pytest.raises(ValueError, match="one logit each"):
        extract_mesh(lambda x: x, 16)
    with pytest.raises(ValueError, match="multiple of 4"):
        extract_mesh(sphere(0.5), 30)


def test_points_lie_evenly_on_a_mesh() -> None:
    mesh = Mesh(*box((1.0, 2.0, 4.0)))
    points = sample_surface(mesh, 20_000, 3)
    assert points.dtype == np.float32
    on = np.isclose(np.abs(points), [0.5, 1.0, 2.0], atol=1e-5)
    assert on.any(1).all()
    area = np.array([8.0, 4.0, 2.0])
    np.testing.assert_allclose(on.mean(0), area / area.sum(), atol=0.015)
    np.testing.assert_array_equal(points, sample_surface(mesh, 20_000, 3))
    with pytest.raises(ValueError, match="no area"):
        sample_surface(Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32)), 5, 0)


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_meshes_survive_their_files(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("open3d")
    mesh = Mesh(*box((1.0, 2.0, 0.3), (0.1, 0.2, 0.3)))
    back = read_mesh(write_mesh(tmp_path / f"box{suffix}", mesh))
    np.testing.assert_allclose(
        np.sort(back.vertices[back.faces].reshape(12, 9), 0),
        np.sort(mesh.vertices[mesh.faces].reshape(12, 9), 0),
    )
    assert volume(back) == pytest.approx(0.6, rel=1e-5)


QUADS = [(0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
CORNERS = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n1 0 1\n1 1 1\n0 1 1"


@pytest.mark.parametrize("name", ["a.off", "modelnet.off", "a.obj"])
def test_polygons_are_cut_into_triangles(tmp_path: Path, name: str) -> None:
    pytest.importorskip("open3d")
    if name.endswith("obj"):
        lines = [f"v {line}" for line in CORNERS.splitlines()]
        lines += ["f " + " ".join(str(i + 1) for i in quad) for quad in QUADS]
    else:
        lines = ["OFF # a cube", "8 6 0"] if name == "a.off" else ["OFF8 6 0"]
        lines += [*CORNERS.splitlines(), *("4 " + " ".join(map(str, quad)) for quad in QUADS)]
    (tmp_path / name).write_text("\n".join(lines))
    mesh = read_mesh(tmp_path / name)
    assert len(mesh.faces) == 12
    assert volume(mesh) == pytest.approx(1)


def test_mesh_files_that_cannot_be_used(tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_mesh(tmp_path / "none.ply")
    (tmp_path / "a.ply").write_text("ply\nbroken")
    with pytest.raises(ValueError, match="no triangles"):
        read_mesh(tmp_path / "a.ply")
    (tmp_path / "a.off").write_text("OFF\n3 1 0\n0 0 0 1 0 0 0 1 0\n3 0 1")
    with pytest.raises(ValueError, match=r"truncated: 0 triangles could be read of 1 faces"):
        read_mesh(tmp_path / "a.off")
    (tmp_path / "b.off").write_text("OFF\n3 one 0")
    with pytest.raises(ValueError, match="cannot be read as OFF"):
        read_mesh(tmp_path / "b.off")
    (tmp_path / "c.off").write_text("ply")
    with pytest.raises(ValueError, match="no OFF file"):
        read_mesh(tmp_path / "c.off")
    (tmp_path / "a.fbx").write_text("")
    with pytest.raises(ValueError, match=r"\.off"):
        read_mesh(tmp_path / "a.fbx")
    with pytest.raises(ValueError, match="not written"):
        write_mesh(tmp_path / "a.stl", Mesh(*box((1, 1, 1))))
    assert not list(tmp_path.glob(".partial*"))
