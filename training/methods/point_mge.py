# SPDX-License-Identifier: Apache-2.0
"""Point-MGE, stage 2: hide tokens of a shape and name them from the rest, more of them as the run goes on.

Source: "Masked generative extractor for synergistic representation and 3D generation of point clouds", arXiv
2406.17342, after MAGE; what the paper does not say is ours: cross-entropy of hidden
codes with label smoothing 0.1, and of their centres over 256 bins an axis, weight 1/3 each; half of the batches show
the extractor continuous patches, as downstream, half codes, as in generation. An addition: in a share of the
batches the tokens of one side are hidden, as from a sensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.patches import Patches
from pc_perception.models.shape_generator import AXES, ShapeNetwork, in_order
from pc_perception.models.shape_tokenizer import ShapeTokenizer, ShapeTokens
from training.shape_fields import FieldBatch, FieldRecord, FieldSample, collate_fields, draw_field

from .masking_ratio import MaskingRatio, n_hidden
from .method import Task
from .model import TrainingModel


@dataclass(frozen=True)
class PointMge:
    """Settings of stage 2.

    Attributes:
        tokenizer: model file of stage 1, or of a model of shapes (``shapes`` for the shipped one), whose is taken.
        ratio: how many tokens are hidden.
        label_smoothing: of the codes' cross-entropy.
        center_weight: of the three coordinates' together.
        codes: share of the batches in which the extractor sees codes.
        one_sided: share of the batches in which the hidden tokens are those farthest along some direction.
        class_drop: share of the shapes whose class is not told, so that it need not be given; 1: no labels at all.
        width, depth, heads: of the generator.
    """

    tokenizer: str = ""
    ratio: MaskingRatio = field(default_factory=MaskingRatio)
    label_smoothing: float = 0.1
    center_weight: float = 1.0
    codes: float = 0.5
    one_sided: float = 0.25
    class_drop: float = 0.1
    width: int = 384
    depth: int = 4
    heads: int = 6
    task: ClassVar[str] = "shapes"

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        self.ratio.validate()
        shares = (self.label_smoothing, self.codes, self.one_sided, self.class_drop)
        if not all(0 <= s <= 1 for s in shares) or self.center_weight < 0:
            raise ValueError(
                "method.label_smoothing, codes, one_sided and class_drop must lie in 0 .. 1, center_weight not be"
                " negative"
            )
        if not self.tokenizer:
            raise ValueError("method.tokenizer is empty; train one: pc-train point_mge_tokenizer")

    def architecture(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return what the model file says about its network."""
        generator = {"width": self.width, "depth": self.depth, "heads": self.heads}
        parts = {"tokenizer": self._tokenizer()[0], "encoder": arguments, "generator": generator}
        return {"name": "ShapeNetwork", "arguments": parts}

    def sample(self, record: FieldRecord, rng: Generator, task: Task) -> FieldSample:
        """Draw points of one shape."""
        return draw_field(record, rng, task.contract.n_points, n_queries=0)

    def collate(self, samples: Sequence[FieldSample]) -> FieldBatch:
        """Stack shapes."""
        return collate_fields(samples)

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PointMgeModel:
        """Return the tokenizer of stage 1 with an extractor and a generator of random weights."""
        arguments, tensors = self._tokenizer()
        tokenizer = ShapeTokenizer(**arguments)
        tokenizer.load_state_dict(tensors)
        generator = (self.width, self.depth, self.heads)
        network = ShapeNetwork(tokenizer, ObjectEncoder(**task.encoder), task.n_classes, *generator)
        return PointMgeModel(network, self)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return all three parts; classifiers find the extractor in it as ``encoder``."""
        assert isinstance(model, PointMgeModel)
        return model.network

    def _tokenizer(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        from pc_perception.inference.model_file import read_model_file

        header, tensors = read_model_file(self.tokenizer)
        if header.task not in ("tokenizer", "shapes"):
            raise ValueError(
                f"method.tokenizer: '{self.tokenizer}' is for '{header.task}'; train one: pc-train point_mge_tokenizer"
            )
        arguments = header.architecture["arguments"]
        if header.task == "tokenizer":
            return arguments, tensors
        prefix = "tokenizer."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        return arguments["tokenizer"], own


class PointMgeModel(TrainingModel):
    """The three parts with their losses."""

    def __init__(self, network: ShapeNetwork, settings: PointMge) -> None:
        super().__init__()
        size, patch_size = network.tokenizer.n_patches, network.tokenizer.patch_size
        if (network.encoder.n_patches, network.encoder.patch_size) != (size, patch_size):
            raise ValueError(
                f"the tokenizer cuts shapes into {size} patches of {patch_size} points; set encoder.n_patches and"
                " patch_size to the same"
            )
        self.network, self.settings, self.fraction = network, settings, 0.0

    def after_step(self, fraction: float) -> None:
        """Note how much of the run is done: the masking ratio follows."""
        self.fraction = fraction

    def losses(self, batch: FieldBatch) -> dict[str, Tensor]:
        """Hide as many tokens of each shape of a batch, and name them."""
        network, how = self.network, self.settings
        patches = network.tokenizer.patches(batch.points)
        tokens = network.tokenizer.tokenize(patches)
        ratio = float(how.ratio.at(self.fraction, float(torch.rand(()))))
        order = self.order(tokens)
        n_seen = order.shape[1] - n_hidden(ratio, order.shape[1])
        seen, hidden = order[:, :n_seen], in_order(tokens, order[:, n_seen:])
        dropped = torch.rand(len(order), device=order.device) < how.class_drop
        labels = batch.labels.masked_fill(dropped, -1)
        return {**self.name_hidden(patches, tokens, seen, hidden, labels), "ratio": torch.tensor(ratio)}

    def order(self, tokens: ShapeTokens) -> Tensor:
        """Return (B, G) int64, the order in which tokens are hidden, last first: at random, or side by side."""
        noise = torch.rand(tokens.ids.shape, device=tokens.ids.device)
        if float(torch.rand(())) >= self.settings.one_sided:
            return noise.argsort(1)
        side = functional.normalize(torch.randn(len(noise), 3, device=noise.device), dim=1)
        along = (tokens.centers @ side[:, :, None])[..., 0]
        return (along + 0.2 * noise).argsort(1)

    def name_hidden(
        self, patches: Patches, tokens: ShapeTokens, seen: Tensor, hidden: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses of ``hidden`` tokens (B, M), given ``seen`` ones (B, K) and labels (B,)."""
        network, how = self.network, self.settings
        known, wanted = tokens.take(seen), tokens.take(hidden)
        if not seen.shape[1] or float(torch.rand(())) < how.codes:
            embedded = network.codes(known.ids)
        else:
            embedded = network.encoder.embedding(patches.take(seen).points)
        encoded = network.extract(embedded, known.centers, labels)
        slots = network.generator(encoded, known.centers, hidden.shape[1])
        *axes, codes = network.generator.chain(slots, wanted)
        loss = functional.cross_entropy(
            codes.flatten(0, 1), wanted.ids.flatten(), label_smoothing=how.label_smoothing
        )
        places = [
            functional.cross_entropy(x.flatten(0, 1), wanted.bins[..., axis].flatten())
            for x, axis in zip(axes, AXES, strict=True)
        ]
        right = (codes.argmax(-1) == wanted.ids).float().mean()
        return {
            "loss_codes": loss,
            "loss_centers": how.center_weight / 3 * torch.stack(places).sum(),
            "accuracy": right,
        }
