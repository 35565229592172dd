# SPDX-License-Identifier: Apache-2.0
"""CMCR: cross-modal comprehensive representation learning, arXiv 2412.08973 (IJCV 2026), from pictures to sweeps.

What the released code states and what the paper's figure adds are kept apart: ``mode="released"`` leaves out the
figure's three terms, whose details are not published and are proposed by us: the KL on specific 3D features
(``gaussian_kl``, with features drawn from the Gaussian), orthogonality of the two picture heads (as in 3D), and
geometry-enhanced masked image modelling (the nearest point's code at each hidden pixel, no dilation). Two defects of
the released code are not reproduced in either mode: its pair filter indexed by 0 and 1, and its root of a squared
distance of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import nn

from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation_z
from training.augment import crop as crop_cloud
from training.data.cameras import CameraCloud, check_calibration, seen_points
from training.data.crops import CropSettings, cut

from .frames import FrameBatch, FrameSample, collate_frames, hide, number_segments, pair_up
from .method import Task
from .occupancy import draw_queries, pair_queries

if TYPE_CHECKING:
    from .cmcr_model import CmcrModel

MIN_PAIRS = 64
"""A frame with fewer point-pixel pairs is skipped."""


@dataclass(frozen=True)
class Cmcr:
    """Settings of the pre-training; a weight of 0 takes its term out.

    Attributes:
        mode: ``paper`` (the figure) or ``released`` (the code): see the module.
        image_trunk: see ``image_encoder.TRUNKS``.
        image_weights: file of its weights; empty leaves it random, which is a control and no pre-training.
        pixel_stride: pictures' features are brought to 1/this of the resolution and reconstructed there;
            1 is the paper's, 4 a sixteenth of its cost.
        crop: of pictures.
        mask_picture, mask_patch: chances that a picture is masked, and then each square of it.
        width: of all four features.
        pairs: point-pixel pairs that enter the losses of one batch.
        temperature: of the contrastive losses.
        n_codes, decay: of the codebook.
        queries, radius_m, neighbors: of occupancy, for each sweep.
        intensity_scale: intensity that counts as 1 (nuScenes: 255).
        nce, superpixel: weights of contrast between points and pixels, and between means over superpixels.
        commit: weight of the commitment of both modalities (the codebook itself is there without it).
        match: weight of cross-modal code matching.
        codebook: features pass through codes before decoders; False ablates it with its losses.
        rec: weight of masked image modelling.
        geometry: codes of points replace those of hidden pixels.
        occ, intensity: weights of occupancy and of its intensity.
        orth, orth_image: weights of orthogonality in 3D and between picture heads.
        kl: weight of the KL on specific 3D features.
    """

    mode: str = "paper"
    image_trunk: str = "resnet50"
    image_weights: str = ""
    pixel_stride: int = 1
    crop: CropSettings = field(default_factory=CropSettings)
    mask_picture: float = 0.5
    mask_patch: float = 0.5
    width: int = 64
    pairs: int = 2048
    temperature: float = 0.07
    n_codes: int = 400
    decay: float = 0.999
    queries: int = 2048
    radius_m: float = 1.0
    neighbors: int = 32
    intensity_scale: float = 255.0
    nce: float = 1.0
    superpixel: float = 0.0
    commit: float = 0.25
    match: float = 1.0
    codebook: bool = True
    rec: float = 1.0
    geometry: bool = True
    occ: float = 1.0
    intensity: float = 1.0
    orth: float = 0.1
    orth_image: float = 0.1
    kl: float = 1e-3
    task: ClassVar[str] = "encoder"
    cameras: ClassVar[bool] = True

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if self.mode not in ("paper", "released"):
            raise ValueError(f"method.mode must be paper or released, not '{self.mode}'")
        for name in ("mask_picture", "mask_patch", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"method.{name} must lie in 0 .. 1, got {getattr(self, name)}")
        weights = (
            "nce",
            "superpixel",
            "commit",
            "match",
            "rec",
            "occ",
            "intensity",
            "orth",
            "orth_image",
            "kl",
        )
        if negative := [name for name in weights if getattr(self, name) < 0]:
            raise ValueError(f"method.{negative[0]} is a weight and must not be negative")
        if (
            min(self.temperature, self.radius_m, self.intensity_scale) <= 0
            or min(self.n_codes, self.pairs) < 2
        ):
            raise ValueError(
                "method.temperature, radius_m and intensity_scale must be > 0, n_codes and pairs > 1"
            )
        self.crop.validate()
        if self.pixel_stride not in (1, 2, 4, 8, 16):
            raise ValueError(f"method.pixel_stride must be 1, 2, 4, 8 or 16, got {self.pixel_stride}")

    def effective(self) -> Cmcr:
        """Return the settings with what ``mode`` decides written out."""
        if self.mode == "paper":
            return self
        return replace(self, kl=0.0, orth_image=0.0, geometry=False)

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> FrameSample:
        """Crop the pictures of a sweep, turn the sweep, and find what both see."""
        if not isinstance(cloud, CameraCloud):
            raise ValueError(
                "it comes without pictures; give nuScenes-format data, KITTI sequences or a bag with cameras"
            )
        cloud = crop_cloud(cloud.select(cloud.finite()), task.augmentation, rng)
        pixels = [seen_points(cloud.xyz, camera) for camera in cloud.cameras]
        check_calibration(cloud, pixels)
        crops = [
            cut(camera, seen, self.crop, rng, superpixels=self.superpixel > 0)
            for camera, seen in zip(cloud.cameras, pixels, strict=True)
        ]
        moved = replace(cloud, xyz=turned(cloud.xyz, rng))
        prepared = task.contract.prepare(moved, task.n_levels)
        hidden = hide(crops, self.mask_picture, self.mask_patch, rng)
        pairs = pair_up(crops, hidden, prepared.inverse.numpy())
        if len(pairs) < MIN_PAIRS:
            raise ValueError(
                f"sample {cloud.cameras[0].sample}: only {len(pairs)} points are seen in its pictures, at least "
                f"{MIN_PAIRS} are needed; check the calibration"
            )
        intensity = cloud.fields.get("intensity")
        if intensity is not None:
            intensity = np.clip(np.asarray(intensity, np.float32) / self.intensity_scale, 0, 1)
        queries = draw_queries(moved.xyz, self.queries if self.occ or self.intensity else 0, rng)
        places = prepared.pyramid.levels[0].xyz
        return FrameSample(
            prepared=prepared,
            rgb=torch.from_numpy(np.stack([crop.rgb for crop in crops])),
            hidden=torch.from_numpy(hidden),
            segments=number_segments(crops) if self.superpixel else None,
            pairs=pairs,
            occupancy=pair_queries(queries, intensity, places, self.radius_m, self.neighbors),
        )

    def collate(self, samples: Sequence[FrameSample]) -> FrameBatch:
        """Lay frames behind each other."""
        return collate_frames(samples)

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> CmcrModel:
        """Return both networks, the heads and decoders; all random but the image trunk."""
        from .cmcr_model import CmcrModel

        return CmcrModel(task.build_encoder(), self.effective())

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the point encoder, under the names that segmenters use."""
        return nn.ModuleDict({"encoder": model.encoder})  # type: ignore[dict-item]


def turned(xyz: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """Rotate (N, 3) points about z by any angle and mirror x and y, each with a chance of a half; the origin stays."""
    R = rotation_z(rng.uniform(0, 2 * np.pi)) * [*(1 - 2 * rng.integers(0, 2, 2)), 1]
    return (xyz @ R.T).astype(np.float32)
