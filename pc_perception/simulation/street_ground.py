# SPDX-License-Identifier: Apache-2.0
"""Ground of a street: carriageway, markings, median strip, and the rings of every block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation.materials import Material, draw_material
from pc_perception.simulation.scene import Part, SceneObject
from pc_perception.simulation.shapes import grid_surface
from pc_perception.simulation.street_layout import Block, Street

ROAD, SIDEWALK, KERB, TERRAIN = 1, 2, 3, 4
_PLOT_CLASSES = {
    "urban": ((SIDEWALK, 1.0),),
    "suburban": ((TERRAIN, 0.9), (SIDEWALK, 0.1)),
    "park": ((TERRAIN, 1.0),),
    "commercial": ((ROAD, 0.55), (SIDEWALK, 0.25), (TERRAIN, 0.2)),
    "industrial": ((ROAD, 0.4), (TERRAIN, 0.4), (SIDEWALK, 0.2)),
}
_KINDS = {ROAD: "asphalt", SIDEWALK: "concrete", KERB: "concrete", TERRAIN: "grass"}


def _surface(raw_class: int, vertices: NDArray, triangles: NDArray, material: Material) -> SceneObject:
    part = Part("surface", vertices.astype(np.float32), triangles.astype(np.int32), material)
    low, high = vertices.min(0).astype(float), vertices.max(0).astype(float)
    return SceneObject(raw_class, (part,), size=high - low, center=(low + high) / 2, is_thing=False)


def _world(street: Street, s: NDArray, t: NDArray, lift: NDArray | float) -> NDArray:
    x, y = street.to_world(s, t)
    return np.stack([x, y, street.road_height(s, t) + lift], axis=-1)


def carriageway(street: Street, rng: np.random.Generator) -> SceneObject:
    """Make the road's surface; it also runs on below the blocks, so that side roads need no cutting."""
    s = np.arange(street.s[0], street.s[-1], 3.0)
    inner = np.linspace(-street.half_width - 1, street.half_width + 1, 15)
    outer = np.arange(street.half_width + 4, street.half_extent + 1, 5.0)
    t = np.concatenate([-outer[::-1], inner, outer])
    grid_s, grid_t = np.meshgrid(s, t, indexing="ij")
    grid = _world(street, grid_s, grid_t, 0.0)
    vertices, triangles = grid_surface(grid)
    return _surface(ROAD, vertices, triangles, draw_material("asphalt", rng))


