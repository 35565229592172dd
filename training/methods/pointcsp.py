# SPDX-License-Identifier: Apache-2.0
"""PointCSP's pre-training: a teacher and a student whose sequence blocks walk on from scene to scene.

Source: "PointCSP: Cross-Sample Semantic Propagation and Stability Preservation", arXiv 2605.01759:
L_pretrain = L_CSC + lambda_geo L_geo, the teacher a moving average of the student and fed with the global views alone
(``views.py``, ``cross_sample.py``, ``dino.py``, ``geometric.py``). No code was released. Not said there, and ours:
a view's descriptor is the mean and the maximum of the encoder's last features; the first view of every scene
makes one sequence, every second view another, and so on; temperatures, centre and head are DINO's; pairs
of a view with itself are left out, as in DINO.

``dense`` is our addition and off by default: the same loss between voxels of two global views that are the
same place, because a segmenter needs features of places, not of views.

Fine-tuning is ``spd.py``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import Prepared
from pc_perception.models.pyramid import Level, Pyramid
from pc_perception.models.scene_encoder import SceneEncoder
from pc_perception.models.sparse_unet import SparseUNet
from pc_perception.models.walks import along_curves
from pc_perception.ops.voxelize import voxelize

from .cross_sample import AcrossScenes, validate_order
from .dino import CollapseWatch, PrototypeHead, assignment_figures, cross_view_loss, effective_rank
from .geometric import GeometricConsistency
from .host import Encoded, encode_scenes, level_widths
from .method import Task
from .model import TrainingModel
from .segmentation import MIN_POINTS, standing
from .views import ViewBatch, Views, ViewSample, collate_views, cut_views, matched_voxels

RANK_ROWS = 512
"""Voxels whose features' rank is logged."""


@dataclass(frozen=True)
class PointCsp:
    """Settings of the pre-training.

    Attributes:
        views: how views are cut.
        csp_order: how sequence blocks walk through the scenes of a batch (``cross_sample.ORDERS``), or ``alone``
            for the control without propagation.
        geo: weight of L_geo.
        dense: weight of the loss between voxels at the same place, at most ``max_pairs`` of a scene.
        same_view: count the n pairs of a view with itself, as L_CSC is written.
        n_prototypes, hidden, bottleneck: of the projection head.
        student_temperature: of the softmax.
        teacher_temperature: (first, last); rises over the share ``temperature_warm_up`` of the run.
        center_momentum: of the running mean of teacher outputs that is subtracted from them.
        teacher_momentum: of the teacher's weights at the start; goes to 1 on a cosine.
        freeze_prototypes: share of the run in which prototypes stay as they are.
        least_information, patience: a run whose assignments tell less than so many nats for so many steps is
            stopped; ``patience`` 0 never stops one.
    """

    views: Views = field(default_factory=Views)
    csp_order: str = "shuffle_all"
    geo: float = 0.1
    dense: float = 0.0
    max_pairs: int = 2048
    same_view: bool = False
    n_prototypes: int = 4096
    hidden: int = 2048
    bottleneck: int = 256
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, ...] = (0.04, 0.07)
    temperature_warm_up: float = 0.05
    center_momentum: float = 0.9
    teacher_momentum: float = 0.996
    freeze_prototypes: float = 0.01
    least_information: float = 0.01
    patience: int = 500
    task: ClassVar[str] = "encoder"

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        self.views.validate()
        if self.csp_order != "alone":
            validate_order(self.csp_order)
        cold = self.teacher_temperature
        if len(cold) != 2 or not 0 < min(cold) <= max(cold) <= self.student_temperature:
            raise ValueError(
                f"method.teacher_temperature must be two values above 0 and not above student_temperature; got {cold}"
            )
        if min(self.geo, self.dense) < 0 or not 0 <= self.teacher_momentum <= 1:
            raise ValueError("method.geo and method.dense must be >= 0, teacher_momentum in 0 .. 1")

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> ViewSample:
        """Cut all views out of a cloud, change each by itself and prepare it as inference would.

        Raises:
            ValueError: the cloud has too few finite points for its smallest view.
        """
        cloud = standing(cloud, task)
        cloud = cloud.select(cloud.finite())
        needed = self.views.needed(MIN_POINTS)
        if len(cloud) < needed:
            raise ValueError(
                f"only {len(cloud)} finite points; views of at least {MIN_POINTS} need a scene of {needed}"
            )
        if self.dense:
            # Places, not points, are matched: a sparser sensor's rings share no point with the others.
            place = voxelize(torch.from_numpy(cloud.xyz), task.contract.grid_m).inverse
            cloud = cloud.with_fields(place=place.numpy())
        parts = cut_views(cloud, self.views, task.augmentation, rng)
        large, small = (
            tuple(task.contract.prepare(view, task.n_levels) for view in group) for group in parts
        )
        if min(len(view.features) for view in (*large, *small)) == 0:
            raise ValueError("a view has no voxel in range")
        return ViewSample(large, small, self._pairs(parts[0], large, rng))

    def _pairs(self, parts: Sequence[PointCloud], views: Sequence[Prepared], rng: Generator) -> Tensor:
        if not self.dense:
            return torch.zeros(0, 2, dtype=torch.int64)
        places = [np.asarray(part.fields["place"]) for part in parts[:2]]
        rows = [view.inverse.numpy() for view in views[:2]]
        return torch.from_numpy(matched_voxels(places, rows, rng, self.max_pairs))

    def collate(self, samples: Sequence[ViewSample]) -> ViewBatch:
        """Pack the scenes' views by their number."""
        return collate_views(samples)

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PointCspModel:
        """Return student and teacher with the same random weights."""
        return PointCspModel(task.build_encoder(), self)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the teacher's encoder, under the names that segmenters use."""
        assert isinstance(model, PointCspModel)
        return nn.ModuleDict({"encoder": model.teacher["encoder"]})


