# SPDX-License-Identifier: Apache-2.0
"""A small image trunk without labels: two views of a picture should agree where they show the same place.

Contrast between single places of two crops is that of PixPro's and VADeR's baseline (arXiv 2011.10043, equation 1);
all other places of the batch are the negatives. It stands in where no published weights of a large trunk are at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.cloud import PointCloud
from pc_perception.models.image_encoder import MEAN, STD, SmallTrunk
from training.data.cameras import Camera, CameraCloud, Pixels
from training.data.crops import CropSettings, cut

from .contrastive import info_nce_both_ways, retrieval
from .method import Task
from .model import TrainingModel


@dataclass(frozen=True)
class Views:
    """Two crops of pictures and places that both show.

    Attributes:
        rgb: (2, n, H, W, 3) uint8.
        picture: (P,) int64.
        place: (2, P, 2) float32 (x, y) in -1 .. 1, as ``grid_sample`` counts.
    """

    rgb: Tensor
    picture: Tensor
    place: Tensor
    n_scenes: int = 1
    bad: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Views:
        """Return the views with all tensors on ``device``."""
        parts = {name: getattr(self, name).to(device) for name in ("rgb", "picture", "place")}
        return replace(self, **parts)


@dataclass(frozen=True)
class ImageTrunk:
    """Settings of the trunk's pre-training.

    Attributes:
        crop: of pictures.
        places: of each picture.
        color: strength of random brightness, contrast and cast.
        temperature: of the contrast.
        width: of the projection.
    """

    crop: CropSettings = field(default_factory=lambda: CropSettings(160, 288, area=(0.15, 0.6)))
    places: int = 48
    color: float = 0.4
    temperature: float = 0.1
    width: int = 64
    task: ClassVar[str] = "image_trunk"
    cameras: ClassVar[bool] = True

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        self.crop.validate()
        if self.places < 2 or not self.temperature > 0 or not 0 <= self.color <= 1:
            raise ValueError("method.places must be > 1, temperature > 0 and color in 0 .. 1")

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> Views:
        """Cut two parts out of each picture and find places that both show."""
        if not isinstance(cloud, CameraCloud):
            raise ValueError(
                "it comes without pictures; give nuScenes-format data, KITTI sequences or a bag with cameras"
            )
        found = [self._views(camera, rng) for camera in cloud.cameras]
        lengths = [place.shape[1] for _, place in found]
        if sum(lengths) < 2:
            raise ValueError("no two crops of its pictures overlap; raise method.crop.area")
        return Views(
            torch.from_numpy(np.stack([rgb for rgb, _ in found], 1)),
            torch.from_numpy(np.repeat(np.arange(len(found)), lengths)),
            torch.from_numpy(np.concatenate([place for _, place in found], 1).astype(np.float32)),
        )

    def _views(self, camera: Camera, rng: Generator) -> tuple[NDArray[np.uint8], NDArray]:
        """Return (2, H, W, 3) crops and (2, P, 2) places of one picture."""
        n = 16 * self.places
        marks = Pixels(np.arange(n), rng.random((n, 2), dtype=np.float32), np.ones(n, np.float32))
        crops = [cut(camera, marks, replace(self.crop, tries=1), rng) for _ in range(2)]
        shared = np.intersect1d(crops[0].point, crops[1].point)
        shared = shared[rng.permutation(len(shared))[: self.places]]
        size = np.array([self.crop.width, self.crop.height])
        places = [
            (crop.pixel[np.searchsorted(crop.point, shared)][:, ::-1] + 0.5) / size * 2 - 1 for crop in crops
        ]
        return np.stack([relit(crop.rgb, self.color, rng) for crop in crops]), np.stack(places)

    def collate(self, samples: Sequence[Views]) -> Views:
        """Lay the pictures behind each other."""
        starts = np.cumsum([0, *(s.rgb.shape[1] for s in samples)]).tolist()
        return Views(
            torch.cat([s.rgb for s in samples], 1),
            torch.cat([s.picture + start for s, start in zip(samples, starts, strict=False)]),
            torch.cat([s.place for s in samples], 1),
            len(samples),
            tuple(name for s in samples for name in s.bad),
        )

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> ImageTrunkModel:
        """Return the trunk with a projection."""
        return ImageTrunkModel(self)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the trunk."""
        return nn.ModuleDict({"trunk": model.trunk})  # type: ignore[dict-item]


class ImageTrunkModel(TrainingModel):
    """The small trunk and a projection that is thrown away."""

    def __init__(self, settings: ImageTrunk) -> None:
        super().__init__()
        self.settings, self.trunk = settings, SmallTrunk()
        self.projection = nn.Sequential(nn.Conv2d(128, 128, 1), nn.ReLU(), nn.Conv2d(128, settings.width, 1))

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return the contrast in both directions and how often a place is found again."""
        mean, std = (torch.tensor(v, device=batch.rgb.device)[:, None, None] for v in (MEAN, STD))
        rgb = batch.rgb.flatten(0, 1).movedim(3, 1).float() / 255
        maps = self.projection(self.trunk((rgb - mean) / std))
        n = batch.rgb.shape[1]
        a, b = (self._at(maps[side * n : (side + 1) * n], batch, side) for side in (0, 1))
        temperature = self.settings.temperature
        loss = info_nce_both_ways(a, b, temperature)
        return {"loss_contrast": loss, "retrieval": retrieval(a, b)}

    @staticmethod
    def _at(maps: Tensor, batch: Views, side: int) -> Tensor:
        """Return (P, D) unit features at the places of one side."""
        found = [
            functional.grid_sample(
                maps[i : i + 1], batch.place[side][batch.picture == i][None, None], align_corners=False
            )[0, :, 0].T
            for i in range(len(maps))
        ]
        return functional.normalize(torch.cat(found), dim=1)


def relit(rgb: NDArray[np.uint8], strength: float, rng: Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast and cast of a picture (H, W, 3); one in ten becomes grey."""
    values = rgb.astype(np.float32)
    gain = rng.uniform(1 - strength, 1 + strength) * rng.uniform(1 - strength / 3, 1 + strength / 3, 3)
    middle = values.mean()
    values = (values - middle) * rng.uniform(1 - strength, 1 + strength) + middle
    if rng.random() < 0.1:
        values = values.mean(2, keepdims=True).repeat(3, 2)
    return np.clip(values * gain.astype(np.float32), 0, 255).astype(np.uint8)
