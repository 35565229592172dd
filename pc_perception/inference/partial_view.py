# SPDX-License-Identifier: Apache-2.0
"""Tokens of an object that was seen from one side: how large it is and where it faces is not seen, and is chosen.

Ours; Point-MGE completes nothing. A cube for the whole shape is proposed for every heading and for several depths
behind what was seen; in each the points become tokens; the cube is taken in which every other token is likeliest given
the rest, as the generator judges. Height is taken as seen: sensors stand beside objects, not below or above them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.geometry import rotation_z
from pc_perception.models.patches import Patches, make_patches
from pc_perception.models.shape_generator import AXES, ShapeNetwork
from pc_perception.models.shape_tokenizer import ShapeTokenizer, ShapeTokens

from .shape_contract import Placement

N_YAWS = 8
BEHIND = (0.0, 0.35, 0.8)
"""Depths that are proposed behind what was seen, in half edges of the box around it."""
AT_ONCE = 64
N_JUDGED, N_SLOTS = 8, 16
"""Tokens that a cube is judged by, and slots that each is looked for in."""


@dataclass(frozen=True)
class PartialView:
    """The patches of a part of a shape, cut once; a turn, shift or scale of the cube changes nothing in the cut.

    Attributes:
        xyz: (n, 3) float64, points as a cloud of the whole shape would have there, metres, z up.
        centers: (G, 3) float64, farthest points; the first K of them are those of any smaller K.
        apart: (G,) float64, metres from each centre to the nearest before it.
        n_patches: the most patches that a part may have.
        patch_size: points in a patch.
    """

    xyz: NDArray[np.float64]
    centers: NDArray[np.float64]
    apart: NDArray[np.float64]
    n_patches: int
    patch_size: int

    @classmethod
    def of(cls, points: NDArray[np.float32], tokenizer: ShapeTokenizer, n_points: int) -> PartialView:
        """Cut (n, 3) points of an object."""
        if len(points) > n_points:
            points = points[np.random.default_rng(0).permutation(len(points))[:n_points]]
        middle = points.mean(0, dtype=np.float64)
        xyz = points - middle
        reach = np.abs(xyz).max()
        n = min(tokenizer.n_patches, len(points))
        cut = make_patches(torch.from_numpy((xyz / reach).astype(np.float32))[None], n, 1)
        centers = cut.centers[0].double().numpy() * reach + middle
        gaps = np.linalg.norm(centers[:, None] - centers, axis=2)
        apart = np.array([np.inf, *(gaps[i, :i].min() for i in range(1, n))])
        most = min(tokenizer.n_patches - 1, n)
        return cls(points.astype(np.float64), centers, apart, most, tokenizer.patch_size)

    def n_seen(self, spacing: float) -> int:
        """Return how many patches lie about as far apart, in metres, as those of a whole shape do."""
        return int(np.clip((self.apart >= 0.9 * spacing).sum(), 1, self.n_patches))

    def tokens(
        self,
        tokenizer: ShapeTokenizer,
        placements: Sequence[Placement],
        device: torch.device,
        n_seen: int = 0,
    ) -> ShapeTokens:
        """Return (P, K) tokens of the part in each cube; K is ``n_seen``, or what the first cube's scale gives."""
        k = n_seen or self.n_seen(float(tokenizer.spacing) * placements[0].scale)
        patches = self._cut(k, placements[0])
        turns = [rotation_z(p.yaw - placements[0].yaw) for p in placements]
        scales = [placements[0].scale / p.scale for p in placements]
        points = np.stack([patches @ t * s for t, s in zip(turns, scales, strict=True)])
        centers = np.stack([p.into_cube(self.centers[:k]) for p in placements])
        return tokenizer.tokenize(
            Patches(torch.from_numpy(centers).to(device), torch.from_numpy(points).float().to(device))
        )

    def _cut(self, k: int, placement: Placement) -> NDArray[np.float32]:
        """Return (K, patch_size, 3) points about their centres, in the cube's coordinates.

        A patch reaches as far as it would in a cloud of the whole shape: it holds its share of the points, repeated
        where that is fewer than ``patch_size``.
        """
        distance = np.linalg.norm(self.centers[:k, None] - self.xyz, axis=2)
        share = int(np.clip(round(len(self.xyz) / k), 1, len(self.xyz)))
        nearest = np.argpartition(distance, share - 1, axis=1)[:, :share]
        rng = np.random.default_rng(0)
        if share >= self.patch_size:
            nearest = rng.permuted(nearest, axis=1)[:, : self.patch_size]
        else:
            nearest = np.take(nearest, np.arange(self.patch_size) % share, axis=1)
        local = (self.xyz[nearest] - self.centers[:k, None]) @ rotation_z(placement.yaw)
        return (local / placement.scale).astype(np.float32)