class PointCspModel(TrainingModel):
    """Student, teacher and the losses between them."""

    fraction: Tensor

    def __init__(self, encoder: SceneEncoder | SparseUNet, settings: PointCsp) -> None:
        super().__init__()
        self.settings = settings

        def head(width: int) -> PrototypeHead:
            return PrototypeHead(width, settings.n_prototypes, settings.hidden, settings.bottleneck)

        parts = {"encoder": encoder, "head": head(2 * encoder.width)}
        if settings.dense:
            parts["dense"] = head(encoder.width)
        self.student = nn.ModuleDict(parts)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.geometry = GeometricConsistency(level_widths(encoder))
        self.watch = CollapseWatch(settings.least_information, settings.patience)
        self.register_buffer("fraction", torch.zeros(()))

    def after_init(self) -> None:
        """Let the student begin where the teacher, which a model file is loaded into, stands."""
        self.student["encoder"].load_state_dict(self.teacher["encoder"].state_dict())

    def losses(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Return L_CSC, L_geo and the dense loss where wanted, and figures that show collapse."""
        how, frozen = self.settings, bool(self.fraction < self.settings.freeze_prototypes)
        seen = self._encode(self.student, batch.large, batch.n_scenes)
        descriptors = [describe(seen.features, batch.large[1].levels[0])]
        levels = [seen.levels]
        if batch.small is not None:
            small = self._encode(self.student, batch.small, batch.n_scenes)
            descriptors.append(describe(small.features, batch.small[1].levels[0]))
            levels.append(small.levels)
        student = self.student["head"](torch.cat(descriptors), freeze_prototypes=frozen)
        with torch.no_grad():
            known = self._encode(self.teacher, batch.large, batch.n_scenes)
            teacher = self.teacher["head"](describe(known.features, batch.large[1].levels[0]))
            target = self.teacher["head"].target(teacher, self._temperature())
        by_view = (-1, batch.n_scenes, student.shape[1])
        csc = cross_view_loss(
            target.view(by_view), student.view(by_view), how.student_temperature, same_view=how.same_view
        )
        out = {"loss_csc": csc, "loss_geo": how.geo * torch.stack([self.geometry(v) for v in levels]).mean()}
        if how.dense:
            out["loss_dense"] = how.dense * self._dense(seen.features, known.features, batch.pairs, frozen)
        figures = assignment_figures(target)
        out |= figures | {"rank": effective_rank(known.features[:: len(known.features) // RANK_ROWS + 1])}
        if self.training:
            self.teacher["head"].move_center(teacher, how.center_momentum)
            self.watch.check(figures["information"])
        return out

    def _encode(self, part: nn.ModuleDict, views: tuple[Tensor, Pyramid], n_scenes: int) -> Encoded:
        order = self.settings.csp_order
        walk = along_curves if order == "alone" else AcrossScenes(order, n_scenes)
        return encode_scenes(part["encoder"], views, walk)  # type: ignore[arg-type]

    def _temperature(self) -> Tensor:
        first, last = self.settings.teacher_temperature
        share = (self.fraction / max(self.settings.temperature_warm_up, 1e-9)).clamp(max=1)
        return first + (last - first) * share

    def _dense(self, student: Tensor, teacher: Tensor, pairs: Tensor, frozen: bool) -> Tensor:
        """Match voxels of the first two global views at the same place, in both directions."""
        if not len(pairs):
            return student.sum() * 0
        a, b = pairs.T
        similarity = self.student["dense"](student[torch.cat([a, b])], freeze_prototypes=frozen)
        with torch.no_grad():
            wanted = self.teacher["dense"](teacher[torch.cat([b, a])])
            target = self.teacher["dense"].target(wanted, self._temperature())
            if self.training:
                self.teacher["dense"].move_center(wanted, self.settings.center_momentum)
        temperature = self.settings.student_temperature
        return cross_view_loss(target[None], similarity[None], temperature, same_view=True)

    @torch.no_grad()
    def after_step(self, fraction: float) -> None:
        """Move the teacher towards the student."""
        self.fraction.fill_(fraction)
        keep = 1 - (1 - self.settings.teacher_momentum) * (math.cos(math.pi * fraction) + 1) / 2
        for own, live in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            own.lerp_(live, 1 - keep)


def describe(x: Tensor, level: Level) -> Tensor:
    """Return (S, 2 C) mean and maximum over each packed scene of (M, C) features."""
    scenes = x.split([b - a for a, b in pairwise(level.offsets)])
    return torch.stack([torch.cat([part.mean(0), part.max(0).values]) for part in scenes])
