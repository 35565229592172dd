# SPDX-License-Identifier: Apache-2.0
"""Runs of several processes, started by ``torchrun``: NCCL on CUDA, gloo on the CPU."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

_store: Any = None
"""What the processes of ``torchrun`` met by."""


def launcher() -> str:
    """Return mmengine's name of how this process was started."""
    return "pytorch" if "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1 else "none"


def place() -> tuple[int, int]:
    """Join the other processes where there are any; return this one's rank and their number."""
    if launcher() == "none":
        return 0, 1
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        # Done here because mmengine selects a CUDA device even where there is none.
        global _store
        _store, rank, size = next(distributed.rendezvous("env://"))
        backend = "nccl" if cuda else "gloo"
        distributed.init_process_group(backend, store=_store, rank=rank, world_size=size)
    return distributed.get_rank(), distributed.get_world_size()


def wrap(model: Any) -> Any:
    """Return the model wrapped for several processes, where there are; on CUDA mmengine does it."""
    import torch

    if launcher() == "none" or torch.cuda.is_available():
        return model
    from mmengine.model import MMDistributedDataParallel

    # mmengine's Runner would name a device number, which torch refuses for a model on the CPU.
    return MMDistributedDataParallel(module=model, broadcast_buffers=False)


def bare(model: Any) -> Any:
    """Return the model inside a wrapper for several processes, or the model itself."""
    from mmengine.model import is_model_wrapper

    return model.module if is_model_wrapper(model) else model


def agree(flag: bool) -> bool:
    """Return True in every process as soon as one says so, so that all of them leave a loop together."""
    if launcher() == "none":
        return flag
    import torch
    from mmengine.device import get_device
    from torch import distributed

    raised = torch.tensor(float(flag), device=get_device())
    distributed.all_reduce(raised, op=distributed.ReduceOp.MAX)
    return bool(raised)


def leave() -> None:
    """Wait for the others and part in order: a process whose peers vanish while it ends is aborted.

    After the barrier they tell each other through ``torchrun``'s store, which outlives them all, that they are
    through it: who closes its connections while another still reads the barrier's last word cuts that one off.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        if _store is not None:
            _store.set(f"through/{distributed.get_rank()}", "1")
            _store.wait([f"through/{r}" for r in range(distributed.get_world_size())], timedelta(minutes=1))
        distributed.destroy_process_group()
