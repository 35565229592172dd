# SPDX-License-Identifier: Apache-2.0
"""Self-distillation with prototypes: the head, the loss between views, and what shows a collapse.

Source: DINO, arXiv 2104.14294, equations 1, 3 and 4 and its section 5.3 on collapse; PointCSP's L_CSC is its loss over
scenes. Temperatures, momentum of the centre and the head's form are DINO's and Sonata's; PointCSP does not
give its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PrototypeHead(nn.Module):
    """MLP to the unit sphere, then cosine similarity to prototypes (DINO's head, last layer's gain frozen at 1).

    Attributes:
        center: (K,) running mean of the head's outputs; only the teacher's is used.
    """

    center: Tensor

    def __init__(self, width: int, n_prototypes: int, hidden: int, bottleneck: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            # DINO offers batch normalisation in its head. Without it, here, what all samples have in common
            # drowned what tells them apart, and within 60 steps every target was uniform.
            nn.BatchNorm1d(width, affine=False, track_running_stats=False),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        self.prototypes = nn.Parameter(torch.randn(n_prototypes, bottleneck))
        self.register_buffer("center", torch.zeros(n_prototypes))

    def forward(self, x: Tensor, *, freeze_prototypes: bool = False) -> Tensor:
        """Map (P, width) to (P, K) similarities in -1 .. 1."""
        prototypes = self.prototypes.detach() if freeze_prototypes else self.prototypes
        return functional.normalize(self.mlp(x), dim=1) @ functional.normalize(prototypes, dim=1).T

    def target(self, similarity: Tensor, temperature: float | Tensor) -> Tensor:
        """Return the (P, K) centred and sharpened distribution that a student is to match."""
        return ((similarity - self.center) / temperature).softmax(-1)

    @torch.no_grad()
    def move_center(self, similarity: Tensor, momentum: float) -> None:
        """Let the centre follow the mean of (P, K) similarities."""
        self.center.lerp_(similarity.mean(0), 1 - momentum)


def cross_view_loss(target: Tensor, similarity: Tensor, temperature: float, *, same_view: bool) -> Tensor:
    """Mean cross-entropy between every teacher view and every student view (PointCSP's L_CSC).

    Args:
        target: (n, B, K) distributions of the teacher's views, without gradient.
        similarity: (V, B, K) of the student's views, V >= n, the first n being the teacher's.
        temperature: of the student.
        same_view: count pairs of a view with itself: n V terms, as the equation is written; else DINO's
            n (V - 1).

    Returns:
        Scalar; ln K where both are uniform.
    """
    log_p = (similarity / temperature).log_softmax(-1)
    cross = -torch.einsum("ibk,jbk->ij", target, log_p) / target.shape[1]
    if not same_view:
        other = ~torch.eye(*cross.shape, dtype=torch.bool, device=cross.device)
        cross = cross[other]
    return cross.mean()


def entropy(p: Tensor) -> Tensor:
    """Return the entropy, nats, of distributions along the last axis."""
    return -(p * p.clamp_min(1e-12).log()).sum(-1)


@torch.no_grad()
def assignment_figures(target: Tensor) -> dict[str, Tensor]:
    """Describe (P, K) teacher distributions.

    Returns:
        ``entropy``: mean of the single ones, nats. ``prototypes``: how many are in use, the exponential of the
        entropy of the mean. ``information``: how much an assignment tells, nats, entropy of the mean minus
        mean entropy; 0 is collapse of either kind (one prototype takes all, or all is assigned uniformly).
    """
    each, overall = entropy(target).mean(), entropy(target.mean(0))
    return {"entropy": each, "prototypes": overall.exp(), "information": overall - each}


@torch.no_grad()
def effective_rank(x: Tensor) -> Tensor:
    """Return the effective rank of (P, C) features: exponential of the entropy of their centred singular values.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007. 1 where all lie on a line; 0 where all rows are equal.
    """
    values = torch.linalg.svdvals(x.float() - x.float().mean(0))
    share = values / values.sum().clamp_min(1e-12)
    return entropy(share).exp() if bool(values.any()) else values.new_zeros(())


class CollapseWatch(nn.Module):
    """Ends a run whose assignments have told nothing for long; its count is part of the checkpoint."""

    steps: Tensor

    def __init__(self, least: float, patience: int) -> None:
        super().__init__()
        self.least, self.patience = least, patience
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def check(self, information: Tensor) -> None:
        """Count one step.

        Raises:
            ValueError: ``information`` was below ``least`` nats for ``patience`` steps in a row.
        """
        self.steps = (self.steps + 1) * (information < self.least)
        if self.patience and int(self.steps) >= self.patience:
            raise ValueError(
                f"the run has collapsed: for {int(self.steps)} steps assignments to prototypes told less than "
                f"{self.least} nats; raise method.teacher_momentum or batch_size, or lower lr or "
                "method.teacher_temperature"
            )
