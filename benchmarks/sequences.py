# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule: token by token against chunks on the CPU (A14), at the GPU plan's size (B15)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.dense import sweep
from benchmarks.harness import Case, Round
from pc_perception.ops.parallel import team
from pc_perception.ops.recurrence import gated_delta_rule
from pc_perception.ops.voxelize import voxelize

HEADS, KEYS, VALUES = 4, 16, 32
"""The memory of the live models."""


def tokens(rng: np.random.Generator, n: int, heads: int, d_k: int, d_v: int) -> list[np.ndarray]:
    """Return queries, unit keys, values, log decays and writes of ``n`` tokens, float32."""
    q, k, v = (rng.normal(size=(n, heads, d)).astype(np.float32) for d in (d_k, d_k, d_v))
    decay, beta = (rng.random((n, heads), dtype=np.float32) for _ in "gb")
    return [q / np.float32(d_k**0.5), k / np.linalg.norm(k, axis=-1, keepdims=True), v, -decay, beta]


def _on_cpu(rng: np.random.Generator, edge: float) -> Round:
    n = len(voxelize(torch.from_numpy(sweep(rng, 32, 1085)), edge))
    inputs = [torch.from_numpy(t) for t in tokens(rng, n, HEADS, KEYS, VALUES)]

    def run(backend: str) -> Tensor:
        with torch.inference_mode(), team():
            return gated_delta_rule(*inputs, (0, n), backend=backend)[0]

    def check(found: object) -> None:
        torch.testing.assert_close(found, run("torch"), atol=1e-3, rtol=1e-3)

    return Round(partial(run, "numba"), {"torch in chunks": partial(run, "torch")}, check)


CASES = [
    Case("A14", f"GDN on voxels of N32, {edge} m", partial(_on_cpu, edge=edge), 1.0) for edge in (0.8, 3.2)
]


def gpu_tokens(rng: np.random.Generator, tiny: bool) -> list[np.ndarray]:
    """Return the tokens of B15, 32k with 16 heads of 128; queries, keys and values in float16."""
    inputs = tokens(rng, 96, 1, 64, 64) if tiny else tokens(rng, 32_768, 16, 128, 128)
    return [t.astype(np.float16) if t.ndim == 3 else t for t in inputs]


def forward(inputs: list[Tensor], backend: str | None) -> Tensor:
    """Run the rule over one sequence."""
    with torch.no_grad():
        return gated_delta_rule(*inputs, (0, len(inputs[0])), backend=backend)[0]


def both_ways(inputs: list[Tensor], backend: str | None) -> list[Tensor]:
    """Run the rule and its gradient by queries, keys and values."""
    leaves = [t.detach().requires_grad_() for t in inputs[:3]]
    out, _ = gated_delta_rule(*leaves, *inputs[3:], (0, len(leaves[0])), backend=backend)
    return [out.detach(), *torch.autograd.grad(out.sum(), leaves)]
