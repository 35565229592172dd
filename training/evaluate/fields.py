# SPDX-License-Identifier: Apache-2.0
"""How well fields and surfaces are reconstructed: IoU of queries, Chamfer distance, F-score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.inference.meshing import Field, extract_mesh, sample_surface
from pc_perception.io.meshes import Mesh
from pc_perception.models.field_decoder import field_iou
from pc_perception.ops.neighbors import k_nearest
from training.data.fields import FieldDataset
from training.shape_fields import draw_field

F_DISTANCE = 0.02
"""1 % of the cube's side: points count as found that lie within it (as in 3DShape2VecSet)."""
N_SURFACE = 100_000
"""Points on a surface for distances: on one of 20 half sides squared 99.8 % then have another within ``F_DISTANCE``."""

Reconstruct = Callable[[NDArray[np.float32]], Field]
"""(N, 3) float32 points of a shape's surface to the field that is made of them."""


@dataclass(frozen=True)
class SurfaceScores:
    """How far two sampled surfaces are apart.

    Attributes:
        chamfer_l1: half the sum of the two mean distances, in half sides of the cube.
        chamfer_l2: sum of the two mean squared distances.
        f_score: harmonic mean of precision and recall at ``F_DISTANCE``.
        precision, recall: share of the made points near a true one, and of the true ones near a made one.
    """

    chamfer_l1: float
    chamfer_l2: float
    f_score: float
    precision: float
    recall: float


def surface_scores(
    made: NDArray[np.float32], true: NDArray[np.float32], distance: float = F_DISTANCE
) -> SurfaceScores:
    """Compare (N, 3) points of a made surface with (M, 3) of the true one.

    The points must lie much closer than ``distance``, see ``N_SURFACE``. Without any made point the distances are
    infinite and the F-score 0.

    Raises:
        ValueError: there is no true point.
    """
    if not len(true):
        raise ValueError("a surface without points cannot be compared with")
    if not len(made):
        return SurfaceScores(np.inf, np.inf, 0.0, 0.0, 0.0)
    to_true, to_made = nearest_distances(made, true), nearest_distances(true, made)
    precision, recall = float((to_true <= distance).mean()), float((to_made <= distance).mean())
    both = precision + recall
    return SurfaceScores(
        chamfer_l1=float(to_true.mean() + to_made.mean()) / 2,
        chamfer_l2=float(np.square(to_true).mean() + np.square(to_made).mean()),
        f_score=2 * precision * recall / both if both else 0.0,
        precision=precision,
        recall=recall,
    )


def nearest_distances(queries: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float64]:
    """(Q,) distances of (Q, 3) queries from the nearest of (N, 3) points."""
    _, distance = k_nearest(torch.from_numpy(points), 1, torch.from_numpy(queries))
    return distance[:, 0].numpy().astype(np.float64)


@dataclass(frozen=True)
class FieldScores:
    """Means over the shapes of a data set.

    Attributes:
        iou: of the vol queries; iou_near: of those near the surface.
        iou_by_class: of the vol queries, for the classes that are there.
        chamfer_l1, chamfer_l2, f_score: of surfaces, over the shapes with a mesh; NaN where none was asked for.
        empty: shapes that came out as nothing; their F-score counts as 0, their distances are left out.
        ious: (M,) of each shape.
    """

    iou: float
    iou_near: float
    iou_by_class: dict[str, float]
    chamfer_l1: float
    chamfer_l2: float
    f_score: float
    empty: int
    ious: NDArray[np.float64] = field(repr=False)


def score_fields(
    reconstruct: Reconstruct,
    data: FieldDataset,
    n_points: int = 2048,
    seed: int = 0,
    level: float = 0.0,
    resolution: int = 0,
    n_surface: int = N_SURFACE,
    progress: bool = False,
) -> FieldScores:
    """Reconstruct every shape from ``n_points`` of its points and compare with its field and its surface.

    Args:
        level: a place is inside where its logit is at least this.
        resolution: cells of the meshes (``extract_mesh``); 0 leaves surfaces out.
        n_surface: points on each surface; of too few, even a perfect mesh has none near by and a low F-score.

    Raises:
        ValueError: the data holds no shape.
    """
    from tqdm import tqdm

    if not len(data):
        raise ValueError("there is no shape to reconstruct")
    ious, near, surfaces = [], [], []
    for i in tqdm(range(len(data)), desc="reconstructing", unit="shape", disable=not progress):
        sample = data[i]
        rng = np.random.default_rng([seed, i])
        made = reconstruct(draw_field(sample, rng, n_points, n_queries=0).points.numpy())
        for scores, queries, truth in (
            (ious, sample.queries_vol, sample.occupancy_vol),
            (near, sample.queries_near, sample.occupancy_near),
        ):
            logits = torch.as_tensor(made(torch.from_numpy(queries))).cpu() - level
            scores.append(float(field_iou(logits, torch.from_numpy(truth))))
        if resolution:
            mesh = extract_mesh(made, resolution, level)
            surfaces.append(surface_scores(_points(mesh, n_surface, seed), data.surface(i, n_surface, seed)))
    labels = np.array([data.label(i) for i in range(len(data))])
    found = [s for s in surfaces if np.isfinite(s.chamfer_l1)]
    return FieldScores(
        iou=float(np.mean(ious)),
        iou_near=float(np.mean(near)),
        iou_by_class={
            data.classes[c]: float(np.mean(np.array(ious)[labels == c])) for c in np.unique(labels) if c >= 0
        },
        chamfer_l1=float(np.mean([s.chamfer_l1 for s in found])) if found else float("nan"),
        chamfer_l2=float(np.mean([s.chamfer_l2 for s in found])) if found else float("nan"),
        f_score=float(np.mean([s.f_score for s in surfaces])) if surfaces else float("nan"),
        empty=len(surfaces) - len(found),
        ious=np.array(ious),
    )


def _points(mesh: Mesh, n: int, seed: int) -> NDArray[np.float32]:
    return sample_surface(mesh, n, seed) if len(mesh.faces) else np.zeros((0, 3), np.float32)
