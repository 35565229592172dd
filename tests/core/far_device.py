# SPDX-License-Identifier: Apache-2.0
"""A device that is not the CPU, for machines that have none: it finds what would mix devices on a GPU.

Its tensors say that they lie on ``FAR``, hide CPU tensors that do the work, and refuse what a CUDA tensor refuses: to
become a NumPy array, or to meet a CPU tensor (numbers of no dimension apart). As for a GPU without Triton,
``ops.backend`` gives them the torch reference. Inference alone: there is no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FAR = torch.device("meta")
MOVES = ("_to_copy", "copy_")
READS = ("_local_scalar_dense", "equal")
"""Operations that may take tensors of two devices, and those whose results are plain numbers."""


class FarTensor(torch.Tensor):
    """A tensor on ``FAR``; ``near`` is the CPU tensor that it stands for."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> FarTensor:
        far = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), near.stride(), near.storage_offset(), dtype=near.dtype, device=FAR
        )
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.near.tolist()

    def new_tensor(self, data: Any) -> FarTensor:
        return FarTensor(self.near.new_tensor(data))


class _Everything(TorchDispatchMode):
    """Catches operations without a far tensor among their arguments too, such as ``torch.zeros``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})


class _FromNumbers(TorchFunctionMode):
    """Catches ``torch.tensor``, which moves its numbers past the dispatcher."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device") == FAR:
            return FarTensor(torch.tensor(*args, **{**kwargs, "device": "cpu"}))
        return func(*args, **kwargs)


@contextmanager
def far_device() -> Iterator[torch.device]:
    """Inside, ``FAR`` is a device like any other."""
    with torch.inference_mode(), _FromNumbers(), _Everything():
        yield FAR


def _run(func: Any, args: tuple, kwargs: dict) -> Any:
    name, device = func.overloadpacket.__name__, kwargs.get("device")
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    far = [t for t in tensors if isinstance(t, FarTensor)]
    if far and name not in MOVES and any(t.dim() for t in tensors if not isinstance(t, FarTensor)):
        raise RuntimeError(f"{func} was given tensors of two devices")
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    near_args, near_kwargs = tree_map(_near, args), tree_map(_near, kwargs)
    out = func(*near_args, **near_kwargs)
    if name in READS or func._schema.is_mutable:
        return out if name in READS else kwargs.get("out", args[0])
    lies_far = bool(far) if device is None else torch.device(device) == FAR
    return tree_map(lambda t: FarTensor(t) if lies_far and isinstance(t, torch.Tensor) else t, out)


def _near(value: Any) -> Any:
    return value.near if isinstance(value, FarTensor) else value
