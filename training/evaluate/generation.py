# SPDX-License-Identifier: Apache-2.0
"""Sets of generated clouds against sets of real ones: MMD, COV, 1-NNA (Yang et al., "PointFlow", 2019, section 5.1).

With d a distance of clouds, R the reference and G the generated set:

- MMD: mean over R of the distance to the nearest of G; small is good, blind to what else is in G.
- COV: share of R that is the nearest real cloud of some of G; a set that repeats itself has little of it.
- 1-NNA: how often the nearest other cloud of R and G together is of one's own set. 0.5: the sets cannot be told
  apart; towards 1: they can; below 0.5: G repeats R. Of equally near clouds each counts in part, so that two sets
  with the same clouds have 0, each cloud lying on its copy.

Distances: CD, mean squared distances both ways summed; EMD, mean distance of the best one-to-one assignment, through
scipy, on the first ``n_emd`` points of each cloud (its time grows with the cube of their number).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.ops.neighbors import k_nearest

N_EMD = 256
_TIE = 1e-9
"""Distances that differ by less count as equal."""


@dataclass(frozen=True)
class SetScores:
    """MMD, COV and 1-NNA under one distance."""

    mmd: float
    cov: float
    one_nna: float


@dataclass(frozen=True)
class GenerationScores:
    """Under both distances; ``emd`` of ``n_emd`` points a cloud, None where it was left out."""

    cd: SetScores
    emd: SetScores | None
    n_generated: int
    n_reference: int
    n_points: int
    n_emd: int


def chamfer_matrix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(A, B) Chamfer distances of (A, N, 3) from (B, M, 3) clouds."""
    out = np.empty((len(a), len(b)))
    others = torch.from_numpy(np.ascontiguousarray(b))
    for i, cloud in enumerate(a):
        own = torch.from_numpy(np.ascontiguousarray(cloud)).expand(len(b), -1, -1)
        there, back = k_nearest(others, 1, own)[1], k_nearest(own, 1, others)[1]
        out[i] = (there.square().mean((1, 2)) + back.square().mean((1, 2))).numpy()
    return out


def emd_matrix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(A, B) earth mover's distances of (A, N, 3) from (B, N, 3) clouds.

    Raises:
        ValueError: the clouds differ in size.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"EMD assigns points one to one; clouds of {a.shape[1]} and {b.shape[1]} points do not fit"
        )
    out = np.empty((len(a), len(b)))
    for i, j in np.ndindex(*out.shape):
        cost = cdist(a[i], b[j])
        out[i, j] = cost[linear_sum_assignment(cost)].mean()
    return out


def mmd(generated_reference: NDArray) -> float:
    """Minimum matching distance of a (G, R) matrix."""
    return float(generated_reference.min(0).mean())


def coverage(generated_reference: NDArray) -> float:
    """Coverage of a (G, R) matrix: of equally near real clouds, the first is taken."""
    return len(np.unique(generated_reference.argmin(1))) / generated_reference.shape[1]


def one_nearest_neighbor_accuracy(
    generated: NDArray, generated_reference: NDArray, reference: NDArray
) -> float:
    """1-NNA of (G, G), (G, R) and (R, R) matrices; every set's clouds count alike."""
    n = len(generated)
    whole = np.block([[generated, generated_reference], [generated_reference.T, reference]]).astype(
        np.float64
    )
    np.fill_diagonal(whole, np.inf)
    nearest = whole <= whole.min(1, keepdims=True) + _TIE
    own = np.zeros(whole.shape, bool)
    own[:n, :n] = own[n:, n:] = True
    return float(((nearest & own).sum(1) / nearest.sum(1)).mean())


def score_generation(
    generated: NDArray[np.float32], reference: NDArray[np.float32], n_emd: int = N_EMD
) -> GenerationScores:
    """Compare (G, N, 3) generated with (R, N, 3) real clouds, all in the same cube or all on the unit sphere.

    Args:
        n_emd: points of each cloud for EMD; 0 leaves it out.

    Raises:
        ValueError: a set has fewer than two clouds, sizes differ, or a number is not finite.
    """
    for what, clouds in (("generated", generated), ("reference", reference)):
        if clouds.ndim != 3 or clouds.shape[2] != 3 or len(clouds) < 2 or not clouds.shape[1]:
            raise ValueError(f"the {what} set must be at least two clouds, (M, N, 3); it is {clouds.shape}")
        if not np.isfinite(clouds).all():
            raise ValueError(f"the {what} set holds NaN or Inf; leave those clouds out")
    if generated.shape[1] != reference.shape[1]:
        raise ValueError(
            f"generated clouds have {generated.shape[1]} points, real ones {reference.shape[1]}; draw as many of both"
        )
    n_emd = min(n_emd, generated.shape[1])
    cd = _scores(chamfer_matrix, generated, reference)
    emd = _scores(emd_matrix, generated[:, :n_emd], reference[:, :n_emd]) if n_emd else None
    return GenerationScores(cd, emd, len(generated), len(reference), generated.shape[1], n_emd)


def _scores(distances, generated: NDArray, reference: NDArray) -> SetScores:  # type: ignore[no-untyped-def]
    across = distances(generated, reference)
    own = one_nearest_neighbor_accuracy(
        distances(generated, generated), across, distances(reference, reference)
    )
    return SetScores(mmd(across), coverage(across), own)


def copies(train: Sequence[NDArray[np.float32]], n: int, rng: Generator) -> NDArray[np.float32]:
    """Baseline: (n, N, 3) clouds of the training set, none twice while there are enough."""
    rows = rng.choice(len(train), n, replace=n > len(train))
    return np.stack([train[i] for i in rows])


def noise(like: NDArray[np.float32], n: int, rng: Generator) -> NDArray[np.float32]:
    """Baseline: (n, N, 3) clouds of normal noise with the mean and spread that (M, N, 3) clouds have together."""
    every = like.reshape(-1, 3)
    return rng.normal(every.mean(0), every.std(0), (n, like.shape[1], 3)).astype(np.float32)


def nearest_shape(partial: NDArray[np.float32], shapes: NDArray[np.float32]) -> int:
    """Baseline of completion: the row of (M, N, 3) whole clouds that (K, 3) points of a part lie nearest to.

    Squared distances are averaged from the part to the whole only: what is not seen must not count.
    """
    own = torch.from_numpy(np.ascontiguousarray(partial)).expand(len(shapes), -1, -1)
    distance = k_nearest(torch.from_numpy(np.ascontiguousarray(shapes)), 1, own)[1]
    return int(distance.square().mean((1, 2)).argmin())
