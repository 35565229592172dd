# SPDX-License-Identifier: Apache-2.0
"""Cross-sample semantic propagation (CSP): sequence blocks walk on from one scene of a batch into the next.

Source: PointCSP, arXiv 2605.01759: the token sequences of all scenes are concatenated and a state-space layer
runs over the long sequence, on randomly shuffled tokens. Whether tokens are shuffled inside each scene or
all together is not said there, and decides nearly everything: a gated delta net as it starts remembers
about 16 tokens, so that in concatenated scenes only the first per cent of a scene's tokens ever sees the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pc_perception.models.pyramid import Level
from pc_perception.models.walks import along_curves, backwards

ORDERS = ("concat", "shuffle_within", "shuffle_all")


@dataclass(frozen=True)
class AcrossScenes:
    """A ``Walk`` that goes through several scenes before it forgets.

    Attributes:
        order: ``concat``: each scene along its curve, one scene after the other; ``shuffle_within``: each
            scene's tokens in a new random order, one scene after the other; ``shuffle_all``: all tokens of a
            sequence in one random order. The last is our choice where the paper says nothing. Every
            second block walks backwards, as deployed models do.
        n_scenes: scenes that make one sequence; the packed scenes are divided into runs of so many.
    """

    order: str
    n_scenes: int

    def __post_init__(self) -> None:
        validate_order(self.order)
        if self.n_scenes < 1:
            raise ValueError(f"a sequence must hold at least 1 scene, got n_scenes={self.n_scenes}")

    def __call__(self, level: Level, block: int) -> tuple[Tensor, Sequence[int]]:
        """Return the order of the level's rows and the boundaries of sequences; random orders are torch's."""
        resets = (*level.offsets[: -1 : self.n_scenes], level.offsets[-1])
        if self.order == "concat":
            order, _ = along_curves(level, block - block % 2)
        else:
            kept = resets if self.order == "shuffle_all" else level.offsets
            part = torch.searchsorted(torch.tensor(kept[1:]), torch.arange(len(level)), right=True)
            # In double precision no key of one part can be rounded into the next.
            order = torch.argsort(part + torch.rand(len(level), dtype=torch.float64)).to(level.coords.device)
        return backwards(order, resets) if block % 2 else (order, resets)


def validate_order(order: str) -> None:
    """Raise ValueError for a name that is none of ``ORDERS``."""
    if order not in ORDERS:
        raise ValueError(f"csp_order '{order}' is unknown; use one of {', '.join(ORDERS)}")
