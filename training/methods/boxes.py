# SPDX-License-Identifier: Apache-2.0
"""3D boxes by their centres: a penalty-reduced focal loss on heat maps, L1 on boxes at true centres.

Source: CenterPoint, CVPR 2021; the focal loss is that of CornerNet (arXiv 1808.01244, equation 1, alpha 2, beta 4).
Ours is how wide the heat around a centre is (``SPREAD``), and that a box without a known velocity leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation_z
from pc_perception.inference.contract import Prepared
from pc_perception.models.bev_head import CELLS, STRIDE, BoxDetector, encode
from pc_perception.models.pyramid import Pyramid, pack
from training.augment import crop, recolor
from training.data.boxes import BoxCloud

from .method import Task
from .model import TrainingModel

SPREAD, LEAST_SPREAD = 0.3, 0.6
"""Standard deviation of the heat around a centre: this share of the root of length times width, and at least so many
cells."""


@dataclass(frozen=True)
class BoxSample:
    """One scene.

    Attributes:
        prepared: what the network takes.
        heat: (C, CELLS, CELLS) float32, 1 at centres.
        cell: (K,) int64 cells of the boxes on the map; value: (K, BOX) what is found there.
        bad: names of samples that this one replaces.
    """

    prepared: Prepared
    heat: Tensor
    cell: Tensor
    value: Tensor
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoxBatch:
    """Scenes behind each other; ``scene`` (K,) int64 is that of each box."""

    features: Tensor
    pyramid: Pyramid
    heat: Tensor
    scene: Tensor
    cell: Tensor
    value: Tensor
    n_scenes: int
    bad: tuple[str, ...] = ()

    def to(self, device: torch.device) -> BoxBatch:
        """Return the batch with all tensors on ``device``."""
        names = ("features", "pyramid", "heat", "scene", "cell", "value")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class Boxes:
    """Settings of detection.

    Attributes:
        box: weight of the L1 on places, sizes and headings.
        velocity: weight of that on velocities, which one sweep hardly shows.
        scale: clouds and boxes are scaled by a factor of 1 - scale .. 1 + scale.
    """

    box: float = 0.25
    velocity: float = 0.05
    scale: float = 0.05
    task: ClassVar[str] = "detection"
    boxes: ClassVar[bool] = True

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if min(self.box, self.velocity) < 0 or not 0 <= self.scale < 1:
            raise ValueError("method.box and method.velocity must be >= 0, method.scale in 0 .. 1")

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> BoxSample:
        """Turn, mirror and scale a cloud with its boxes, and lay the boxes on the map."""
        if not isinstance(cloud, BoxCloud):
            raise ValueError("it comes without boxes; give nuScenes-format data with annotations")
        if task.contract.voxels != "cartesian":
            raise ValueError("boxes need cartesian voxels: set contract.voxels=cartesian")
        cloud = cloud.select(cloud.finite())
        cloud = recolor(crop(moved(cloud, self.scale, rng), task.augmentation, rng), task.augmentation, rng)
        prepared = task.contract.prepare(cloud, task.n_levels)
        if not len(prepared.features):
            raise ValueError("it has no point in range")
        cell_m = STRIDE * task.contract.grid_m
        boxes, labels = torch.from_numpy(cloud.boxes), torch.from_numpy(cloud.box_labels.astype(np.int64))
        cell, value = encode(boxes, cell_m)
        on_map = cell >= 0
        heat = heat_map(boxes[on_map], labels[on_map], task.n_classes, cell_m)
        return BoxSample(prepared, heat, cell[on_map], value[on_map])

    def collate(self, samples: Sequence[BoxSample]) -> BoxBatch:
        """Lay scenes behind each other."""
        counts = torch.tensor([len(s.cell) for s in samples])
        return BoxBatch(
            features=torch.cat([s.prepared.features for s in samples]),
            pyramid=pack([s.prepared.pyramid for s in samples]),
            heat=torch.stack([s.heat for s in samples]),
            scene=torch.repeat_interleave(torch.arange(len(samples)), counts),
            cell=torch.cat([s.cell for s in samples]),
            value=torch.cat([s.value for s in samples]),
            n_scenes=len(samples),
            bad=tuple(name for s in samples for name in s.bad),
        )

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> BoxModel:
        """Return the model with random weights.

        Raises:
            ValueError: the network finds no boxes.
        """
        network = task.build_segmenter()
        if not isinstance(network, BoxDetector):
            raise ValueError(f"boxes need network=BoxDetector, not {type(network).__name__}")
        return BoxModel(network, self)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the detector."""
        assert isinstance(model, BoxModel)
        return model.network


