# SPDX-License-Identifier: Apache-2.0
"""Random weights as a fair baseline: their batch norms know the data, as those of trained weights do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeVar

from torch import nn

from training.hooks import SettleNorms

T = TypeVar("T")


def settling(network: nn.Module, forward: Callable[..., T]) -> Callable[..., T]:
    """Return ``forward`` such that the norms of ``network`` follow what it sees; ``network.eval()`` ends it.

    At mean 0 and variance 1, as torch makes norms, an encoder of random weights sees no difference between objects
    whose inputs vary little, and would be a weaker baseline than it is.
    """
    norms, steps = SettleNorms(network.train()), count()

    def follow(*args: object) -> T:
        norms.before_train_iter(None, next(steps))
        return forward(*args)

    return follow
