# SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation of S3DIS blocks: IoU over the sampled points of blocks.

Not comparable with scores of whole rooms. Published runs keep the best epoch on the test area, whose blocks are
drawn anew every time; here the blocks of a seed are always the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pc_perception.metrics import Confusion
from training.data.objects import check_share
from training.data.s3dis_blocks import S3DISBlocks

RULE = "over the sampled points of blocks; mIoU is the mean over classes present in the ground truth"


def evaluate_blocks(
    segment: Callable[[Tensor], Tensor], data: S3DISBlocks, batch_size: int = 32
) -> tuple[Confusion, list[str]]:
    """Segment every block and count.

    Args:
        segment: (B, 2048, 3) float32, x and y about the column's middle and z above the floor, metres, to
            (B, 2048, C) scores.

    Returns:
        The confusion matrix, and the blocks that were skipped, with the reason.

    Raises:
        ValueError: more than 1 % of the blocks cannot be used, or the blocks have no labels.
    """
    if not data.n_classes:
        raise ValueError("these blocks have no classes; name a label_set, such as s3dis13")
    confusion, bad = Confusion(data.n_classes), []
    waiting: list[Any] = []
    for i in range(len(data)):
        try:
            waiting.append(data[i])
        except (ValueError, OSError) as error:
            bad.append(f"{data.name(i)}: {error}")
        if len(waiting) == batch_size or (waiting and i == len(data) - 1):
            with torch.inference_mode():
                scores = segment(torch.from_numpy(np.stack([cloud.xyz for cloud in waiting])))
            for cloud, found in zip(waiting, scores.argmax(-1).cpu().numpy(), strict=True):
                confusion.add(np.asarray(cloud.fields["label"]), found)
            waiting = []
    check_share(bad, len(data))
    return confusion, bad
