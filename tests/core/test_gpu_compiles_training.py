# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the training of objects becomes machine code for an H100, on a machine without a GPU.

This file, run as a script, starts the kernels as ``test_gpu_compiles_rows`` does.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_kernel_compiles(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(set(done.stdout.split())) == 9


def _patches() -> None:
    from pc_perception.ops.gpu import patches

    norm = torch.nn.BatchNorm1d(24)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for n_points in (32, 5):
            x = torch.zeros(4 * n_points, 24, dtype=dtype, requires_grad=True)
            shared, weight = (torch.zeros(n, 24, dtype=dtype, requires_grad=True) for n in (4, 16))
            for same in (None, shared):
                patches.norm_relu(x, same, norm, n_points).sum().backward()
            patches.patch_max(x, n_points).sum().backward()
            wide, most = patches.linear_and_max(x, weight, n_points)
            (wide.sum() + most.sum()).backward()


def _tokens() -> None:
    from pc_perception.ops.gpu import residual_norm

    norm = torch.nn.LayerNorm(24)
    for low in (torch.bfloat16, torch.float16, torch.float32):
        for dtype in (torch.float32, low):
            x, y = (torch.zeros(2, 5, 24, dtype=d, requires_grad=True) for d in (dtype, low))
            for scale in (None, torch.ones(2, 1, 1, dtype=low)):
                total, normal = residual_norm.add_norm(x, y, scale, norm)
                (total.sum() + normal.sum()).backward()


if __name__ == "__main__":
    from test_gpu_compiles_rows import _compile
    from triton.runtime.jit import JITFunction

    JITFunction.__getitem__ = lambda kernel, grid: partial(_compile, kernel, grid)
    _patches()
    _tokens()
