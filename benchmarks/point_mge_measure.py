# SPDX-License-Identifier: Apache-2.0
"""What ``benchmarks.point_mge`` measures: fields, new shapes, completions, features, and how long they take."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_object_encoder, load_shapes
from pc_perception.inference.meshing import sample_surface
from pc_perception.inference.shapes import ShapeModel
from pc_perception.io.meshes import Mesh
from pc_perception.models.shape_tokenizer import ShapeTokenizer
from pc_perception.simulation.object_shapes import random_shape
from training.data.fields import FieldDataset, open_fields
from training.evaluate.features import describe_all
from training.evaluate.fields import score_fields, surface_scores
from training.evaluate.generation import copies, nearest_shape, noise, score_generation
from training.evaluate.probes import Probe, run_probe
from training.shape_fields import draw_field

N_CLOUD = 1024
"""Points of a cloud in comparisons of sets; N_TRUE on a surface that a completion is compared with."""
N_TRUE = 10_000
VIEWS = {"depth camera": 64, "LiDAR": 18}
"""Rays along each side of a view that just holds the shape."""


def open_split(split: str, n: int, cache_dir: str) -> FieldDataset:
    """Return ``n`` shapes of a split; the classes take turns."""
    return open_fields("shapes:all", split, n, cache_dir=cache_dir)


def field_figures(model: Path, test: FieldDataset) -> dict[str, Any]:
    """Return how well a model's tokens tell the fields of unseen shapes, and of two samplings of one shape."""
    tokenizer = load_shapes(model, "cpu", "float32").network.tokenizer
    with torch.inference_mode():
        scores = score_fields(lambda x: tokenizer.reconstruct(torch.from_numpy(x)), test, resolution=64)
        same, other = shared_codes(tokenizer, test)
    return {
        "iou": scores.iou,
        "iou_near": scores.iou_near,
        "iou_by_class": scores.iou_by_class,
        "chamfer_l1": scores.chamfer_l1,
        "f_score": scores.f_score,
        "empty": scores.empty,
        "n": len(test),
        "same_shape": same,
        "other_shape": other,
    }


def shared_codes(tokenizer: ShapeTokenizer, data: FieldDataset, n: int = 28) -> tuple[float, float]:
    """Return the share of codes that are equal at nearest centres, of two samplings and of two shapes."""
    drawn = [
        torch.stack([draw_field(data[i], np.random.default_rng([s, i]), 2048, 0).points for i in range(n)])
        for s in range(2)
    ]
    a, b = (tokenizer.tokenize(tokenizer.patches(points)) for points in drawn)
    share = np.empty((n, n))
    for i, j in np.ndindex(n, n):
        nearest = torch.cdist(a.centers[i], b.centers[j]).argmin(1)
        share[i, j] = (a.ids[i] == b.ids[j][nearest]).float().mean()
    same = np.eye(n, dtype=bool)
    return float(share[same].mean()), float(share[~same].mean())


def clouds_of(meshes: list[Mesh], n: int = N_CLOUD) -> NDArray[np.float32]:
    """Return (M, n, 3) points of the meshes that are not empty."""
    return np.stack([sample_surface(m, n, i) for i, m in enumerate(meshes) if len(m.faces)])


def generation_figures(
    model: Path, train: FieldDataset, test: FieldDataset, seed: int, conditional: bool, n_emd: int = 0
) -> dict[str, Any]:
    """Compare as many new shapes as there are test shapes with these; and two trivial sets with them.

    With ``n_emd`` points of each cloud for EMD; 0 leaves it out.
    """
    shapes = load_shapes(model, "cpu")
    names = [test.classes[test.label(i)] if conditional else None for i in range(len(test))]
    start = time.perf_counter()
    meshes = [shapes.generate(name, 1, seed * 10_000 + i)[0] for i, name in enumerate(names)]
    seconds = time.perf_counter() - start
    reference = np.stack([test[i].points[:N_CLOUD] for i in range(len(test))])
    own = [train[i].points[:N_CLOUD] for i in range(len(train))]
    rng = np.random.default_rng(seed)
    sets = {
        "generated": clouds_of(meshes),
        "copies of training shapes": copies(own, len(test), rng),
        "noise": noise(np.stack(own[:50]), len(test), rng),
    }
    n_empty = sum(not len(m.faces) for m in meshes)
    found: dict[str, Any] = {"empty": n_empty, "seconds": seconds, "n": len(test)}
    for name, clouds in sets.items():
        scores = score_generation(clouds, reference, n_emd)
        found[name] = asdict(scores.cd) | ({"emd": asdict(scores.emd)} if scores.emd else {})
    return found


