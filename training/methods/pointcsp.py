# SPDX-License-Identifier: Apache-2.0
"""PointCSP, the part that works on single scenes: teacher and student on two views of one cloud.

Source: "PointCSP: Cross-Sample Semantic Propagation and Stability Preservation", arXiv 2605.01759; the
teacher-student frame is DINO's, arXiv 2104.14294. What is here: DINO's loss between features of the
same places in two views (its equations 1 and 4, per voxel instead of per image), the teacher as moving average, and a
geometric loss. What is not: cross-sample propagation (CSP), its distillation (SPD), local views. Every
sequence is reset at every scene. The paper does not say on which features its losses act; voxel
features are chosen because segmentation needs them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import Prepared
from pc_perception.models.pyramid import Level
from pc_perception.models.scene_encoder import SceneEncoder
from pc_perception.models.sparse_unet import SparseUNet
from pc_perception.ops.voxelize import voxelize

from .method import Task
from .model import TrainingModel
from .segmentation import MIN_POINTS, standing
from .views import PairBatch, PairSample, collate_pairs, matched_voxels, nearest

MAX_DRAWS = 8
"""Views that hardly overlap after thinning are drawn anew this often."""


@dataclass(frozen=True)
class PointCsp:
    """Settings of the pre-training.

    Attributes:
        coverage: each view holds this share of a region's points, (low, high); above 0.5, so that two
            views always overlap.
        max_pairs: voxel pairs of a scene that enter the loss.
        n_prototypes: outputs of the projection head.
        student_temperature, teacher_temperature: of the softmax; the teacher's is the sharper one.
        center_momentum: of the running mean of teacher outputs that is subtracted from them.
        teacher_momentum: of the teacher's weights at the start; goes to 1 on a cosine.
        geo: weight of the geometric loss.
    """

    coverage: tuple[float, ...] = (0.55, 0.8)
    max_pairs: int = 2048
    n_prototypes: int = 128
    student_temperature: float = 0.1
    teacher_temperature: float = 0.03
    center_momentum: float = 0.9
    teacher_momentum: float = 0.99
    geo: float = 0.1
    task: ClassVar[str] = "encoder"

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if len(self.coverage) != 2 or not 0.5 < self.coverage[0] <= self.coverage[1] <= 1:
            raise ValueError(
                f"method.coverage must be two shares above 0.5, low and high; got {self.coverage}"
            )
        if not 0 < self.teacher_temperature <= self.student_temperature:
            raise ValueError("method.teacher_temperature must be positive and not above student_temperature")

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> PairSample:
        """Cut two overlapping views out of a cloud, change each by itself and match their voxels."""
        cloud = standing(cloud, task)
        cloud = cloud.select(cloud.finite())
        if len(cloud) < MIN_POINTS:
            raise ValueError(f"only {len(cloud)} finite points, at least {MIN_POINTS} are needed")
        n = task.augmentation.max_points or len(cloud)
        region = nearest(cloud, min(n, len(cloud)), rng)
        # Places, not points, are matched: a sparser sensor's rings share no point with the others.
        place = voxelize(torch.from_numpy(region.xyz), task.contract.grid_m).inverse
        region = region.with_fields(place=place.numpy())
        for _ in range(MAX_DRAWS):
            views, pairs = self._views(region, rng, task)
            if len(pairs) >= MIN_POINTS:
                return PairSample(views, torch.from_numpy(pairs))
        raise ValueError(f"two views share only {len(pairs)} voxels, at least {MIN_POINTS} are needed")

    def _views(
        self, region: PointCloud, rng: Generator, task: Task
    ) -> tuple[tuple[Prepared, Prepared], NDArray[np.int64]]:
        """Draw two views of a region and match them."""
        change, parts, views = replace(task.augmentation, max_points=0), [], []
        for _ in range(2):
            n = int(len(region) * rng.uniform(self.coverage[0], self.coverage[1]))
            parts.append(change(nearest(region, n, rng), rng))
            views.append(task.contract.prepare(parts[-1], task.n_levels))
        places = [np.asarray(part.fields["place"]) for part in parts]
        pairs = matched_voxels(places, [v.inverse.numpy() for v in views], rng, self.max_pairs)
        return (views[0], views[1]), pairs

    def collate(self, samples: Sequence[PairSample]) -> PairBatch:
        """Lay the scenes' views behind each other."""
        return collate_pairs(samples)

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PointCspModel:
        """Return student and teacher with the same random weights."""
        return PointCspModel(task.build_encoder(), self)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the teacher's encoder, under the names that segmenters use."""
        assert isinstance(model, PointCspModel)
        return nn.ModuleDict({"encoder": model.teacher["encoder"]})


