# SPDX-License-Identifier: Apache-2.0
"""Single objects by the name of their class: as the simulator has them, and as closed meshes in a cube.

Classes are named as PandaSet's objects and ModelNet40 name them. Objects face +x and stand upright on z.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.io.meshes import Mesh
from pc_perception.ops.sampling import farthest_point_sampling
from pc_perception.simulation import (
    buildings,
    furniture_objects,
    furniture_seating,
    furniture_storage,
    furniture_tables,
    people,
    shapes,
    street_furniture,
    trucks,
    vegetation,
    vehicles,
)
from pc_perception.simulation.furniture_assembly import Assembly
from pc_perception.simulation.scene import SceneObject
from pc_perception.simulation.template import Template, instance

_Templates = tuple[Callable[[int], Template], int]
_Furniture = tuple[Callable[[Generator], list[Assembly]], ...]

TEMPLATES: dict[str, _Templates] = {
    "car": (vehicles.car, vehicles.N_CARS),
    "truck": (trucks.truck, trucks.N_TRUCKS),
    "bus": (trucks.bus, trucks.N_BUSES),
    "trailer": (trucks.trailer, trucks.N_TRAILERS),
    "pedestrian": (people.pedestrian, people.N_PEDESTRIANS),
    "cyclist": (people.cyclist, people.N_CYCLISTS),
    "two_wheeler": (people.bicycle, people.N_BICYCLES),
    "tree": (vegetation.tree, vegetation.N_TREES),
    "bush": (vegetation.bush, vegetation.N_BUSHES),
    "hedge": (vegetation.hedge, vegetation.N_HEDGES),
    "pole": (street_furniture.pole, street_furniture.N_POLES),
    "sign": (street_furniture.sign, street_furniture.N_SIGNS),
    "traffic_light": (street_furniture.traffic_light, street_furniture.N_LIGHTS),
    "cone": (street_furniture.traffic_cone, street_furniture.N_CONES),
    "fence": (street_furniture.fence, street_furniture.N_FENCES),
}
"""What is made by number; the simulator draws from the first so many of them."""
FURNITURE: dict[str, _Furniture] = {
    "chair": (
        furniture_seating.office_chair,
        furniture_seating.dining_chair,
        furniture_seating.shell_chair,
    ),
    "stool": (furniture_seating.stool,),
    "sofa": (furniture_seating.sofa, furniture_seating.armchair),
    "bed": (furniture_seating.bed,),
    "table": (furniture_tables.table, furniture_tables.coffee_table, furniture_tables.bar_table),
    "desk": (furniture_tables.desk,),
    "shelf": (furniture_storage.shelf, furniture_storage.metal_rack),
    "cabinet": (furniture_storage.cabinet, furniture_storage.nightstand, furniture_storage.fridge),
    "plant": (furniture_objects.plant,),
    "lamp": (furniture_objects.table_lamp, furniture_objects.floor_lamp),
    "monitor": (furniture_objects.monitor,),
    "laptop": (furniture_objects.laptop,),
    "bottle": (furniture_objects.bottle,),
    "bag": (furniture_objects.bag,),
    "bin": (furniture_objects.bin_,),
    "box": (furniture_objects.carton, furniture_objects.computer),
}
CLASSES = (*TEMPLATES, "building", *FURNITURE)
SHAPES = (
    *("chair", "table", "sofa", "bed", "shelf", "cabinet", "lamp", "bottle"),
    *("car", "truck", "bus", "pedestrian", "tree", "cone"),
)
"""Classes that shape models are trained on where no other are named."""
_CROWN_BLOBS = 24


def build_object(name: str, rng: Generator, *, fresh: bool = False) -> list[SceneObject]:
    """Build one object of a class, as one or several pieces (a bed and its pillows) in a common frame.

    Args:
        name: one of ``CLASSES``.
        fresh: make a template of its own where the simulator would take one of its stock.

    Raises:
        ValueError: there is no such class.
    """
    if name in TEMPLATES:
        make, n = TEMPLATES[name]
        stretch = tuple(rng.uniform(0.9, 1.1, 3).tolist())
        if fresh:
            make, n = getattr(make, "__wrapped__", make), 2**31  # past the cache, which would keep them all
        return [instance(make(int(rng.integers(n))), 1, np.eye(4), rng, stretch)]
    if name == "building":
        style = str(rng.choice(["house", "block", "shop", "hall", "garage"]))
        width, depth, height = rng.uniform((5, 5, 3), (18, 12, 12)).tolist()
        return [instance(buildings.building(rng, width, depth, height, style), 1, np.eye(4), rng)]
    if name in FURNITURE:
        builders = FURNITURE[name]
        return [piece.make(np.eye(4)) for piece in builders[int(rng.integers(len(builders)))](rng)]
    raise ValueError(f"there is no class '{name}' of simulated objects; choose from {', '.join(CLASSES)}")


def object_mesh(pieces: list[SceneObject]) -> Mesh:
    """Join the surfaces of all parts of an object in the common frame, (V, 3) float64 metres."""
    vertices, faces, n = [], [], 0
    for piece in pieces:
        T = piece.T_world_object
        for part in piece.parts:
            vertices.append(part.vertices.astype(np.float64) @ T[:3, :3].T + T[:3, 3])
            faces.append(part.surface[1] + np.int32(n))
            n += len(part.vertices)
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


def random_shape(name: str, seed: int) -> Mesh:
    """Return the closed mesh of the shape that a class and a seed stand for, in the cube [-1, 1]^3.

    Every seed has a shape of its own. The mesh is a union of closed parts that may overlap: ``Solid`` tells its
    inside. Leaves, which are sheets without an inside in the simulator, become round clumps.

    Raises:
        ValueError: there is no such class.
    """
    rng = np.random.default_rng([20261126, seed, *name.encode()])
    pieces = build_object(name, rng, fresh=True)
    closed = []
    for piece in pieces:
        for part in piece.parts:
            has_sheets = len(part.surface[1]) < len(part.triangles)
            mesh = _clumps(part.surface, rng) if has_sheets else part.mesh
            closed.append(shapes.moved(mesh, piece.T_world_object))
    return in_cube(Mesh(*shapes.join(closed)))


def in_cube(mesh: Mesh) -> Mesh:
    """Move the middle of the bounding box to the origin and scale its longest side to 2 (all but 1e-6).

    This is 3DILG's normalisation: the largest absolute coordinate is 1. A sphere that holds the shape may reach out
    of the cube by sqrt(3).

    Raises:
        ValueError: the mesh has no extent.
    """
    vertices = np.asarray(mesh.vertices, np.float64)
    low, high = vertices[np.unique(mesh.faces)].min(0), vertices[np.unique(mesh.faces)].max(0)
    reach = float((high - low).max()) / 2
    if not np.isfinite(reach) or not reach > 0:
        raise ValueError(f"a mesh that reaches {2 * reach} along its longest side cannot be put into a cube")
    return Mesh(((vertices - (low + high) / 2) * ((1 - 1e-6) / reach)).astype(np.float32), mesh.faces)


def _clumps(leaves: shapes.Mesh, rng: Generator) -> Mesh:
    """Make closed ellipsoids where leaves are."""
    places: NDArray[np.float32] = leaves[0][leaves[1]].mean(1)
    n = min(_CROWN_BLOBS, len(places))
    centers = places[farthest_point_sampling(torch.from_numpy(places), n).numpy()]
    owner = np.linalg.norm(places[:, None] - centers, axis=2).argmin(1)
    meshes = []
    for k in range(n):
        own = places[owner == k]
        radii = np.maximum(1.8 * own.std(0), 0.75 * places.std(0))  # so wide that most touch others
        meshes.append(shapes.ellipsoid(radii * rng.uniform(0.9, 1.1, 3), own.mean(0), 10, 6))
    return Mesh(*shapes.join(meshes))