def markings(street: Street, crossings: list[tuple[float, float]], rng: np.random.Generator) -> SceneObject:
    """Make lane lines and zebra crossings, a hair above the road."""
    lines = []
    for side in (-1, 1):
        for k in range(street.n_lanes + 1):
            t = side * (street.median / 2 + k * street.lane_width)
            solid = k in (0, street.n_lanes)
            start = np.arange(street.s[0] + 5, street.s[-1] - 10, 4.0 if solid else 9.0)
            lines.append(
                np.stack(
                    [start, start + (4.0 if solid else 3.5), start * 0 + t - 0.07, start * 0 + t + 0.07], 1
                )
            )
    for s, w in crossings:
        if rng.random() < 0.6:
            across = np.arange(-street.half_width + 0.5, street.half_width - 0.8, 1.0)
            for a in (s - w - 4.5, s + w + 1.5):
                lines.append(np.stack([across * 0 + a, across * 0 + a + 3, across, across + 0.5], 1))
    r = np.concatenate(lines)
    free = np.ones(len(r), bool)
    for s, w in crossings:
        free &= ~((r[:, 0] < s + w) & (r[:, 1] > s - w) & (np.abs(r[:, 2]) < street.half_width))
    r = r[free]
    corners_s, corners_t = r[:, [0, 1, 1, 0]], r[:, [2, 2, 3, 3]]
    vertices = _world(street, corners_s, corners_t, 0.008).reshape(-1, 3)
    triangles = (4 * np.arange(len(r))[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    return _surface(ROAD, vertices, triangles, draw_material("marking", rng))


def median_strip(
    street: Street, crossings: list[tuple[float, float]], rng: np.random.Generator
) -> list[SceneObject]:
    """Make the raised strip between the two directions, open at crossings."""
    if not street.median:
        return []
    edges = [
        float(street.s[0]) + 5,
        *(v for s, w in crossings for v in (s - w - 3, s + w + 3)),
        float(street.s[-1]) - 5,
    ]
    half, kerb = street.median / 2, rng.uniform(0.1, 0.2)
    t = np.array([-half, -half + 0.03, -half + 0.15, 0, half - 0.15, half - 0.03, half])
    lift = np.array([-0.1, kerb, kerb, kerb + rng.uniform(0, 0.2), kerb, kerb, -0.1])
    top = TERRAIN if rng.random() < 0.5 else SIDEWALK
    materials = {KERB: draw_material("concrete", rng), top: draw_material(_KINDS[top], rng)}
    out = []
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if b - a < 6:
            continue
        s = np.linspace(a, b, max(int((b - a) / 4), 2))
        taper = np.minimum(1, 0.3 + 0.7 * np.minimum(s - a, b - s) / 3)[:, None]
        grid_s, grid_t = np.broadcast_to(s[:, None], (len(s), 7)), t * taper
        vertices, triangles = grid_surface(_world(street, grid_s, grid_t, lift))
        column = (triangles.min(1) % 7).repeat(1)
        inner = (column >= 2) & (column <= 3)
        out.append(_surface(KERB, vertices, triangles[~inner], materials[KERB]))
        out.append(_surface(top, vertices, triangles[inner], materials[top]))
    return out


def block_ground(street: Street, block: Block, rng: np.random.Generator) -> list[SceneObject]:
    """Make kerb, verge, sidewalk and plot of a block, with driveways that cross them."""
    verge, walk = 0.15 + block.verge, 0.15 + block.verge + block.sidewalk
    deepest = min(block.s_high - block.s_low, block.t_high - block.t_low) / 2 - 0.2
    insets = [0.0, rng.uniform(0.01, 0.06), 0.15]
    insets += [verge] if block.verge else []
    insets += [walk] if block.sidewalk else []
    insets += [*(walk + d for d in (0.6, 2.0, 4.5, 8, 13, 20, 30, 42) if walk + d < deepest), deepest]
    s, t, is_drive = _rings(block, np.array(insets))
    lift = block.lift(s, t, np.array(insets)[:, None])
    lift[0] = -0.15
    low = np.where(np.array(insets) < verge, 0.025, 0.5 * (0.03 + block.kerb))[:, None]
    near = (np.array(insets) < walk - 0.1)[:, None] & is_drive
    near[0] = False
    lift = np.where(near, np.minimum(lift, low), lift)
    vertices = _world(street, s + block.skew * t, block.side * t, lift)
    n, m = s.shape
    plot = _pick(rng, block.style)
    quads = np.empty((n - 1, m), np.int64)
    between = is_drive & np.roll(is_drive, -1)
    verge_class = TERRAIN if rng.random() < 0.75 or not block.sidewalk else SIDEWALK
    for i, inset in enumerate(insets[:-1]):
        if inset < 0.1:
            quads[i] = KERB if block.sidewalk else TERRAIN
        elif inset < verge - 0.01:
            quads[i] = np.where(between, SIDEWALK if block.sidewalk else ROAD, verge_class)
        elif inset < walk - 0.01:
            quads[i] = SIDEWALK
        else:
            quads[i] = np.where(between & (inset < walk + 12), ROAD, plot)
    return _split(vertices, quads, block.side, rng)


def _split(vertices: NDArray, quads: NDArray, side: int, rng: np.random.Generator) -> list[SceneObject]:
    """Make one object per ground class from rings (N, M, 3) and the classes (N-1, M) between them."""
    n, m = vertices.shape[:2]
    i, j = np.mgrid[0 : n - 1, 0:m]
    a, b = i * m + j, i * m + (j + 1) % m
    triangles = np.stack([np.stack([a, b, b + m], -1), np.stack([a, b + m, a + m], -1)], 2)
    if side < 0:
        triangles = triangles[..., ::-1]
    out = []
    for raw_class in np.unique(quads).tolist():
        kind = _KINDS[raw_class]
        if raw_class == TERRAIN and rng.random() < 0.25:
            kind = "soil"
        if raw_class == SIDEWALK and rng.random() < 0.1:
            kind = "asphalt"
        picked = triangles[quads == raw_class].reshape(-1, 3)
        used, index = np.unique(picked, return_inverse=True)
        flat = vertices.reshape(-1, 3)[used]
        out.append(_surface(raw_class, flat, index.reshape(-1, 3), draw_material(kind, rng)))
    return out


def _pick(rng: np.random.Generator, style: str) -> int:
    classes = _PLOT_CLASSES[style]
    return int(rng.choice([c for c, _ in classes], p=[p for _, p in classes]))


def _rings(block: Block, insets: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """(N, M) s and |t| of the nested rings, and which of their points lie on a driveway."""
    step = 3.0
    front = np.arange(block.s_low + block.radius, block.s_high - block.radius, step)
    cuts = [c + f * w / 2 for c, w in block.driveways for f in (-1.15, -1, 1, 1.15)]
    front = np.sort(np.concatenate([front, cuts]))
    side = np.arange(block.t_low + block.radius, block.t_high - block.radius, 2 * step)
    radius = np.maximum(block.radius - insets, 0.02)[:, None]
    d = insets[:, None]
    s0, s1 = block.s_low + d + radius, block.s_high - d - radius
    t0, t1 = block.t_low + d + radius, block.t_high - d - radius
    angle = np.linspace(0, np.pi / 2, 6)[None]
    c, n = radius * np.cos(angle), radius * np.sin(angle)
    s = [np.clip(front, s0, s1), s1 + n, np.broadcast_to(s1 + radius, (len(d), len(side))), s1 + c]
    t = [np.broadcast_to(t0 - radius, (len(d), len(front))), t0 - c, np.clip(side, t0, t1), t1 + n]
    s += [np.clip(front[::-1], s0, s1), s0 - n, np.broadcast_to(s0 - radius, (len(d), len(side))), s0 - c]
    t += [np.broadcast_to(t1 + radius, (len(d), len(front))), t1 + c, np.clip(side[::-1], t0, t1), t0 - n]
    drive = np.zeros(sum(part.shape[1] for part in s), bool)
    for center, width in block.driveways:
        drive[: len(front)] |= np.abs(front - center) < width / 2 + 0.01
    return np.concatenate(s, 1), np.concatenate(t, 1), drive[None]