class BoxModel(TrainingModel):
    """A detector with its losses."""

    def __init__(self, network: BoxDetector, settings: Boxes) -> None:
        super().__init__()
        self.network, self.settings = network, settings

    def losses(self, batch: BoxBatch) -> dict[str, Tensor]:
        """Return the losses, and how far places and headings are off at true centres (m, degrees)."""
        maps = self.network(batch.features, batch.pyramid).float()
        n_classes = batch.heat.shape[1]
        out = {"loss_heat": focal_loss(maps[:, :n_classes], batch.heat, len(batch.cell))}
        found = maps[:, n_classes:].flatten(2)[batch.scene, :, batch.cell]
        error = functional.l1_loss(found, batch.value.nan_to_num(), reduction="none")
        error = torch.where(batch.value.isfinite(), error, 0)
        n = max(len(batch.cell), 1)
        out["loss_box"] = self.settings.box * error[:, :8].sum() / n
        if self.settings.velocity:
            out["loss_velocity"] = self.settings.velocity * error[:, 8:].sum() / n
        if len(batch.cell):
            out["place_cells"] = error[:, :2].detach().norm(dim=1).mean()
            heading = lambda v: torch.atan2(v[:, 6], v[:, 7])  # noqa: E731
            apart = (heading(found.detach()) - heading(batch.value)).cos().clamp(-1, 1).acos()
            out["heading_deg"] = torch.rad2deg(apart).mean()
        return out


def moved(cloud: BoxCloud, scale: float, rng: Generator) -> BoxCloud:
    """Rotate a cloud and its boxes about z by any angle, mirror them left and right perhaps, and scale them."""
    turn, mirror, factor = rng.uniform(0, 2 * np.pi), rng.random() < 0.5, rng.uniform(1 - scale, 1 + scale)
    side = -1.0 if mirror else 1.0
    R = rotation_z(turn) * (1, side, 1)
    boxes = cloud.boxes.astype(np.float64)
    boxes[:, :3] = factor * boxes[:, :3] @ R.T
    boxes[:, 3:6] *= factor
    boxes[:, 6] = side * boxes[:, 6] + turn
    boxes[:, 7:9] = factor * boxes[:, 7:9] @ R[:2, :2].T
    xyz = (factor * cloud.xyz @ R.T).astype(np.float32)
    return replace(cloud, xyz=xyz, boxes=boxes.astype(np.float32), grid_shape=None)


def heat_map(boxes: Tensor, labels: Tensor, n_classes: int, cell_m: float) -> Tensor:
    """Return (n_classes, CELLS, CELLS): the highest of Gaussians around the cells of the boxes' centres."""
    heat = torch.zeros(n_classes, CELLS, CELLS)
    corner = (boxes[:, :2] / cell_m + CELLS / 2).floor()
    sigma = (SPREAD * (boxes[:, 3] * boxes[:, 4]).sqrt() / cell_m).clamp(min=LEAST_SPREAD)
    axis = torch.arange(CELLS)
    for (row, column), label, s in zip(corner.tolist(), labels.tolist(), sigma.tolist(), strict=True):
        across = [torch.exp(-((axis - at) ** 2) / (2 * s * s)) for at in (row, column)]
        heat[label] = torch.maximum(heat[label], across[0][:, None] * across[1])
    return heat


def focal_loss(logits: Tensor, heat: Tensor, n_boxes: int) -> Tensor:
    """Compute the penalty-reduced focal loss of heat maps, over the number of boxes.

    Args:
        logits, heat: (S, C, H, W); ``heat`` is 1 at centres.
        n_boxes: of the batch.
    """
    positive = heat == 1
    probability = logits.sigmoid()
    at_centres = (1 - probability) ** 2 * functional.logsigmoid(logits)
    elsewhere = (1 - heat) ** 4 * probability**2 * functional.logsigmoid(-logits)
    return -torch.where(positive, at_centres, elsewhere).sum() / max(n_boxes, 1)
