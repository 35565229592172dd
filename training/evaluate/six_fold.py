# SPDX-License-Identifier: Apache-2.0
"""The six-fold protocol of S3DIS: model i is tested on area i, which it was not trained on.

The six confusion matrices are added before any figure is read off them (``training.metrics.pooled``); the
mean of the six areas' mIoUs is another number and not the protocol's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from training.data.dataset import CloudDataset
from training.data.s3dis import AREAS
from training.data.specs import DataOptions, open_one


def open_folds(data: str, options: DataOptions) -> list[CloudDataset]:
    """Return the test data of the six folds, areas 1 to 6, from ``s3dis:DIR``.

    Raises:
        ValueError: the kind of data or ``options.areas`` do not fit the protocol.
        FileNotFoundError: areas, or files of rooms, are missing; all of them are named.
    """
    if data.partition(":")[0] != "s3dis" or "," in data or options.areas:
        raise ValueError(f"six folds are the areas of S3DIS: use s3dis:DIR without areas, not '{data}'")
    open_one(data, replace(options, areas=AREAS))  # names what all of them lack
    return [open_one(data, replace(options, areas=(area,))) for area in AREAS]


def check_models(models: Sequence[str], provenance: Sequence[Mapping[str, Any]]) -> None:
    """Refuse models that cannot be those of the six folds.

    Args:
        models: files, of areas 1 to 6 in this order.
        provenance: what each says of its training.

    Raises:
        ValueError: they are not six, or one says that it was trained on the area that it is to be tested on.
    """
    if len(models) != len(AREAS):
        raise ValueError(f"six folds need six models, of areas 1 to 6 in this order; there are {len(models)}")
    for area, model, story in zip(AREAS, models, provenance, strict=True):
        config = story.get("config") or {}
        trained = [str(a).removeprefix("Area_") for a in config.get("areas", ())]
        if "s3dis" in str(config.get("data", "")) and (not trained or area in trained):
            areas = f"areas {', '.join(trained)}" if trained else "all areas"
            raise ValueError(f"'{model}' was trained on {areas} of S3DIS, it cannot be tested on area {area}")
