# SPDX-License-Identifier: Apache-2.0
"""The base of all methods' models: moves our batches to the device and hands them to ``losses``."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor


class BatchMover(BaseDataPreprocessor):
    """Move a batch to the model's device; all other preparation is the input contract's."""

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        """Return ``{"batch": batch on the device}``."""
        return {"batch": data.to(self.device)}


class TrainingModel(BaseModel):
    """A model that knows its losses; mmengine runs backward and the optimiser."""

    def __init__(self) -> None:
        super().__init__(data_preprocessor=BatchMover())

    def forward(self, batch: Any, mode: str = "loss") -> dict[str, Tensor]:
        """Return named scalars; those whose name begins with ``loss`` are added and minimised."""
        if mode != "loss":
            raise ValueError(f"mode '{mode}' is not offered; models are run from their model file")
        return self.losses(batch)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses of one batch."""
        raise NotImplementedError

    def after_step(self, fraction: float) -> None:
        """Do what the method does after each step of the optimiser; ``fraction`` of the run is done."""

    def after_init(self) -> None:
        """Spread what a model file was loaded into (``Method.deployable``) to the rest of the model."""
