# SPDX-License-Identifier: Apache-2.0
"""CMCR's networks and how its terms come together; settings and sources are in ``cmcr``."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.models.codebook import Codebook, perplexity
from pc_perception.models.image_encoder import FrozenTrunk, PixelHead, make_trunk
from pc_perception.models.image_weights import load_image_weights

from .cmcr import Cmcr
from .contrastive import (
    code_matching,
    code_posterior,
    commitment,
    gaussian_kl,
    info_nce,
    orthogonality,
    pooled_pairs,
    psnr,
    retrieval,
)
from .frames import FrameBatch, PixelPairs
from .model import TrainingModel
from .occupancy import OccupancyDecoder, OccupancyPairs, occupancy_iou, occupancy_losses
from .panels import frame_panel

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """Features of one batch.

    Attributes:
        F: (M, D) shared features of voxels, unit vectors; F_coded: their codes.
        mean: (M, D) specific features of voxels; G: drawn around them in training.
        F_image: (n, D, h, w) shared features of pixels, unit vectors.
        G_image: (n, D, h, w) specific ones; None where no term asks for them.
        pairs: at the resolution of the features.
    """

    F: Tensor
    mean: Tensor
    G: Tensor
    F_coded: Tensor
    F_image: Tensor
    G_image: Tensor | None
    pairs: PixelPairs


class CmcrModel(TrainingModel):
    """Point encoder and frozen image trunk, each with a shared and a specific head, and what hangs on them."""

    def __init__(self, encoder: nn.Module, settings: Cmcr) -> None:
        super().__init__()
        self.settings, self.encoder = settings, encoder
        width = settings.width
        trunk = make_trunk(settings.image_trunk)
        if settings.image_weights:
            load_image_weights(trunk, settings.image_weights)
        else:
            _log.warning(
                "the image trunk has random weights: a control, no pre-training; give image_weights=FILE"
            )
        self.trunk = FrozenTrunk(trunk)
        if trunk.stride % settings.pixel_stride:
            raise ValueError(f"method.pixel_stride {settings.pixel_stride} does not divide {trunk.stride}")
        factor = trunk.stride // settings.pixel_stride
        self.shared, self.specific = (nn.Linear(encoder.width, width) for _ in range(2))  # type: ignore[arg-type]
        self.image_shared, self.image_specific = (PixelHead(trunk.width, width, factor) for _ in range(2))
        self.image_decoder = ImageDecoder(width)
        self.occupancy_decoder = OccupancyDecoder(width)
        self.log_variance = nn.Parameter(torch.full((width,), -2.0))
        self.codebook = Codebook(settings.n_codes, width, settings.decay)
        self._rest_what_is_off()

    def _rest_what_is_off(self) -> None:
        """Take out of training what no term reaches: training by several processes waits for every gradient."""
        s = self.settings
        used = {
            self.image_decoder: s.rec,
            self.image_specific: s.rec or s.orth_image,
            self.occupancy_decoder: s.occ or s.intensity,
            self.specific: s.occ or s.intensity or s.orth or s.kl,
        }
        for module, weight in used.items():
            module.requires_grad_(bool(weight))
        self.log_variance.requires_grad_(bool(s.kl))

    def losses(self, batch: FrameBatch) -> dict[str, Tensor]:
        """Return the weighted terms and figures that show whether they work."""
        settings, out = self.settings, dict[str, Tensor]()
        seen = self._see(batch, specific=bool(settings.rec or settings.orth_image))
        if settings.rec:
            target = functional.avg_pool2d(pictures(batch), settings.pixel_stride)
            error = functional.mse_loss(self._rebuilt(seen), target)  # over all pixels, hidden or not
            out |= {"loss_rec": settings.rec * error, "psnr_db": psnr(error.detach())}
        if settings.occ or settings.intensity:
            out |= self._occupancy(seen, batch.occupancy)
        out |= self._contrast(seen, batch.segments)
        if settings.orth:
            out["loss_orth"] = settings.orth * orthogonality(seen.F, seen.G)
        if seen.G_image is not None and settings.orth_image:
            both = (rows_of(seen.F_image), rows_of(seen.G_image))
            out["loss_orth_image"] = settings.orth_image * orthogonality(*both)
        if settings.kl:
            out["loss_kl"] = settings.kl * gaussian_kl(seen.mean, self.log_variance)
        return out

    @torch.no_grad()
    def panel(self, batch: FrameBatch) -> NDArray[np.uint8]:
        """Show the pictures as masked, rebuilt, and by shared features of pixels and points; see ``frame_panel``."""
        seen = self._see(batch)
        masked = functional.avg_pool2d(pictures(batch) * ~batch.hidden[:, None], self.settings.pixel_stride)
        return frame_panel(masked, self._rebuilt(seen), seen.F_image, seen.F, seen.pairs)

    def _see(self, batch: FrameBatch, specific: bool = True) -> Seen:
        # In float32 whatever autocast does: the codebook and the scatters add up.
        settings, voxels = self.settings, self.encoder(batch.features, batch.pyramid)
        F = functional.normalize(self.shared(voxels).float(), dim=1)
        G = mean = self.specific(voxels).float()
        if settings.kl and self.training:
            G = mean + torch.randn_like(mean) * (self.log_variance / 2).exp()
        maps = self.trunk(pictures(batch) * ~batch.hidden[:, None])
        F_image = functional.normalize(self.image_shared(maps).float(), dim=1)
        G_image = self.image_specific(maps).float() if specific else None
        pairs = at_stride(batch.pairs, settings.pixel_stride)
        return Seen(F, mean, G, self._coded(F), F_image, G_image, pairs)

    def _rebuilt(self, seen: Seen) -> Tensor:
        assert seen.G_image is not None
        codes = unrolled(self._coded(rows_of(seen.F_image)), seen.F_image)
        if self.settings.geometry:
            codes = with_geometry(codes, seen.F_coded, seen.pairs.select(seen.pairs.hidden))
        return self.image_decoder(seen.G_image + codes)

    def _coded(self, features: Tensor) -> Tensor:
        return self.codebook.quantise(features) if self.settings.codebook else features

    def _contrast(self, seen: Seen, segments: Tensor | None) -> dict[str, Tensor]:
        """Return what acts between points and the visible pixels that show them; move the codebook."""
        settings, F, F_image, out = self.settings, seen.F, seen.F_image, {}
        visible = seen.pairs.select(~seen.pairs.hidden)
        if settings.superpixel and segments is not None:
            step = settings.pixel_stride
            segment = segments[:, step // 2 :: step, step // 2 :: step]
            own = segment[visible.picture, visible.pixel[:, 0], visible.pixel[:, 1]]
            points, pixels = pooled_pairs(F[visible.voxel], own, F_image, segment)
            unit = (functional.normalize(x, dim=1) for x in (points, pixels))
            out["loss_superpixel"] = settings.superpixel * info_nce(*unit, settings.temperature)
        # Every voxel once: two pairs of one voxel would have to tell equal features apart.
        chosen = visible.select(distinct(visible.voxel, settings.pairs))
        point = F[chosen.voxel]
        pixel = F_image[chosen.picture, :, chosen.pixel[:, 0], chosen.pixel[:, 1]]
        if settings.nce:
            out["loss_nce"] = settings.nce * info_nce(point, pixel, settings.temperature)
        out["retrieval"] = retrieval(point, pixel)
        if settings.codebook:
            out |= self._quantise(point, pixel)
        return out

    def _quantise(self, point: Tensor, pixel: Tensor) -> dict[str, Tensor]:
        """Return the codebook's losses; then let both modalities move it, the points first."""
        settings, book, out = self.settings, self.codebook, {}
        codes = book.embedding.clone()
        by_point, by_pixel = book.assign(point), book.assign(pixel)
        if settings.commit:
            e_point, e_pixel = codes[by_point], codes[by_pixel]
            both = commitment(point, e_point, e_pixel) + commitment(pixel, e_pixel, e_point)
            out["loss_commit"] = settings.commit * both
        if settings.match:
            posteriors = (code_posterior(x, codes) for x in (point, pixel))
            out["loss_match"] = settings.match * code_matching(*posteriors)
        if self.training:
            book.update(by_point, point.detach(), pixel.detach())
            book.update(by_pixel, pixel.detach(), point.detach())
        out["perplexity"] = perplexity(torch.cat([by_point, by_pixel]), len(codes))
        out["same_code"] = (by_point == by_pixel).float().mean()
        return out

    def _occupancy(self, seen: Seen, rays: OccupancyPairs) -> dict[str, Tensor]:
        logit, intensity = self.occupancy_decoder((seen.G + seen.F_coded)[rays.voxel], rays.offset)
        bce, l1 = occupancy_losses(logit, intensity, rays)
        out = {"occupancy_iou": occupancy_iou(logit, rays.full)}
        if self.settings.occ:
            out["loss_occ"] = self.settings.occ * bce
        if self.settings.intensity:
            out["loss_intensity"] = self.settings.intensity * l1
        return out