class ProjectionHead(nn.Module):
    """MLP to the unit sphere, then cosine similarity to prototypes."""

    def __init__(self, width: int, n_prototypes: int, hidden: int = 128, bottleneck: int = 64) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.randn(n_prototypes, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C) to (P, n_prototypes) similarities in -1 .. 1."""
        return functional.normalize(self.mlp(x), dim=1) @ functional.normalize(self.prototypes, dim=1).T


def dino_loss(student: Tensor, teacher: Tensor, center: Tensor, settings: PointCsp) -> Tensor:
    """Cross-entropy of the student against the centred and sharpened teacher (DINO, equations 1 and 4).

    Args:
        student, teacher: (P, K) similarities of the same voxels, the teacher's without gradient.
        center: (K,) running mean of teacher outputs.
    """
    target = ((teacher - center) / settings.teacher_temperature).softmax(1)
    return -(target * (student / settings.student_temperature).log_softmax(1)).sum(1).mean()


@torch.no_grad()
def assignment_information(teacher: Tensor, center: Tensor, settings: PointCsp) -> Tensor:
    """Return how much a voxel's assignment tells, in nats: entropy of the mean minus mean entropy.

    0 is collapse of either kind (one prototype takes all, or all voxels are assigned uniformly).
    """
    target = ((teacher - center) / settings.teacher_temperature).softmax(1)
    mean = target.mean(0)
    each = -(target * target.clamp_min(1e-12).log()).sum(1).mean()
    return -(mean * mean.clamp_min(1e-12).log()).sum() - each


def geometric_loss(x: Tensor, level: Level, decode: Callable[[Tensor], Tensor], choice: Tensor) -> Tensor:
    """Recover where a random neighbour lies from the difference of features (PointCSP's L_geo).

    Targets are relative, in voxel edges: absolute places cannot be known from what the network sees.

    Args:
        x: (M, C) features of the level's voxels.
        decode: (M, C) differences to (M, 3) offsets.
        choice: (M,) in 0 .. 1, which entry of each voxel's neighbour list.

    Returns:
        Scalar: mean squared error.
    """
    starts, lengths = level.neighbors.starts[:-1], level.neighbors.starts.diff()
    other = level.neighbors.index[starts + (choice * lengths).long().clamp(max=lengths - 1)]
    offset = (level.xyz[other] - level.xyz) / level.edge
    return functional.mse_loss(decode(x[other] - x), offset)


class PointCspModel(TrainingModel):
    """Student, teacher and the losses between them."""

    center: Tensor

    def __init__(self, encoder: SceneEncoder | SparseUNet, settings: PointCsp) -> None:
        super().__init__()
        self.settings = settings
        head = ProjectionHead(encoder.width, settings.n_prototypes)
        self.student = nn.ModuleDict({"encoder": encoder, "head": head})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.decoder = nn.Sequential(nn.Linear(encoder.width, 32), nn.GELU(), nn.Linear(32, 3))
        self.register_buffer("center", torch.zeros(settings.n_prototypes))

    def after_init(self) -> None:
        """Let the student begin where the teacher, which a model file is loaded into, stands."""
        self.student["encoder"].load_state_dict(self.teacher["encoder"].state_dict())

    def losses(self, batch: PairBatch) -> dict[str, Tensor]:
        """Return DINO's loss in both directions, the geometric loss, and figures that show collapse."""
        x = self.student["encoder"](batch.features, batch.pyramid)
        a, b = batch.pairs.T
        student = [self.student["head"](x[rows]) for rows in (a, b)]
        with torch.no_grad():
            y = self.teacher["encoder"](batch.features, batch.pyramid)
            teacher = [self.teacher["head"](y[rows]) for rows in (b, a)]
        dino = [dino_loss(s, t, self.center, self.settings) for s, t in zip(student, teacher, strict=True)]
        level = batch.pyramid.levels[0]
        choice = torch.rand(len(x), device=x.device)
        geometric = geometric_loss(x, level, self.decoder, choice)
        information = assignment_information(torch.cat(teacher), self.center, self.settings)
        if self.training:
            keep = self.settings.center_momentum
            self.center.lerp_(torch.cat(teacher).mean(0), 1 - keep)
        return {
            "loss_dino": (dino[0] + dino[1]) / 2,
            "loss_geo": self.settings.geo * geometric,
            "information": information,
        }

    @torch.no_grad()
    def after_step(self, fraction: float) -> None:
        """Move the teacher towards the student."""
        keep = 1 - (1 - self.settings.teacher_momentum) * (math.cos(math.pi * fraction) + 1) / 2
        for own, live in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            own.lerp_(live, 1 - keep)
