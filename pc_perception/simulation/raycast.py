# SPDX-License-Identifier: Apache-2.0
"""Casting rays into a scene: a static tree of triangles built once, a small moving one per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation.materials import Material, MaterialTable
from pc_perception.simulation.scene import PART_IDS, Scene, SceneObject


@dataclass(frozen=True)
class Hits:
    """What R rays met. Misses have distance inf and zeros elsewhere.

    Attributes:
        distance: (R,) float32 metres (in units of the direction's length).
        raw_class, instance: (R,) uint16; part: (R,) uint8.
        normal: (R, 3) float32 unit, turned towards the ray's origin.
        material: (R,) int32 row of ``Raycaster.materials``; row 0 for misses.
        passed: (R,) bool, the ray went through something transparent before.
    """

    distance: NDArray[np.float32]
    raw_class: NDArray[np.uint16]
    instance: NDArray[np.uint16]
    part: NDArray[np.uint8]
    normal: NDArray[np.float32]
    material: NDArray[np.int32]
    passed: NDArray[np.bool_]

    @property
    def hit(self) -> NDArray[np.bool_]:
        """(R,) bool, True where something was met."""
        return np.isfinite(self.distance)


class _Batch:
    """The triangles of many objects and, per triangle, the row of the part that it belongs to."""

    def __init__(self, objects: Sequence[SceneObject], first_row: int) -> None:
        parts = [(o, p) for o in objects for p in o.parts]
        counts = np.array([len(p.vertices) for _, p in parts], dtype=np.int64)
        offsets = np.cumsum(counts) - counts
        n_triangles = np.array([len(p.triangles) for _, p in parts], dtype=np.int64)
        self.vertices = np.concatenate([p.vertices for _, p in parts]).astype(np.float32, copy=False)
        triangles = np.concatenate([p.triangles for _, p in parts])
        self.triangles = (triangles + np.repeat(offsets, n_triangles)[:, None]).astype(np.uint32)
        self.row = np.repeat(np.arange(len(parts), dtype=np.int32) + first_row, n_triangles)
        per_object = [sum(len(p.vertices) for p in o.parts) for o in objects]
        self.ends = np.cumsum(per_object)

    def world(self, objects: Sequence[SceneObject]) -> NDArray[np.float32]:
        """(V, 3) vertices in the world with the objects' present poses."""
        out = np.empty_like(self.vertices)
        start = 0
        for o, end in zip(objects, self.ends.tolist(), strict=True):
            T = o.T_world_object.astype(np.float32)
            np.matmul(self.vertices[start:end], T[:3, :3].T, out=out[start:end])
            out[start:end] += T[:3, 3]
            start = end
        return out


class Raycaster:
    """Casts rays into a scene whose moving objects can be set to any time.

    Args:
        scene: the world.
        time_s: where its moving objects are at first.
    """

    def __init__(self, scene: Scene, time_s: float = 0.0) -> None:
        self.scene = scene
        static = [o for o in scene.objects if not o.is_dynamic]
        self._moving = [o for o in scene.objects if o.is_dynamic]
        rows = [(o, p) for group in (static, self._moving) for o in group for p in o.parts]
        # Row 0 stands for "nothing", so that tables can be indexed without a mask.
        self.materials = MaterialTable.stack([Material(reflectivity=0.0)] + [p.material for _, p in rows])
        self._class = np.array([0] + [p.raw_class or o.raw_class for o, p in rows], dtype=np.uint16)
        self._instance = np.array([0] + [o.instance for o, _ in rows], dtype=np.uint16)
        self._part = np.array([0] + [PART_IDS[p.name] for _, p in rows], dtype=np.uint8)
        self._trees: list[tuple[Any, NDArray[np.int32]]] = []
        n_static = sum(len(o.parts) for o in static)
        if static:
            batch = _Batch(static, 1)
            self._trees.append((_tree(batch.world(static), batch.triangles), batch.row))
        self._n_static_trees = len(self._trees)
        self._batch = _Batch(self._moving, 1 + n_static) if self._moving else None
        self.move_to(time_s)

    def move_to(self, time_s: float) -> None:
        """Put the moving objects where they are at ``time_s`` (rebuilds the small tree)."""
        self.time_s = time_s
        if self._batch is None:
            return
        del self._trees[self._n_static_trees :]
        objects = [o.at(time_s) for o in self._moving]
        self._trees.append((_tree(self._batch.world(objects), self._batch.triangles), self._batch.row))

    def cast(
        self, rays: NDArray[np.float32], rng: np.random.Generator | None = None, n_passes: int = 4
    ) -> Hits:
        """Cast (R, 6) float32 rays (origin, direction) and return what they meet first.

        Args:
            rays: origins in metres, world frame; directions need not be unit vectors.
            rng: where given, a ray passes transparent materials at random, as ``transmission`` says;
                without it every surface stops every ray.
            n_passes: how many transparent surfaces a ray can pass.
        """
        rays = np.ascontiguousarray(rays, dtype=np.float32)
        distance, row, normal = self._nearest(rays)
        passed = np.zeros(len(rays), dtype=bool)
        if rng is not None:
            self._pass_on(rays, distance, row, normal, passed, rng, n_passes)
        towards = np.einsum("ij,ij->i", normal, rays[:, 3:]) > 0
        normal[towards] *= -1
        return Hits(distance, self._class[row], self._instance[row], self._part[row], normal, row, passed)

    def _pass_on(self, rays, distance, row, normal, passed, rng, n_passes) -> None:  # type: ignore[no-untyped-def]
        """Send rays that hit something transparent on behind it, in place."""
        on = np.arange(len(rays))
        for _ in range(n_passes):
            transmission = self.materials.transmission[row[on]]
            on = on[rng.random(len(on), dtype=np.float32) < transmission]
            if not len(on):
                return
            step = distance[on] + 0.01
            again = rays[on]
            again[:, :3] += step[:, None] * again[:, 3:]
            more, row[on], normal[on] = self._nearest(again)
            distance[on] = step + more
            passed[on] = True

    def _nearest(self, rays: NDArray[np.float32]) -> tuple[NDArray, NDArray, NDArray]:
        import open3d as o3d

        tensor = o3d.core.Tensor.from_numpy(rays)
        distance = np.full(len(rays), np.inf, dtype=np.float32)
        row = np.zeros(len(rays), dtype=np.int32)
        normal = np.zeros((len(rays), 3), dtype=np.float32)
        for tree, rows in self._trees:
            answer = tree.cast_rays(tensor)
            t = answer["t_hit"].numpy()
            nearer = t < distance
            if nearer.all():
                distance, row = t.copy(), rows[answer["primitive_ids"].numpy()]
                normal = answer["primitive_normals"].numpy().copy()
                continue
            distance[nearer] = t[nearer]
            row[nearer] = rows[answer["primitive_ids"].numpy()[nearer]]
            normal[nearer] = answer["primitive_normals"].numpy()[nearer]
        return distance, row, normal


def _tree(vertices: NDArray[np.float32], triangles: NDArray[np.uint32]) -> Any:
    import open3d as o3d

    tree = o3d.t.geometry.RaycastingScene(nthreads=0)
    tree.add_triangles(o3d.core.Tensor.from_numpy(vertices), o3d.core.Tensor.from_numpy(triangles))
    return tree
