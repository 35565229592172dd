# SPDX-License-Identifier: Apache-2.0
"""What the log of PointACL shows: whether attention scores are peaked, whether they and the masks move, and how hard
each loss pulls.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pc_perception.models.patches import Patches


class AttentionMonitor:
    """Scores and masks of a few objects, the same ones all the time, from one measurement to the next."""

    def __init__(self) -> None:
        self.patches: Patches | None = None
        self.last: tuple[Tensor, Tensor] | None = None

    def watched(self, patches: Patches) -> Patches:
        """Return the objects that were first given; those given now are they where there are none yet."""
        if self.patches is None:
            self.patches = patches
        return self.patches

    def measure(self, scores: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        """Compare with the measurement before.

        Args:
            scores: (B, G), sum to 1.
            hidden: (B, G) bool, the mask drawn from them.

        Returns:
            ``scores_entropy`` in units of a uniform distribution's, ``scores_top``: what the highest tenth of
            the patches have together, ``scores_drift``: half the summed change (0: none, 1: all moved),
            ``masks_overlap``: share of hidden patches that were hidden before.
        """
        n_patches = scores.shape[1]
        entropy = -(scores * scores.clamp(min=1e-30).log()).sum(1).mean()
        out = {
            "scores_entropy": entropy / torch.tensor(float(n_patches)).log(),
            "scores_top": scores.topk(max(n_patches // 10, 1), 1).values.sum(1).mean(),
        }
        if self.last is not None:
            before, was_hidden = self.last
            out["scores_drift"] = (scores - before).abs().sum(1).mean() / 2
            out["masks_overlap"] = (hidden & was_hidden).sum() / hidden.sum()
        self.last = (scores, hidden)
        return out


def gradient_norm(loss: Tensor, network: nn.Module) -> Tensor:
    """Return the length of a loss's gradient by a network's weights; the graph stays for the step itself."""
    wanted = [p for p in network.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    return torch.stack([g.float().square().sum() for g in found if g is not None]).sum().sqrt()
