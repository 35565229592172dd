# SPDX-License-Identifier: Apache-2.0
"""Launch kernels where their tensors are: Triton itself takes the current device."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def on_own_device(
    function: Callable[Concatenate[Tensor, P], None],
) -> Callable[Concatenate[Tensor, P], None]:
    """Make the device of the first tensor the current one meanwhile; nothing changes for CPU tensors."""

    @wraps(function)
    def launch(first: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> None:
        with torch.cuda.device_of(first):
            function(first, *args, **kwargs)

    return launch
