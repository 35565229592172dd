# SPDX-License-Identifier: Apache-2.0
"""Shapes of the simulator as closed meshes, analytic ones, and what is inside of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pc_perception.simulation.analytic import KINDS, random_analytic
from pc_perception.simulation.object_shapes import CLASSES, SHAPES, random_shape
from pc_perception.simulation.occupancy import Solid
from pc_perception.simulation.shapes import Mesh, box, is_watertight, join


def solid_angles(mesh: Mesh, xyz: NDArray) -> NDArray:
    """Winding numbers as sums of signed solid angles (Van Oosterom and Strackee, 1983): slow, and by other means."""
    corners = np.asarray(mesh[0], np.float64)[mesh[1]]
    a, b, c = (corners[None, :, k] - xyz[:, None] for k in range(3))
    u, v, w = (np.linalg.norm(t, axis=2) for t in (a, b, c))
    above = (a * np.cross(b, c)).sum(2)
    below = u * v * w + (a * b).sum(2) * w + (b * c).sum(2) * u + (c * a).sum(2) * v
    return np.round(2 * np.arctan2(above, below).sum(1) / (4 * np.pi))


def test_overlapping_boxes_are_a_union() -> None:
    mesh = join([box((1, 1, 1)), box((1, 1, 1), (0.5, 0.25, 0.125)), box((0.2, 0.2, 0.2))])
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-1, 1.2, (20_000, 3))
    first, second = np.abs(xyz).max(1) < 0.5, np.abs(xyz - [0.5, 0.25, 0.125]).max(1) < 0.5
    third = np.abs(xyz).max(1) < 0.1
    solid = Solid(mesh)
    np.testing.assert_array_equal(solid.winding(xyz), first * 1 + second + third)
    np.testing.assert_array_equal(solid.contains(xyz), first | second)


def test_rays_through_edges_and_corners_count_once() -> None:
    """Places right below edges, corners and diagonals of a box, on a grid that float32 holds exactly."""
    axis = np.arange(-6, 7) / 8
    xyz = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    xyz = xyz[(np.abs(np.abs(xyz) - 0.5) > 1e-9).all(1) | (np.abs(xyz) > 0.5).any(1)]
    np.testing.assert_array_equal(Solid(box((1, 1, 1))).contains(xyz), (np.abs(xyz) < 0.5).all(1))


def test_a_cavity_is_outside() -> None:
    vertices, faces = box((0.5, 0.5, 0.5))
    solid = Solid(join([box((1, 1, 1)), (vertices, faces[:, ::-1])]))
    assert solid.contains([[0, 0, 0], [0.3, 0.01, 0.02], [0.6, 0, 0]]).tolist() == [False, True, False]


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_closed_fill_the_cube_and_their_inside_is_right(name: str) -> None:
    rng = np.random.default_rng(1)
    for seed in (0, 1, 2_000_000):
        mesh = random_shape(name, seed)
        assert is_watertight(mesh)
        assert mesh.vertices.dtype == np.float32
        assert np.abs(mesh.vertices).max() == pytest.approx(1, abs=1e-5)
        assert np.abs(mesh.vertices).max() < 1
        near = mesh.vertices[rng.integers(len(mesh.vertices), size=150)] + rng.normal(0, 0.03, (150, 3))
        xyz = np.concatenate([near, rng.uniform(-1, 1, (150, 3))])
        winding = Solid(mesh).winding(xyz)
        np.testing.assert_array_equal(winding, solid_angles(mesh, xyz))
        assert winding.min() >= 0
        assert winding.max() > 0


def test_every_seed_has_its_own_shape() -> None:
    same, other = random_shape("car", 5), random_shape("car", 6)
    np.testing.assert_array_equal(random_shape("car", 5).vertices, same.vertices)
    assert len({random_shape("car", s).vertices.tobytes() for s in range(30)}) == 30
    assert same.vertices.shape != other.vertices.shape or not np.allclose(same.vertices, other.vertices)
    with pytest.raises(ValueError, match=r"no class 'unicorn'.*chair"):
        random_shape("unicorn", 0)
    assert set(SHAPES) < set(CLASSES)


@pytest.mark.parametrize("kind", KINDS)
def test_analytic_shapes_agree_with_their_meshes(kind: str) -> None:
    rng = np.random.default_rng(2)
    for seed in range(3):
        shape = random_analytic(kind, seed)
        surface = shape.surface(2000, rng)
        assert np.abs(surface).max() < 1
        # A hair inwards and outwards along the direction in which the mesh's answer changes.
        away = rng.uniform(-1, 1, (5000, 3))
        differ = shape.contains(away) != Solid(shape.mesh()).contains(away)
        assert differ.mean() < 2e-3
        step = rng.normal(0, 1e-3, surface.shape)
        share = np.mean(shape.contains(surface + step))
        assert share == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="sphere, box, torus"):
        random_analytic("cube", 0)
