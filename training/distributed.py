# SPDX-License-Identifier: Apache-2.0
"""Runs of several processes, started by ``torchrun``: NCCL on CUDA, gloo on the CPU."""

from __future__ import annotations

import os
from typing import Any


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
        distributed.init_process_group("nccl" if cuda else "gloo")
    return distributed.get_rank(), distributed.get_world_size()


def wrap_settings() -> dict[str, Any]:
    """Return what mmengine's Runner needs in ``cfg`` to wrap the model."""
    import torch

    if launcher() == "none" or torch.cuda.is_available():
        return {}
    from mmengine.model import MMDistributedDataParallel

    class OnCpu(MMDistributedDataParallel):
        """The wrapper without device numbers, which torch refuses for models on the CPU."""

        def __init__(self, module: Any, device_ids: Any = None, **more: Any) -> None:
            super().__init__(module=module, device_ids=None, **more)

    return {"model_wrapper_cfg": {"type": OnCpu, "broadcast_buffers": False}}
