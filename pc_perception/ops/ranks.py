# SPDX-License-Identifier: Apache-2.0
"""The rank of values among given quantiles."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

BLOCK = 1024


def ranks(values: np.ndarray, steps: np.ndarray) -> Tensor:
    """Say which share of ``steps`` lies below each value; steps that equal it count half.

    Args:
        values: (N,) float32, finite.
        steps: (K,) float32.

    Returns:
        (N,) float32 in 0 .. 1. O(N K), a few vector instructions each.
    """
    out = np.empty(len(values), np.float32)
    _ranks(values, steps, out)
    return torch.from_numpy(out)


@njit(cache=True, nogil=True)
def _ranks(values: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    half = np.float32(0.5 / max(len(steps), 1))
    for start in range(0, len(values), BLOCK):
        v, o = values[start : start + BLOCK], out[start : start + BLOCK]
        o[:] = np.float32(0)
        for s in range(len(steps)):
            step = steps[s]
            for i in range(len(v)):
                o[i] += (half if v[i] > step else np.float32(0)) + (half if v[i] >= step else np.float32(0))