def propose(points: NDArray, yaws: Sequence[float]) -> list[Placement]:
    """Return cubes that may hold the whole of an object that was seen as (n, 3) points from the origin."""
    found = []
    for yaw in yaws:
        turned = points @ rotation_z(yaw)
        low, high = turned.min(0), turned.max(0)
        edge = float((high - low).max()) / 2
        # The far side along each horizontal axis; where the sensor stands beside the object along it, neither.
        away = np.where(low > 0, 1.0, np.where(high < 0, -1.0, 0.0))[:2]
        for behind in {(a * away[0], b * away[1]) for a in BEHIND for b in BEHIND}:
            extra = np.array([*behind, 0.0]) * edge
            least, most = low + np.minimum(extra, 0), high + np.maximum(extra, 0)
            scale = float((most - least).max()) / 2
            found.append(Placement(rotation_z(yaw) @ ((least + most) / 2), scale, float(yaw)))
    return found


def choose_placement(
    network: ShapeNetwork, view: PartialView, label: int, yaw: float | None, device: torch.device
) -> Placement:
    """Return the cube in which the part's tokens fit best; see above."""
    yaws = [yaw] if yaw is not None else [2 * np.pi * i / N_YAWS for i in range(N_YAWS)]
    cubes = propose(view.xyz, yaws)
    scales = sorted(p.scale for p in cubes)
    k = view.n_seen(float(network.tokenizer.spacing) * scales[len(scales) // 2])
    scores = []
    for start in range(0, len(cubes), AT_ONCE):
        some = cubes[start : start + AT_ONCE]
        tokens = view.tokens(network.tokenizer, some, device, k)
        scores.append(likelihood(network, tokens, torch.full((len(some),), label, device=device)))
    return cubes[int(torch.cat(scores).argmax())]


def likelihood(network: ShapeNetwork, tokens: ShapeTokens, labels: Tensor) -> Tensor:
    """Return (P,) mean log-probability of some of the tokens given the others and that there are more to come."""
    k = tokens.ids.shape[1]
    if k < 2:
        return torch.zeros(len(labels), device=labels.device)
    judged = torch.arange(1, k, 2)[:N_JUDGED]
    rest = torch.tensor(sorted({*range(k)} - {*judged.tolist()}))
    judged, rest = (i.to(labels.device).expand(len(labels), -1) for i in (judged, rest))
    n_hidden = network.tokenizer.n_patches - rest.shape[1]
    slots = network.slots(tokens.take(rest), labels, n_hidden)
    # Which slot a token belongs to is not known: it may be any of them.
    some = torch.linspace(0, n_hidden - 1, min(N_SLOTS, n_hidden)).round().long()
    return _mixture(network, slots[:, some.to(slots.device)], tokens.take(judged)).mean(1)


def _mixture(network: ShapeNetwork, slots: Tensor, wanted: ShapeTokens) -> Tensor:
    """Return (P, L) log of the mean, over slots (P, M, C), of each token's probability."""
    m, n = slots.shape[1], wanted.ids.shape[1]
    pairs = slots[:, :, None].expand(-1, -1, n, -1).flatten(1, 2)
    tokens = ShapeTokens(wanted.ids.repeat(1, m), wanted.bins.repeat(1, m, 1))
    *axes, codes = network.generator.chain(pairs, tokens)
    parts = [(axes[i], tokens.bins[..., axis]) for i, axis in enumerate(AXES)]
    found = [x.log_softmax(-1).gather(-1, v[..., None])[..., 0] for x, v in [*parts, (codes, tokens.ids)]]
    return torch.stack(found).sum(0).unflatten(1, (m, n)).logsumexp(1) - float(np.log(m))
