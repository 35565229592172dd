# SPDX-License-Identifier: Apache-2.0
"""Analytic objects of random size, turn and noise, and settings of short runs on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation_z
from pc_perception.inference.object_contract import ObjectContract
from pc_perception.io.files import write_cloud
from training.methods.classification import Classification
from training.objects import ObjectAugmentation, ObjectBatch, ObjectSample, collate_objects
from training.settings import RunSettings

SMALL = {"n_patches": 16, "patch_size": 8, "width": 24, "depth": 2, "heads": 2, "embed": (8, 12, 16)}
STEADY = {**SMALL, "drop_path": 0.0}


def sphere(rng: Generator, n: int) -> NDArray:
    v = rng.normal(size=(n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def cube(rng: Generator, n: int) -> NDArray:
    xyz = rng.uniform(-1, 1, (n, 3))
    xyz[np.arange(n), rng.integers(3, size=n)] = rng.choice([-1, 1], n)
    return xyz


def cylinder(rng: Generator, n: int) -> NDArray:
    turn = rng.uniform(0, 2 * np.pi, n)
    return np.c_[0.4 * np.cos(turn), 0.4 * np.sin(turn), rng.uniform(-1, 1, n)]


def torus(rng: Generator, n: int) -> NDArray:
    a, b = rng.uniform(0, 2 * np.pi, (2, n))
    r = 1 + 0.3 * np.cos(b)
    return np.c_[r * np.cos(a), r * np.sin(a), 0.3 * np.sin(b)]


def cone(rng: Generator, n: int) -> NDArray:
    turn, r = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.uniform(0, 1, n))
    return np.c_[r * np.cos(turn), r * np.sin(turn), 2 * (1 - r)]


SHAPES: tuple[Callable[[Generator, int], NDArray], ...] = (sphere, cube, cylinder, torus, cone)


def make_object(kind: int, seed: int, n: int = 256) -> PointCloud:
    """One of ``SHAPES``, labelled with its number, somewhere in metres."""
    rng = np.random.default_rng([seed, kind])
    xyz = SHAPES[kind](rng, n) * rng.uniform(0.9, 1.1, 3) + rng.normal(0, 0.01, (n, 3))
    xyz = rng.uniform(0.5, 3) * xyz @ rotation_z(rng.uniform(0, 6)) + rng.uniform(-20, 20, 3)
    return PointCloud(xyz.astype(np.float32), {"label": np.full(n, kind, np.uint16)}, "lidar")


def write_objects(folder: Path, seeds: Sequence[int], n: int = 256) -> Path:
    """Write every shape with every seed as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for kind in range(len(SHAPES)):
            write_cloud(folder / f"{SHAPES[kind].__name__}_{seed}.npz", make_object(kind, seed, n))
    return folder


def batch_of(n: int = 8, n_points: int = 128, seed: int = 0) -> ObjectBatch:
    """``n`` objects of equal size on the unit sphere."""
    samples = []
    for i in range(n):
        points = ObjectContract(n_points).prepare(make_object(i % len(SHAPES), seed + i))
        assert points is not None
        samples.append(ObjectSample(points, i % len(SHAPES)))
    return collate_objects(samples)


def fit(model, batch: ObjectBatch, n_steps: int, lr: float = 3e-3) -> list[float]:  # type: ignore[no-untyped-def]
    """Minimise the losses of one batch; return their sum at every step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    found = []
    model.train()
    for step in range(n_steps):
        loss = sum(v for k, v in model.losses(batch).items() if k.startswith("loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_step((step + 1) / n_steps)
        found.append(float(loss.detach()))
    return found


def object_run(folder: Path, work_dir: Path, **changes: object) -> RunSettings:
    """Settings of a short run on a folder of objects; arguments replace defaults."""
    values: dict = {
        "method": Classification(),
        "contract": ObjectContract(128),
        "label_set": "street8",
        "encoder": SMALL,
        "augmentation": ObjectAugmentation(turn=True, shift=0.05, scale=(0.9, 1.1)),
        "data": f"folder:{folder}",
        "max_steps": 6,
        "batch_size": 8,
        "work_dir": str(work_dir),
        "survey": 8,
        "threads": 1,
        "progress": False,
    }
    return RunSettings(**(values | changes)).validate()
