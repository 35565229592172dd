# SPDX-License-Identifier: Apache-2.0
"""Random changes of labelled clouds that imitate other sensors, places and light.

Every function takes a seeded ``numpy.random.Generator`` and keeps fields and points together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud


@dataclass(frozen=True)
class Augmentation:
    """How strongly clouds are changed; the defaults suit a spinning LiDAR, ``for_rooms`` an RGB-D scan.

    Attributes:
        max_points: a crop of about this many points is trained on, 0 for the whole cloud. On a CPU many
            small crops of different scenes teach more per minute than few whole ones.
        sector: chance that a crop is a sector of azimuth (all ranges), else a disc around a point.
        whole: chance that a cloud is only thinned to ``max_points``, not cropped.
        keep: lowest share of points (or rings) that imitating a sparser sensor leaves.
        thin: chance of that.
        flip: chance to mirror left and right.
        scale: factor drawn from 1 - scale .. 1 + scale.
        tilt_deg: standard deviation of roll and pitch.
        jitter_m: standard deviation of each coordinate.
        full_turn: rotate about z by any angle.
        drop_intensity, drop_color: chance that the field is missing.
        intensity_gamma: exponents are drawn from exp(+-this).
        color: strength of brightness, contrast and cast, 0..1.
        bend_m: strongest slow bending of a cloud, as drift and fusion leave it.
        gaps: chance that parts are missing, as a hasty scan leaves them.
    """

    max_points: int = 14_000
    sector: float = 0.5
    whole: float = 0.1
    keep: float = 0.25
    thin: float = 0.5
    flip: float = 0.5
    scale: float = 0.1
    tilt_deg: float = 1.0
    jitter_m: float = 0.01
    full_turn: bool = True
    drop_intensity: float = 0.2
    drop_color: float = 0.2
    intensity_gamma: float = 0.5
    color: float = 0.3
    bend_m: float = 0.0
    gaps: float = 0.0

    @classmethod
    def for_rooms(cls, **changes) -> Augmentation:  # type: ignore[no-untyped-def]
        """Return the defaults for scans of rooms, with ``changes``."""
        base = cls(max_points=40_000, sector=0.0, whole=0.2, keep=0.4, thin=0.3, tilt_deg=1.5, jitter_m=0.004)
        return replace(base, **changes)

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        for name in (
            "sector",
            "whole",
            "keep",
            "thin",
            "flip",
            "drop_intensity",
            "drop_color",
            "color",
            "gaps",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation.{name} must lie in 0 .. 1, got {getattr(self, name)}")
        if (
            not 0 <= self.scale < 1
            or min(self.tilt_deg, self.jitter_m, self.intensity_gamma, self.bend_m) < 0
        ):
            raise ValueError(
                "augmentation.scale must lie in 0 .. 1; tilt, jitter, gamma and bend must not be negative"
            )

    def __call__(self, cloud: PointCloud, rng: Generator) -> PointCloud:
        """Return a changed copy of ``cloud``; non-finite points are left out."""
        cloud = thin(cloud.select(cloud.finite()), self, rng)
        cloud = leave_gaps(crop(cloud, self, rng), self, rng)
        if self.bend_m:
            cloud = replace(cloud, xyz=bend(cloud.xyz, rng.uniform(0, self.bend_m), rng))
        return move_and_recolor(cloud, self, rng)


def move_and_recolor(cloud: PointCloud, how: Augmentation, rng: Generator) -> PointCloud:
    """Change places and colours of all points, and leave none out."""
    return recolor(replace(cloud, xyz=move(cloud.xyz, how, rng)), how, rng)


def thin(cloud: PointCloud, how: Augmentation, rng: Generator) -> PointCloud:
    """Drop rings, where the cloud names them, else points: a sparser sensor."""
    if rng.random() >= how.thin:
        return cloud
    ring = cloud.fields.get("ring")
    if ring is not None and rng.random() < 0.6:
        step = int(rng.integers(2, max(2, round(1 / max(how.keep, 0.05))) + 1))
        kept = (ring.astype(np.int64) + int(rng.integers(step))) % step == 0
        if kept.sum() >= 2000:
            return cloud.select(kept)
    return cloud.select(rng.random(len(cloud)) < rng.uniform(how.keep, 1.0))


def crop(cloud: PointCloud, how: Augmentation, rng: Generator) -> PointCloud:
    """Cut about ``how.max_points`` points out of the cloud, without moving the origin."""
    n, wanted = len(cloud), how.max_points
    if not wanted or n <= wanted:
        return cloud
    if rng.random() < how.whole:
        return cloud.select(np.sort(rng.choice(n, wanted, replace=False)))
    if rng.random() < how.sector:
        turn = np.arctan2(cloud.xyz[:, 1], cloud.xyz[:, 0]) - rng.uniform(-np.pi, np.pi)
        key = np.mod(turn, 2 * np.pi)
    else:
        center = cloud.xyz[rng.integers(n), :2]
        key = np.square(cloud.xyz[:, :2] - center).sum(1)
    return cloud.select(np.sort(np.argpartition(key, wanted)[:wanted]))


def leave_gaps(cloud: PointCloud, how: Augmentation, rng: Generator) -> PointCloud:
    """Drop balls around a few points, and often the top on one side of a line: scans miss much of a ceiling."""
    if not len(cloud) or rng.random() >= how.gaps:
        return cloud
    kept = np.ones(len(cloud), bool)
    for center in cloud.xyz[rng.integers(len(cloud), size=int(rng.integers(0, 7)))]:
        kept &= np.square(cloud.xyz - center).sum(1) > rng.uniform(0.1, 0.9) ** 2
    if rng.random() < 0.5:
        across = cloud.xyz[:, :2] @ np.array([np.cos(a := rng.uniform(0, 2 * np.pi)), np.sin(a)], np.float32)
        low = cloud.xyz[:, 2] < cloud.xyz[:, 2].max() - rng.uniform(0.05, 0.8)
        kept &= low | (across < across[rng.integers(len(across))])
    return cloud.select(kept) if kept.sum() >= len(cloud) // 4 else cloud


def bend(xyz: NDArray[np.float32], strength_m: float, rng: Generator) -> NDArray[np.float32]:
    """Displace (N, 3) points by waves of 0.4 to 3 m, ``strength_m`` (standard deviation) each way in all."""
    out = xyz.copy()
    for wave_m in (0.4, 0.8, 1.6, 3.0):
        k = rng.normal(size=3)
        k *= 2 * np.pi / (wave_m * np.linalg.norm(k))
        wave = np.sin(xyz @ k.astype(np.float32) + np.float32(rng.uniform(0, 2 * np.pi)))
        # Short waves are lower, or they would fold surfaces; the four variances add up to the square asked for.
        share = strength_m * np.sqrt(2 * wave_m / 5.8)
        out += wave[:, None] * rng.normal(0, share, 3).astype(np.float32)
    return out


def move(xyz: NDArray[np.float32], how: Augmentation, rng: Generator) -> NDArray[np.float32]:
    """Rotate, mirror, scale, tilt and jitter (N, 3) points about the origin."""
    yaw = rng.uniform(-np.pi, np.pi) if how.full_turn else 0.0
    roll, pitch = np.deg2rad(rng.normal(0, how.tilt_deg, 2))
    c, s = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    R = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
    R = R @ np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    R = R @ np.array([[1, 0, 0], [0, c[2], -s[2]], [0, s[2], c[2]]])
    if rng.random() < how.flip:
        R[:, 1] *= -1
    R *= rng.uniform(1 - how.scale, 1 + how.scale)
    moved = xyz @ R.T.astype(np.float32)
    if how.jitter_m:
        moved += np.float32(how.jitter_m) * rng.standard_normal(moved.shape, dtype=np.float32)
    return moved


def recolor(cloud: PointCloud, how: Augmentation, rng: Generator) -> PointCloud:
    """Change or drop intensity and colour: other sensors, other light."""
    fields = dict(cloud.fields)
    if "intensity" in fields:
        if rng.random() < how.drop_intensity:
            del fields["intensity"]
        else:
            fields["intensity"] = _respond(fields["intensity"], how, rng)
    if "rgb" in fields:
        if rng.random() < how.drop_color:
            del fields["rgb"]
        elif how.color:
            fields["rgb"] = _relight(fields["rgb"], how.color, rng)
    return replace(cloud, fields=fields)


def _respond(intensity: NDArray, how: Augmentation, rng: Generator) -> NDArray[np.float32]:
    """Another sensor's response: exponent and noise; the scale stays, as some contracts depend on it."""
    values = np.maximum(np.nan_to_num(np.asarray(intensity, np.float32)), 0)
    top = max(float(values.max(initial=0.0)), 1e-6)
    gamma = np.exp(rng.uniform(-how.intensity_gamma, how.intensity_gamma))
    noise = 1 + 0.1 * rng.standard_normal(len(values), dtype=np.float32)
    return np.maximum(top * (values / top) ** np.float32(gamma) * noise, 0).astype(np.float32)


def _relight(rgb: NDArray[np.uint8], strength: float, rng: Generator) -> NDArray[np.uint8]:
    values = rgb.astype(np.float32) / 255
    gain = rng.uniform(1 - strength, 1 + strength) * rng.uniform(1 - strength / 3, 1 + strength / 3, 3)
    contrast = rng.uniform(1 - strength, 1 + strength)
    if not len(values):
        return rgb
    mean = values.mean(0, keepdims=True)
    values = ((values - mean) * np.float32(contrast) + mean) * gain.astype(np.float32)
    if rng.random() < 0.1 * strength / 0.3:
        values[:] = values.mean(1, keepdims=True)
    values += 0.03 * strength * rng.standard_normal(values.shape, dtype=np.float32)
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)
