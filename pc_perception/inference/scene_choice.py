# SPDX-License-Identifier: Apache-2.0
"""Which clouds of a recording to label by hand: few that together show most of what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.models.segmenters import SEGMENTERS

from .contract import InputContract
from .loading import choose_device
from .model_file import build, read_model_file


class SceneDescriber:
    """The encoder of a model of scenes, labels or none, that tells a whole cloud in one vector.

    Args:
        model: a segmenter's file or name, or an encoder pre-trained without labels.
        device: as ``load_model`` takes it.

    Raises:
        FileNotFoundError, ValueError: as ``read_model_file``, or the file is not of a model of scenes.
    """

    def __init__(self, model: str | Path, device: str = "auto") -> None:
        self.device = choose_device(device)
        header, tensors = read_model_file(model)
        name = header.architecture["name"]
        if name not in SEGMENTERS or not isinstance(header.contract, InputContract):
            raise ValueError(f"'{model}' holds a {name}, which does not describe scenes")
        encoder: Any = build(header).encoder
        own = {k.removeprefix("encoder."): v for k, v in tensors.items() if k.startswith("encoder.")}
        encoder.load_state_dict(own, assign=True)
        self.encoder = encoder.to(self.device).eval().requires_grad_(False)
        self.contract = header.contract

    def __call__(self, cloud: PointCloud) -> NDArray[np.float64]:
        """Return the mean (C,) of the encoder's features over the voxels of one cloud; zeros where it has none."""
        prepared = self.contract.prepare(cloud, self.encoder.n_levels, self.device)
        if not len(prepared.features):
            return np.zeros(self.encoder.width)
        with torch.inference_mode():
            return self.encoder(prepared.features, prepared.pyramid).double().mean(0).cpu().numpy()


def choose(descriptors: NDArray, n: int) -> list[int]:
    """Choose clouds so that every other is like one of them: medoids of ``n`` clusters.

    A stand of minutes counts once, as it would not in a choice by time. k-means from farthest-first places (Gonzalez,
    1985), without chance; whether it saves labels against a choice by time we have not measured.

    Args:
        descriptors: (K, C), K >= n.
        n: how many.

    Returns:
        ``n`` different indices, ascending. O(K C n) a round, at most 20 rounds.
    """
    x = (descriptors - descriptors.mean(0)) / np.maximum(descriptors.std(0), 1e-12)
    chosen = [int(np.square(x).sum(1).argmin())]
    gap = np.square(x - x[chosen[0]]).sum(1)
    while len(chosen) < n:
        gap[chosen] = -1.0  # where clouds are equal too, each is taken once
        chosen.append(int(gap.argmax()))
        gap = np.minimum(gap, np.square(x - x[chosen[-1]]).sum(1))
    for _ in range(20):
        owner = np.stack([np.square(x - x[i]).sum(1) for i in chosen]).argmin(0)
        owner[chosen] = np.arange(n)
        before, chosen = chosen, [_medoid(x, np.flatnonzero(owner == k)) for k in range(n)]
        if chosen == before:
            break
    return sorted(chosen)


def _medoid(x: NDArray, members: NDArray) -> int:
    own = x[members]
    return int(members[np.square(own - own.mean(0)).sum(1).argmin()])
