# SPDX-License-Identifier: Apache-2.0
"""PointACL: after a host's own pre-training, hide the patches that get most attention and keep the global feature.

Source: "Point cloud understanding via attention-driven contrastive learning", arXiv 2411.14744. Known: the
two phases, the dynamic mask with ratio 0.6, the sum of losses, the form of the score. Everything marked [PROPOSED]
is our choice: the paper does not say.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.patches import Patches
from training.objects import ObjectBatch

from .attention_monitor import AttentionMonitor, gradient_norm
from .contrastive import info_nce_both_ways
from .method import Task
from .model import TrainingModel
from .point_gpt import PointGpt, PointGptModel
from .point_mae import ObjectPretraining, PointMae, PointMaeModel, rows, split

MASKS = ("dynamic", "random", "top")


@dataclass(frozen=True)
class PointAcl(ObjectPretraining):
    """Settings of PointACL.

    Attributes:
        host: the method that it wraps; PointMae or PointGpt.
        weight: of the contrastive loss; 0 is the matched control, the host trained as long. [PROPOSED: 0.01 on
            Point-MAE, 0.1 on PointGPT]
        start: share of the run after which the contrastive loss comes in; 0.5 is the paper's 300 + 300 epochs.
        ratio: share of the patches that the dynamic mask hides.
        temperature: of the scores; far above 0.01 the mask is a random one. [PROPOSED]
        masking: ``dynamic``; as controls ``random``, and ``top``: always those of the highest scores.
        contrast: ``info_nce`` within the batch, or ``cosine`` of each object's two features. [PROPOSED]
        contrast_temperature: of the former. [PROPOSED]
        stop_gradient: the whole object's feature is a fixed target. [PROPOSED: no]
        seed: of the masks' own random numbers.
        monitor: steps between measurements for the log; 0 for none.
    """

    host: PointMae | PointGpt = field(default_factory=PointMae)
    weight: float = 0.01
    start: float = 0.5
    ratio: float = 0.6
    temperature: float = 0.01
    masking: str = "dynamic"
    contrast: str = "info_nce"
    contrast_temperature: float = 0.07
    stop_gradient: bool = False
    seed: int = 0
    monitor: int = 50

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        self.host.validate()
        if self.masking not in MASKS or self.contrast not in ("info_nce", "cosine"):
            raise ValueError(
                f"method.masking must be one of {', '.join(MASKS)} and contrast info_nce or cosine;"
                f" got '{self.masking}', '{self.contrast}'"
            )
        if self.weight < 0 or not 0 <= self.start <= 1 or not 0 < self.ratio < 1 or self.temperature <= 0:
            raise ValueError(
                "method.weight must not be negative, start lie in 0 .. 1, ratio between 0 and 1, temperature > 0"
            )

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PointAclModel:
        """Return host and projector with random weights."""
        return PointAclModel(self.host.build(task, class_counts), self)


@torch.no_grad()
def significance(attention: Tensor, values: Tensor, n_extra: int) -> Tensor:
    """Score how much each patch contributes to the global feature.

    S_j = A_1j ||V_j|| / sum over patches, A_1 the class token's row; for each head, then averaged [PROPOSED]. Without
    a class token, of the mean over rows that may see patch j [PROPOSED].

    Args:
        attention: (B, H, T, T), rows sum to 1.
        values: (B, H, T, D).
        n_extra: 1 with a class token in front, else 0.

    Returns:
        (B, T - n_extra) float32, not negative, sums to 1.
    """
    over_rows = attention.sum(2) / (attention > 0).sum(2).clamp(min=1)
    look = attention[:, :, 0, 1:] if n_extra else over_rows
    shares = look.float() * values[:, :, n_extra:].float().norm(dim=-1)
    shares = shares / shares.sum(-1, keepdim=True).clamp(min=1e-30)
    return shares.mean(1)


@torch.no_grad()
def dynamic_mask(scores: Tensor, n_hidden: int, temperature: float, noise: Tensor | None) -> Tensor:
    """Hide the patches with the largest log softmax(S / temperature) - log(-log noise).

    This draws without replacement with probabilities softmax(S / temperature) (Gumbel-top-k).

    Args:
        scores: (B, G).
        noise: (B, G) uniform in 0 .. 1; None: the patches of the highest scores.

    Returns:
        (B, G) bool, True is hidden.
    """
    key = (scores / temperature).log_softmax(1)
    if noise is not None:
        key = key - (-noise.clamp(1e-9, 1 - 1e-7).log()).log()
    hidden = torch.zeros_like(scores, dtype=torch.bool)
    return hidden.scatter_(1, key.topk(n_hidden, 1).indices, True)


def projector(width: int, n_out: int = 128) -> nn.Sequential:
    """Return the MLP in front of the contrastive loss [PROPOSED]."""
    return nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, n_out))


class PointAclModel(TrainingModel):
    """A host, and beside its own loss the contrast of the whole object with what the mask leaves of it."""

    done: Tensor
    steps: Tensor

    def __init__(self, host: PointMaeModel | PointGptModel, settings: PointAcl) -> None:
        super().__init__()
        self.host, self.settings = host, settings
        with torch.random.fork_rng(devices=[]):  # the host's random numbers stay those of a run without this
            torch.manual_seed(settings.seed)
            self.projector = projector(host.encoder.width)
        self.register_buffer("done", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.monitor = AttentionMonitor()

    @property
    def encoder(self) -> ObjectEncoder:
        """The host's encoder."""
        return self.host.encoder

    def after_step(self, fraction: float) -> None:
        """Remember how much of the run is done."""
        self.done.fill_(fraction)
        self.steps += 1

    def losses(self, batch: ObjectBatch) -> dict[str, Tensor]:
        """Return the host's loss, in the second phase the contrastive one, and now and then figures for the log."""
        settings = self.settings
        patches = self.encoder.patches(batch.points, batch.offsets)
        tokens = self.encoder.embedding(patches.points)
        out = {"loss_chamfer": self.host.pretext(patches, tokens)}
        contrastive = settings.weight > 0 and float(self.done) >= settings.start
        if contrastive:
            out["loss_contrast"] = settings.weight * self.contrast(patches, tokens)
        step = int(self.steps)
        if self.training and settings.monitor and step % settings.monitor == 0:
            # Whatever is called "loss" is minimised.
            pulls = {k.replace("loss", "gradient"): gradient_norm(v, self.encoder) for k, v in out.items()}
            out |= pulls | self._watch(patches, step)
        if not contrastive:  # several processes wait for a gradient of every weight
            out["loss_contrast"] = 0 * sum(p.sum() for p in self.projector.parameters())
        return out

    def _watch(self, patches: Patches, step: int) -> dict[str, Tensor]:
        """Measure scores and masks of the objects that the first watched batch held."""
        patches = self.monitor.watched(patches)
        with torch.no_grad():
            was_training = self.encoder.training
            self.encoder.eval()
            _, scores = self.whole(patches, self.encoder.embedding(patches.points))
            self.encoder.train(was_training)
        return self.monitor.measure(scores, self.mask(scores, step))

    def whole(self, patches: Patches, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode all patches, no path dropped: pooled feature (B, 2 C) and scores (B, G) of the last block."""
        transformer, encoder = self.encoder.transformer, self.encoder
        was_training = transformer.training
        transformer.eval()
        x, place, mask = encoder.prepare(tokens, encoder.position(patches.centers))
        steps = transformer.outputs(x, place, mask)
        with torch.no_grad():
            scores = significance(*transformer.last_attention(steps, place, mask), encoder.n_extra)
        transformer.train(was_training)
        return encoder.pool(transformer.norm(steps[-1])), scores

    def mask(self, scores: Tensor, step: int) -> Tensor:
        """Choose the patches to hide, (B, G) bool; the noise depends on the seed and the step alone."""
        generator = torch.Generator(scores.device).manual_seed(self.settings.seed * 1_000_003 + step)
        noise = torch.rand(scores.shape, generator=generator, device=scores.device)
        n_hidden = int(self.settings.ratio * scores.shape[1])
        if self.settings.masking == "random":
            scores = torch.zeros_like(scores)
        return dynamic_mask(
            scores, n_hidden, self.settings.temperature, None if self.settings.masking == "top" else noise
        )

    def contrast(self, patches: Patches, tokens: Tensor) -> Tensor:
        """Compare the feature of the whole object with that of what the mask leaves."""
        feature, scores = self.whole(patches, tokens)
        seen, _ = split(self.mask(scores, int(self.steps)))
        place = self.encoder.position(rows(patches.centers, seen))
        masked = self.encoder.pool(self.encoder.mix(rows(tokens, seen), place))
        a, b = (functional.normalize(self.projector(f), dim=1) for f in (masked, feature))
        if self.settings.stop_gradient:
            b = b.detach()
        if self.settings.contrast == "cosine":
            return -(a * b).sum(1).mean()
        return info_nce_both_ways(a, b, self.settings.contrast_temperature)
