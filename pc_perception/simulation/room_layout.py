# SPDX-License-Identifier: Apache-2.0
"""Where furniture stands: a grid of free floor, and placing along walls, freely, and on tops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception import geometry
from pc_perception.simulation.furniture_assembly import Assembly
from pc_perception.simulation.room_shell import Wall
from pc_perception.simulation.scene import SceneObject

Builder = Callable[[Generator], list[Assembly]]
_CELL = 0.05
_OUTSIDE = -1


class Layout:
    """The objects of a room so far and the floor that is still free.

    Attributes:
        objects: what stands in the room.
        tops: (pose of the piece, surface) of all table tops and the like, for things to stand on.
    """

    def __init__(self, plan: NDArray, walls: Sequence[Wall], rng: Generator) -> None:
        self.plan, self.walls, self.rng = plan, walls, rng
        self.objects: list[SceneObject] = []
        self.tops: list[tuple[NDArray, object]] = []
        self._low = plan.min(0)
        shape = np.ceil((plan.max(0) - self._low) / _CELL).astype(int)
        centers = [self._low[k] + (np.arange(shape[k]) + 0.5) * _CELL for k in range(2)]
        free = inside(plan, *np.meshgrid(*centers, indexing="ij"))
        self._grid = np.where(free, 0, _OUTSIDE).astype(np.int32)
        self._next = 1

    def _window(self, box: tuple[NDArray, NDArray]) -> tuple[slice, slice] | None:
        low = np.floor((box[0] - self._low) / _CELL + 0.3).astype(int)
        high = np.ceil((box[1] - self._low) / _CELL - 0.3).astype(int)
        if (low < 0).any() or (high > self._grid.shape).any():
            return None
        return slice(low[0], max(high[0], low[0] + 1)), slice(low[1], max(high[1], low[1] + 1))

    def claim(self, box: tuple[NDArray, NDArray], allow: int = 0) -> int:
        """Mark a floor rectangle (low, high) as used if it is free or belongs to ``allow``.

        Returns:
            The claim's id, 0 where the rectangle was not free.
        """
        window = self._window(box)
        if window is None:
            return 0
        cells = self._grid[window]
        if not np.isin(cells, (0, allow) if allow else (0,)).all():
            return 0
        cells[cells == 0] = self._next
        self._next += 1
        return self._next - 1

    def add(self, pieces: list[Assembly], T: NDArray) -> None:
        """Put finished assemblies with a common frame into the room."""
        for piece in pieces:
            self.objects.append(piece.make(T))
            for top in piece.surfaces:
                self.tops.append((T @ geometry.pose(piece.offset), top))

    def along_wall(self, build: Builder, tries: int = 24) -> tuple[NDArray, int, NDArray] | None:
        """Stand a piece with its back to some wall.

        Returns:
            (pose, claim, size of the footprint), or None where no place was found.
        """
        rng = self.rng
        pieces = build(rng)
        low, high = footprint(pieces)
        gap = rng.exponential(0.03) + 0.005
        lengths = np.array([w.length for w in self.walls])
        for _ in range(tries):
            wall = self.walls[int(rng.choice(len(self.walls), p=lengths / lengths.sum()))]
            if wall.length < high[1] - low[1] + 0.05:
                continue
            y = rng.uniform(-low[1] + 0.02, wall.length - high[1] - 0.02)
            if rng.random() < 0.3:  # into the corner
                y = rng.choice([-low[1] + 0.02, wall.length - high[1] - 0.02])
            T = wall.at(y, 0.0, -low[0] + gap) @ geometry.pose(R=geometry.rotation_z(rng.normal(0, 0.015)))
            claim = self.claim(_box_of(T, low, high))
            if not claim:
                continue
            top = max(p.make(np.eye(4)).size[2] for p in pieces[:1])
            wall.taken.append((y + low[1], y + high[1], 0.0, top))
            self.add(pieces, T)
            return T, claim, high - low
        return None

    def free(
        self, build: Builder, tries: int = 24, yaw: float | None = None
    ) -> tuple[NDArray, int, NDArray] | None:
        """Stand a piece anywhere on the floor, mostly square to the walls; see ``along_wall``."""
        rng = self.rng
        pieces = build(rng)
        low, high = footprint(pieces)
        for _ in range(tries):
            at = rng.uniform(self._low, self.plan.max(0))
            turn = (
                rng.integers(4) * np.pi / 2 + rng.normal(0, 0.06)
                if rng.random() < 0.8
                else rng.uniform(0, 6.3)
            )
            T = geometry.pose((*at, 0.0), geometry.rotation_z(turn if yaw is None else yaw))
            claim = self.claim(_box_of(T, low, high))
            if claim:
                self.add(pieces, T)
                return T, claim, high - low
        return None

    def beside(
        self, T_piece: NDArray, claim: int, offset: tuple[float, float], yaw: float, build: Builder
    ) -> bool:
        """Stand a piece at an offset in another's frame, perhaps reaching under it (a chair at a desk)."""
        pieces = build(self.rng)
        T = T_piece @ geometry.pose((*offset, 0.0), geometry.rotation_z(yaw))
        low, high = footprint(pieces)
        if not self.claim(_box_of(T, low, high), allow=claim):
            return False
        self.add(pieces, T)
        return True

    def on_tops(
        self,
        choices: Sequence[tuple[Builder, float]],
        desk_choices: Sequence[tuple[Builder, float]],
        mess: float,
    ) -> None:
        """Scatter things over all tops; ``mess`` is the mean number on a square metre."""
        rng = self.rng
        for T, top in list(self.tops):
            area = top.depth * top.width  # type: ignore[attr-defined]
            n = min(int(rng.poisson(mess * (area + 0.1))), 14)
            table = desk_choices if top.desk else choices  # type: ignore[attr-defined]
            self._scatter(T, top, table, n)

    def _scatter(self, T: NDArray, top, choices, n: int) -> None:  # type: ignore[no-untyped-def]
        rng = self.rng
        weights = np.array([w for _, w in choices])
        placed: list[tuple[float, float, float]] = []
        for _ in range(n):
            pieces = choices[int(rng.choice(len(choices), p=weights / weights.sum()))][0](rng)
            low, high = footprint(pieces)
            r = float(np.hypot(*(high - low)) / 2)
            margin_x, margin_y = max(top.depth / 2 - 0.7 * r, 0.0), max(top.width / 2 - 0.7 * r, 0.0)
            x, y = rng.uniform(-margin_x, margin_x), rng.uniform(-margin_y, margin_y)
            if r > 0.8 * min(top.depth, top.width) or any(
                np.hypot(x - a, y - b) < 0.7 * (r + c) for a, b, c in placed
            ):
                continue
            placed.append((x, y, r))
            yaw = rng.normal(0, 0.3) if rng.random() < 0.6 else rng.uniform(0, 6.3)
            self.add(pieces, T @ geometry.pose((top.x + x, top.y + y, top.z), geometry.rotation_z(yaw)))


def footprint(pieces: Sequence[Assembly]) -> tuple[NDArray, NDArray]:
    """Return the (2,) low and high corners of the floor rectangle under the first piece."""
    vertices = np.concatenate([v for meshes in pieces[0].parts.values() for v, _ in meshes])
    return vertices[:, :2].min(0) + pieces[0].offset[:2], vertices[:, :2].max(0) + pieces[0].offset[:2]


def _box_of(T: NDArray, low: NDArray, high: NDArray) -> tuple[NDArray, NDArray]:
    corners = np.array([[x, y, 0.0] for x in (low[0], high[0]) for y in (low[1], high[1])])
    world = geometry.transform(T, corners)[:, :2]
    return world.min(0), world.max(0)


def inside(plan: NDArray, x: NDArray, y: NDArray) -> NDArray[np.bool_]:
    """Say which points lie inside an axis-aligned outline (even-odd rule)."""
    odd = np.zeros(x.shape, dtype=bool)
    for p, q in zip(plan, np.roll(plan, -1, axis=0), strict=True):
        if abs(p[0] - q[0]) < 1e-9:
            odd ^= (y > min(p[1], q[1])) & (y <= max(p[1], q[1])) & (x < p[0])
    return odd
