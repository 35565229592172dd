# SPDX-License-Identifier: Apache-2.0
"""Voting: the mean over several random views of an object in place of its one test view.

Point-MAE's script repeats a vote of ten 299 times and reports the largest; nothing here does. A result with
votes says so by ``label``, and belongs beside other results with votes only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pc_perception.cloud import PointCloud
from training.object_views import ObjectView


def label(votes: int) -> str:
    """Say how a number came about: ``single view`` or ``10-vote``."""
    return f"{votes}-vote" if votes else "single view"


def mean_logits(
    classify: Callable[[Tensor], Tensor], cloud: PointCloud, view: ObjectView, votes: int = 0, seed: int = 0
) -> Tensor:
    """Return (C,) logits of an object: of its test view, or with ``votes`` the mean over training views.

    Args:
        classify: (B, N, 3) float32 to (B, C) logits.
        votes: views; 0 for no voting.
        seed: of the views.

    Raises:
        ValueError: the object cannot be used.
    """
    views = [view(cloud, np.random.default_rng([seed, 14, k])) for k in range(votes)]
    points = np.stack(views or [view(cloud)])
    with torch.inference_mode():
        return classify(torch.from_numpy(points)).mean(0)
