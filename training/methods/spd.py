# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning with scenes in sequence: stability-preserving distillation (SPD), and its undistilled control.

Source: PointCSP, arXiv 2605.01759, L_ft = L_task + lambda_SPD L_SPD + lambda_geo L_geo with
L_SPD = mean || f_student - f_teacher ||^2. The teacher sees the batch as one sequence, the student every
scene by itself, and only the student is used afterwards. Not said there, and ours: the features are the last
ones before the head, layer-normalised, and the square is averaged over channels too; the teacher is a moving
average of the student (0.999, younger ones move faster) and starts as its copy.

Both wrap any method whose model is a ``HostModel``; what a sequence of single objects is, ``object_host`` says.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.cloud import PointCloud
from pc_perception.models.walks import along_curves

from .cross_sample import AcrossScenes, validate_order
from .geometric import GeometricConsistency
from .host import Encoded, HostModel
from .method import Method, Task
from .model import TrainingModel
from .segmentation import Segmentation


@dataclass(frozen=True)
class Wrapped:
    """What both wrappers share: samples and batches are the host's.

    Attributes:
        host: a method whose model is a ``HostModel``.
        csp_order: how a batch is walked as one sequence (``cross_sample.ORDERS``).
    """

    host: Method = field(default_factory=Segmentation)
    csp_order: str = "shuffle_all"

    @property
    def task(self) -> str:
        """The host's."""
        return self.host.task

    @property
    def inner(self) -> Method:
        """What the model file is of."""
        return self.host

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        validate_order(self.csp_order)
        self.host.validate()

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> Any:
        """Prepare as the host does."""
        return self.host.sample(cloud, rng, task)

    def collate(self, samples: Sequence[Any]) -> Any:
        """Join as the host does."""
        return self.host.collate(samples)

    def build_host(self, task: Task, class_counts: NDArray[np.int64]) -> HostModel:
        """Return the host's model with random weights.

        Raises:
            ValueError: it cannot be led from scene to scene.
        """
        model = self.host.build(task, class_counts)
        if not isinstance(model, HostModel):
            name = type(self.host).__name__
            raise ValueError(f"{name} cannot be trained with scenes in sequence: it is no host")
        return model


@dataclass(frozen=True)
class Serialised(Wrapped):
    """Train ``host`` with every batch as one sequence: what CSP alone, without SPD, fine-tunes as.

    The model depends on its batch; alone it meets scenes as it never saw them.
    """

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> TrainingModel:
        """Return the host's model inside the wrapper."""
        return SerialisedModel(self.build_host(task, class_counts), self.csp_order)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the host's part."""
        assert isinstance(model, SerialisedModel)
        return self.host.deployable(model.host)


@dataclass(frozen=True)
class Spd(Wrapped):
    """Train ``host`` on single scenes and pull its features towards those of a teacher that sees the batch.

    Attributes:
        weight: of L_SPD.
        momentum: of the teacher's weights.
        geo: weight of L_geo on the student's levels; 0 leaves it out.
    """

    weight: float = 1.0
    momentum: float = 0.999
    geo: float = 0.1

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        super().validate()
        if self.weight < 0 or self.geo < 0 or not 0 <= self.momentum < 1:
            raise ValueError("method.weight and method.geo must be >= 0, method.momentum in 0 .. 1")

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> TrainingModel:
        """Return student and teacher with the same weights."""
        return SpdModel(self.build_host(task, class_counts), self)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the host's part of the student."""
        assert isinstance(model, SpdModel)
        return self.host.deployable(model.student)


class SerialisedModel(TrainingModel):
    """A host whose scenes make one sequence."""

    def __init__(self, host: HostModel, order: str) -> None:
        super().__init__()
        self.host, self.order = host, order

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the host's losses."""
        features = self.host.encode(batch, AcrossScenes(self.order, batch.n_scenes)).features
        return self.host.task_losses(features, batch)


class SpdModel(TrainingModel):
    """Student, its moving average as teacher, and the losses between them."""

    steps: Tensor

    def __init__(self, host: HostModel, settings: Spd) -> None:
        super().__init__()
        self.student, self.settings = host, settings
        self.teacher = copy.deepcopy(host).requires_grad_(False).eval()
        self.geometry = (
            GeometricConsistency(host.level_widths) if settings.geo and host.level_widths else None
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> SpdModel:
        """Switch the student alone: batch statistics of the teacher would be a second way out of the batch."""
        super().train(mode)
        self.teacher.eval()
        return self

    def after_init(self) -> None:
        """Let the teacher begin as the student, which a model file was loaded into."""
        self.teacher.load_state_dict(self.student.state_dict())

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the task's losses of the student, L_SPD and L_geo."""
        alone: Encoded = self.student.encode(batch, along_curves)
        with torch.no_grad():
            walk = AcrossScenes(self.settings.csp_order, batch.n_scenes)
            together = self.teacher.encode(batch, walk).features
        out = self.student.task_losses(alone.features, batch)
        out["loss_spd"] = self.settings.weight * distillation_loss(alone.features, together)
        if self.geometry is not None:
            out["loss_geo"] = self.settings.geo * self.geometry(alone.levels)
        return out

    @torch.no_grad()
    def after_step(self, fraction: float) -> None:
        """Move the teacher towards the student."""
        self.steps += 1
        keep = min(self.settings.momentum, float(self.steps / (self.steps + 9)))
        own, live = self.teacher.state_dict(), self.student.state_dict()
        for name, value in own.items():
            if value.is_floating_point():
                value.lerp_(live[name], 1 - keep)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of layer-normalised (M, C) features; no gradient reaches the teacher."""
    width = student.shape[1:]
    return functional.mse_loss(
        functional.layer_norm(student, width), functional.layer_norm(teacher.detach(), width)
    )
