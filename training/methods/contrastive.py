# SPDX-License-Identifier: Apache-2.0
"""Contrast of features that belong together, and CMCR's other losses between two modalities (arXiv 2412.08973)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pc_perception.ops.scatter import scatter_mean

LEAST_SQUARE = 1e-12
"""Squared distances are kept above this: the gradient of a root at 0 is not a number."""


def info_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of finding each query's own key among all: ln N at random (PPKT, SLidR).

    Args:
        query, key: (N, D) unit vectors, row i of one belongs to row i of the other.
    """
    logits = query @ key.T / temperature
    return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def info_nce_both_ways(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Return the mean of ``info_nce`` from ``a`` to ``b`` and back."""
    return (info_nce(a, b, temperature) + info_nce(b, a, temperature)) / 2


@torch.no_grad()
def retrieval(query: Tensor, key: Tensor) -> Tensor:
    """Return the share of queries whose most similar key is their own; 1 / N at random."""
    best = (query @ key.T).argmax(1)
    return (best == torch.arange(len(query), device=query.device)).float().mean()


def pooled_pairs(
    points: Tensor, point_segment: Tensor, maps: Tensor, segments: Tensor
) -> tuple[Tensor, Tensor]:
    """Average features over superpixels; those without points are left out (SLidR, arXiv 2203.16258, equation 1).

    Args:
        points: (P, D) features of points.
        point_segment: (P,) int64, the superpixel each lies in, numbered through all pictures.
        maps: (n, D, h, w) features of pixels.
        segments: (n, h, w) int64, numbered alike; a superpixel may have no pixel at this resolution.

    Returns:
        Two (S, D): mean over the points and over the pixels of each superpixel that has both.
    """
    n = int(segments.max()) + 1 if segments.numel() else 0
    n = max(n, int(point_segment.max()) + 1 if len(point_segment) else 0)
    pixels = maps.movedim(1, 3).flatten(0, 2)
    has_both = (
        torch.bincount(point_segment, minlength=n).bool()
        & torch.bincount(segments.flatten(), minlength=n).bool()
    )
    by_points, by_pixels = scatter_mean(points, point_segment, n), scatter_mean(pixels, segments.flatten(), n)
    rows = has_both.nonzero()[:, 0]
    return by_points[rows], by_pixels[rows]


def commitment(own: Tensor, own_code: Tensor, paired_code: Tensor) -> Tensor:
    """Return how far features (N, D) are from their code, twice, and from their partner's code."""
    to_own = functional.mse_loss(own, own_code.detach())
    return 2 * to_own + functional.mse_loss(own, paired_code.detach())


def code_posterior(features: Tensor, codes: Tensor) -> Tensor:
    """Return (N, V) softmax of minus the distance of features (N, D) from codes (V, D)."""
    square = features.square().sum(1, keepdim=True) - 2 * features @ codes.T + codes.square().sum(1)
    return (-square.clamp(min=LEAST_SQUARE).sqrt()).softmax(1)


def code_matching(p: Tensor, q: Tensor) -> Tensor:
    """Return the cross-entropy of matching code posteriors across modalities: ln N where all are flat.

    Args:
        p, q: (N, V) of the same places; similarity is p_i log q_j + q_j log p_i.
    """
    log_p, log_q = (p + 1e-10).log(), (q + 1e-10).log()
    similarity = p @ log_q.T + log_p @ q.T
    return functional.cross_entropy(similarity, torch.arange(len(p), device=p.device))


def orthogonality(shared: Tensor, specific: Tensor) -> Tensor:
    """Return the Frobenius norm of F^T G over the rows, / D^2, with the rows of G made unit.

    A sum over rows: about sqrt(N) / D^2 for independent unit features, N / (sqrt(D) D^2) for equal ones.
    """
    product = shared.T @ functional.normalize(specific, dim=1)
    return product.square().sum().clamp(min=LEAST_SQUARE).sqrt() / shared.shape[1] ** 2


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of N(mean, exp(log_variance)) from N(0, 1), mean over rows and columns.

    The paper has a KL term on the specific 3D feature without its form; this one is proposed by us.
    """
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).mean()


@torch.no_grad()
def psnr(mean_square_error: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of images in 0 .. 1, decibels."""
    return -10 / math.log(10) * mean_square_error.clamp(min=1e-10).log()
