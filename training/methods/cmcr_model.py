# SPDX-License-Identifier: Apache-2.0
"""CMCR's networks and how its terms come together; settings and sources are in ``cmcr``."""

from __future__ import annotations

import logging

import torch
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
from .occupancy import OccupancyDecoder, occupancy_iou, occupancy_losses

_log = logging.getLogger(__name__)


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

    def losses(self, batch: FrameBatch) -> dict[str, Tensor]:
        """Return the weighted terms and figures that show whether they work."""
        settings, rgb = self.settings, batch.rgb.movedim(3, 1).float() / 255
        voxels = self.encoder(batch.features, batch.pyramid)
        # In float32 whatever autocast does: the codebook and the scatters add up.
        F = functional.normalize(self.shared(voxels).float(), dim=1)
        mean = self.specific(voxels).float()
        G = mean
        if settings.kl and self.training:
            G = mean + torch.randn_like(mean) * (self.log_variance / 2).exp()
        maps = self.trunk(rgb * ~batch.hidden[:, None])
        F_image = functional.normalize(self.image_shared(maps).float(), dim=1)
        G_image = self.image_specific(maps).float()
        pairs = at_stride(batch.pairs, settings.pixel_stride)
        F_coded, out = self._coded(F), {}
        if settings.rec:
            codes = unrolled(self._coded(rows_of(F_image)), F_image)
            if settings.geometry:
                codes = with_geometry(codes, F_coded, pairs.select(pairs.hidden))
            out |= self._reconstruct(G_image + codes, rgb)
        if settings.occ or settings.intensity:
            out |= self._occupancy(G + F_coded, batch)
        out |= self._contrast(F, F_image, pairs, batch.segments)
        if settings.orth:
            out["loss_orth"] = settings.orth * orthogonality(F, G)
        if settings.orth_image:
            out["loss_orth_image"] = settings.orth_image * orthogonality(rows_of(F_image), rows_of(G_image))
        if settings.kl:
            out["loss_kl"] = settings.kl * gaussian_kl(mean, self.log_variance)
        return out

    def _coded(self, features: Tensor) -> Tensor:
        return self.codebook.quantise(features) if self.settings.codebook else features

    def _contrast(
        self, F: Tensor, F_image: Tensor, pairs: PixelPairs, segments: Tensor | None
    ) -> dict[str, Tensor]:
        """Return what acts between points and the visible pixels that show them; move the codebook."""
        settings, out = self.settings, {}
        seen = pairs.select(~pairs.hidden)
        if settings.superpixel and segments is not None:
            step = settings.pixel_stride
            segment = segments[:, step // 2 :: step, step // 2 :: step]
            own = segment[seen.picture, seen.pixel[:, 0], seen.pixel[:, 1]]
            points, pixels = pooled_pairs(F[seen.voxel], own, F_image, segment)
            unit = (functional.normalize(x, dim=1) for x in (points, pixels))
            out["loss_superpixel"] = settings.superpixel * info_nce(*unit, settings.temperature)
        # Every voxel once: two pairs of one voxel would have to tell equal features apart.
        seen = seen.select(distinct(seen.voxel, settings.pairs))
        point, pixel = F[seen.voxel], F_image[seen.picture, :, seen.pixel[:, 0], seen.pixel[:, 1]]
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

    def _reconstruct(self, features: Tensor, rgb: Tensor) -> dict[str, Tensor]:
        """Return the error of the picture over all pixels, hidden or not (card §4.4)."""
        target = functional.avg_pool2d(rgb, self.settings.pixel_stride)
        error = functional.mse_loss(self.image_decoder(features), target)
        return {"loss_rec": self.settings.rec * error, "psnr_db": psnr(error.detach())}

    def _occupancy(self, features: Tensor, batch: FrameBatch) -> dict[str, Tensor]:
        rays = batch.occupancy
        logit, intensity = self.occupancy_decoder(features[rays.voxel], rays.offset)
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
