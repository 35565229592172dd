# SPDX-License-Identifier: Apache-2.0
"""Two models on one object: what a segmentation says about its points counts for its class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .segmenter import SegmentationResult


def agreed(
    scores: NDArray[np.float32],
    members: list[NDArray[np.int64]],
    labelled: SegmentationResult,
    compatible: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Return the scores of objects given how sure the segmentation is of the label that their points have.

    With a mean confidence of p, classes that the label can be are worth p, others 1 - p (as if the models erred
    independently). A label that can be no class says nothing.

    Args:
        scores: (K, C).
        members: points of each object, which have one label.
        compatible: (labels, C) bool.
    """
    out = scores.copy()
    for k, rows in enumerate(members):
        label = int(labelled.labels[rows[0]])
        can_be = compatible[label] if label < len(compatible) else np.zeros(0, bool)
        if can_be.any():
            sure = float(labelled.confidence[rows].mean())
            out[k] *= np.where(can_be, sure, 1 - sure)
    return out / np.maximum(out.sum(1, keepdims=True), 1e-30)
