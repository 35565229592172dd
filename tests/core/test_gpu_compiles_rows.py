# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the row-like operations becomes machine code for an H100, on a machine without a GPU.

The interpreter takes more than the compiler does. This file, run as a script, starts the kernels on CPU tensors with a
launch that compiles instead; what the operations then return means nothing.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}
INTEGERS = {torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.bool: "i1"}
TYPES |= INTEGERS


@pytest.mark.slow
def test_every_kernel_compiles(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(set(done.stdout.split())) >= 47


def _compile(kernel, grid, *arguments, **options) -> None:  # type: ignore[no-untyped-def]
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants = {}, {}
    for parameter, value in zip(kernel.params, arguments, strict=True):
        one = type(value) is int and value == 1 and not parameter.do_not_specialize
        if parameter.is_constexpr or one or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = "*" + TYPES[value.dtype]
        else:
            wide = "i64" if abs(value) >= 2**31 else "i32"
            signature[parameter.name] = "fp32" if isinstance(value, float) else wide
    triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32), options=options)
    print(kernel.fn.__qualname__)


def _integers(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def _rows() -> None:
    from pc_perception.ops.gpu import grouping, range_image, scatter, serialize, shape, sparse_convolution

    coords, rows, flag = _integers(100, 3), _integers(100), torch.zeros(1, dtype=torch.int32)
    serialize.z_order(coords, (0, 1, 2))
    serialize.hilbert(coords, (1, 0, 2))
    serialize.curves_into(coords, _integers(4, 100), flag)
    for image_rows in (None, rows.int()):
        range_image.range_image(torch.zeros(100, 3), image_rows, (4, 8), (1.0, 2.0, 3.0))
    for dtype in (torch.float32, torch.float64):
        values, counts = torch.zeros(100, 5, dtype=dtype), torch.zeros(9, dtype=torch.int32)
        for count in (None, counts):
            scatter.scatter_sum_into(values, rows, torch.zeros(9, 5, dtype=dtype), flag, count)
        best = torch.zeros(9, 5, dtype=torch.int64 if dtype == torch.float64 else torch.int32)
        scatter.scatter_winner_into(values, rows, best, _integers(9, 5), flag)
    shape.shape_features(torch.zeros(100, 10, dtype=torch.float64), _integers(101), rows, 2.0)
    for dtype in TYPES.keys() - INTEGERS.keys():
        features = torch.zeros(100, 24, dtype=dtype, requires_grad=True)
        grouping.neighbor_max(features, _integers(101), rows).sum().backward()
        grouping.neighbor_max(features.detach(), _integers(101), rows)
        if dtype != torch.float64:
            weight, starts = torch.zeros(27, 24, 48, dtype=dtype, requires_grad=True), _integers(28)
            sparse_convolution.sparse_convolution(features, weight, rows, rows, starts, 9).sum().backward()


def _voxels() -> None:
    from pc_perception.ops.gpu import grouping, kernel_maps, pairs, voxelize

    coords, edges, flag = _integers(100, 3), torch.tensor([0, 40, 100]), _integers(1)
    for dtype in (torch.float32, torch.float64):
        sizes = (_integers(100, 3), *(_integers(100) for _ in range(3)))
        for n_points in (None, _integers(1)):
            voxelize.voxelize_into(torch.zeros(100, 3, dtype=dtype), 0.1, *sizes, _integers(2), n_points)
    table = torch.zeros(27, 100, dtype=torch.int32)
    kernel_maps.neighbors_into(coords, edges, table, flag)
    grouping.lists_into(table, _integers(101), _integers(500))
    pairs.pairs_into(table, pairs.count_entries(table), _integers(9), _integers(9), _integers(28))
    for in_z_order in (False, True):
        kernel_maps.children_into(coords, edges, table[:8], coords, _integers(3), flag, in_z_order)


def _columns() -> None:
    from pc_perception.ops.gpu import ground

    xyz, used, status = torch.zeros(100, 3), torch.ones(100, dtype=torch.bool), _integers(1)
    for side in (ground.SIDE, ground.SHORT_SIDE):
        work, out = ground.new_grid(1000, 2, "cpu", side), torch.zeros(100, 2)
        ground.heights_into(xyz, used, 1.0, (0.25, 0.03), work, out, status)
        ground.column_top_into(xyz, used, out[:, 0], 0.8, work, out[:, 1].contiguous(), status)


def _neighborhoods() -> None:
    from pc_perception.models.layers import NeighborhoodBlock
    from pc_perception.models.linear import set_precision
    from pc_perception.ops.gpu import neighborhood
    from pc_perception.ops.grouping import Neighborhood

    lists = Neighborhood(_integers(101), _integers(500))
    for width, precision in ((16, "float32"), (40, "bfloat16"), (96, "float32"), (256, "float32")):
        block = NeighborhoodBlock(width)
        set_precision(block, precision, torch.device("cpu"))
        given = torch.zeros(100, width), torch.zeros(100, 3), lists
        neighborhood.neighborhood_block(*given, neighborhood.Weights(*block._tensors()))


def _padded() -> None:
    from pc_perception.ops.gpu.classes import classes_of
    from pc_perception.ops.gpu.coarsen import coarsen
    from pc_perception.ops.gpu.neighborhood import norm_linear

    coarsen(_integers(100), torch.zeros(100, 3), _integers(2), 40)
    classes_of(torch.zeros(100, 8), _integers(300), -1)
    for dtype in (torch.float32, torch.bfloat16):
        for width, out in ((32, 8), (128, 160)):
            factors = torch.zeros(out, width, dtype=dtype), torch.zeros(out, dtype=dtype)
            norm_linear(torch.zeros(100, width), torch.zeros(width), torch.zeros(width), *factors)


def _sequences() -> None:
    from pc_perception.ops.gpu import mixer, recurrence, short_convolution

    for n_heads, d_k, d_v in ((4, 16, 32), (12, 32, 64), (1, 5, 256)):
        kernel, heads = torch.zeros(n_heads * (2 * d_k + d_v), 1, 4), torch.zeros(n_heads)
        projected = torch.zeros(100, n_heads * 2 * (d_k + d_v + 1))
        for order in (None, _integers(100)):
            given = projected, order, _integers(3)
            made = mixer.tokens(*given, kernel, heads, heads, 1.0, d_k, d_v)
            mixer.gated(made.v, *given, torch.zeros(d_v))
    for dtype, d_k, d_v in ((torch.float32, 16, 24), (torch.float16, 128, 128), (torch.bfloat16, 32, 64)):
        q, v = (torch.zeros(100, 2, d, dtype=dtype, requires_grad=True) for d in (d_k, d_v))
        gates, state = torch.zeros(100, 2, requires_grad=True), torch.zeros(2, 2, d_k, d_v)
        out, final = recurrence.gated_delta_rule(q, q, v, gates, gates, (0, 40, 100), state)
        (out.sum() + final.sum()).backward()
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x, kernel = (torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in ((100, 24), (24, 1, 4)))
        recent = torch.zeros(2, 3, 24, dtype=dtype)
        short_convolution.short_convolution(x, kernel, _integers(3), recent).sum().backward()


if __name__ == "__main__":
    from triton.runtime.jit import JITFunction

    JITFunction.__getitem__ = lambda kernel, grid: partial(_compile, kernel, grid)
    _rows()
    _voxels()
    _columns()
    _neighborhoods()
    _padded()
    _sequences()