def seen_from(mesh: Mesh, eye: NDArray, n_rays: int, rng: Generator) -> NDArray[np.float32]:
    """Return what rays from ``eye`` hit of a mesh in the cube, (n, 3), a hundredth of the distance noisy at most."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(np.ascontiguousarray(mesh.vertices, np.float32)),
        o3d.core.Tensor(np.ascontiguousarray(mesh.faces, np.uint32)),
    )
    fov = 2 * np.degrees(np.arctan(1.5 / np.linalg.norm(eye)))
    rays = o3d.t.geometry.RaycastingScene.create_rays_pinhole(
        fov_deg=float(fov),
        center=[0, 0, 0],
        eye=eye.tolist(),
        up=[0, 0, 1],
        width_px=n_rays,
        height_px=n_rays,
    )
    distance = scene.cast_rays(rays)["t_hit"].numpy().ravel()
    hit = np.isfinite(distance)
    direction = rays.numpy().reshape(-1, 6)[hit, 3:]
    reach = distance[hit] * (1 + rng.normal(0, 0.001, hit.sum()))
    return (eye + direction * reach[:, None]).astype(np.float32)


def completion_figures(
    model: Path, train: FieldDataset, test: FieldDataset, n_rays: int, seed: int = 0
) -> dict[str, Any]:
    """Complete one view of each test shape: cube found, cube given, class told; and the nearest training shape.

    Chamfer L1 in half edges of the true cube. The nearest training shape is told the true cube.
    """
    shapes = load_shapes(model, "cpu")
    own = np.stack([train[i].points[:N_CLOUD] for i in range(len(train))])
    rows: dict[str, list[float]] = {}
    times = []
    for i in range(len(test)):
        name, _, number = test.name(i).partition(" seed ")
        mesh = random_shape(name, int(number))
        rng = np.random.default_rng([seed, i])
        turn = rng.uniform(0, 2 * np.pi)
        eye = np.array([3 * np.cos(turn), 3 * np.sin(turn), rng.uniform(0.2, 1.5)])
        seen = seen_from(mesh, eye, n_rays, rng)
        if len(seen) < 20:
            continue
        truth = test.surface(i, N_TRUE, 0)
        cloud = PointCloud((seen - eye).astype(np.float32))
        for row, told in (("cube found", {}), ("cube found, class told", {"class_name": name})):
            found = shapes.complete(cloud, seed, **told)
            times.append(found.milliseconds)
            _note(rows, row, Mesh(found.mesh.vertices + eye.astype(np.float32), found.mesh.faces), truth)
        _note(rows, "heading told", _moved(shapes, cloud, eye, seed), truth)
        near = own[nearest_shape(seen, own)]
        rows.setdefault("nearest training shape, cube told", []).append(
            surface_scores(near, truth).chamfer_l1
        )
        rows.setdefault("what was seen", []).append(surface_scores(seen, truth).chamfer_l1)
    return {row: float(np.mean(v)) for row, v in rows.items()} | {
        "n": len(rows["what was seen"]),
        "milliseconds": float(np.median(times)),
    }


def _moved(shapes: ShapeModel, cloud: PointCloud, eye: NDArray, seed: int) -> Mesh:
    mesh = shapes.complete(cloud, seed, yaw=0.0).mesh
    return Mesh(mesh.vertices + eye.astype(np.float32), mesh.faces)


def _note(rows: dict[str, list[float]], row: str, mesh: Mesh, truth: NDArray[np.float32]) -> None:
    points = sample_surface(mesh, N_TRUE, 0) if len(mesh.faces) else np.zeros((1, 3), np.float32)
    rows.setdefault(row, []).append(surface_scores(points, truth).chamfer_l1)


def feature_figures(model: Path, train: FieldDataset, test: FieldDataset) -> dict[str, float]:
    """Return the accuracy of a linear SVM and of nearest neighbours on the extractor's features of unseen shapes."""
    encoder = load_object_encoder(model, "cpu")
    parts = [describe_all(encoder.describe, data, lambda s: s.points[:N_CLOUD]) for data in (train, test)]
    found = {
        kind: run_probe(Probe(kind, strength, standardise=True), *parts).accuracy
        for kind, strength in (("svm", 0.075), ("knn", 5.0))
    }
    return {kind: float(value) for kind, value in found.items()}


def time_figures(model: Path) -> dict[str, float]:
    """Return the seconds of sixteen shapes meshed at 64^3 and of one completion, with the threads torch has."""
    shapes = load_shapes(model, "cpu")
    shapes.generate("chair", 1)
    start = time.perf_counter()
    shapes.generate("chair", 16)
    sixteen = time.perf_counter() - start
    seen = seen_from(
        random_shape("chair", 2_000_000), np.array([2.0, 2.0, 1.0]), 64, np.random.default_rng(0)
    )
    cloud = PointCloud(seen - np.array([2, 2, 1], np.float32))
    shapes.complete(cloud)
    times = [shapes.complete(cloud, seed).milliseconds / 1e3 for seed in range(5)]
    return {"sixteen_s": sixteen, "completion_s": float(np.median(times)), "threads": torch.get_num_threads()}