class ImageDecoder(nn.Sequential):
    """Features of pixels to RGB in 0 .. 1 (CMCR's)."""

    def __init__(self, width: int) -> None:
        layers = [nn.Conv2d(width, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 3, padding=1), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid())


def pictures(batch: FrameBatch) -> Tensor:
    """Return the batch's pictures as (n, 3, H, W) in 0 .. 1."""
    return batch.rgb.movedim(3, 1).float() / 255


def at_stride(pairs: PixelPairs, stride: int) -> PixelPairs:
    """Return the pairs with pixels of pictures that are ``stride`` times smaller."""
    return PixelPairs(pairs.voxel, pairs.picture, pairs.pixel // stride, pairs.depth, pairs.hidden)


def distinct(voxel: Tensor, most: int) -> Tensor:
    """Return (K,) int64, a random pair of each of at most ``most`` random voxels (P,)."""
    order = torch.randperm(len(voxel), device=voxel.device)
    unique, group = torch.unique(voxel[order], return_inverse=True)
    first = _first(group, len(unique))
    return order[first[torch.randperm(len(first), device=voxel.device)[:most]]]


def with_geometry(codes: Tensor, points: Tensor, hidden: PixelPairs) -> Tensor:
    """Put the codes of points at the hidden pixels that they fall on, the nearest point where there are several.

    Args:
        codes: (n, D, h, w) codes of pixels.
        points: (M, D) codes of voxels.
        hidden: pairs at hidden pixels, at the resolution of ``codes``.
    """
    n, _, height, width = codes.shape
    hidden = hidden.select(torch.argsort(hidden.depth, stable=True))
    place = (hidden.picture * height + hidden.pixel[:, 0]) * width + hidden.pixel[:, 1]
    first = _first(place, n * height * width)
    at = (first < len(place)).nonzero()[:, 0]
    return unrolled(rows_of(codes).index_copy(0, at, points[hidden.voxel[first[at]]]), codes)


def rows_of(maps: Tensor) -> Tensor:
    """Return the pixels of (n, D, h, w) as (n h w, D)."""
    return maps.movedim(1, 3).flatten(0, 2)


def unrolled(rows: Tensor, like: Tensor) -> Tensor:
    """Undo ``rows_of``, for maps of the shape of ``like``."""
    return rows.unflatten(0, (len(like), *like.shape[2:])).movedim(3, 1)


def _first(group: Tensor, n_groups: int) -> Tensor:
    """Return (n_groups,) int64, the first row of each group among (N,), N where it has none."""
    row = torch.arange(len(group), device=group.device)
    return torch.full((n_groups,), len(group), device=group.device).scatter_reduce_(0, group, row, "amin")
