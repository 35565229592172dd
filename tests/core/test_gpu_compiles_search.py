# SPDX-License-Identifier: Apache-2.0
"""The search kernels compile for a real GPU (sm_90), without one and without fused multiply-adds.

In a process of its own: in this one kernels are interpreted (``conftest``).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

CLOUD = {"xyz": "*fp32", "starts": "*i64", "first": "*i64", "ends": "*i64", "out": "*i64"}
TOGETHER = CLOUD | {"slots": "*i64", "most": "i32", "programs": "i32"}
QUERIES = {
    "queries": "*fp32",
    "query_starts": "*i64",
    "index": "*i64",
    "distance": "*fp32",
    "squared": "fp32",
}
PAIR = {
    "a": "*fp32",
    "b": "*fp32",
    "square": "*fp32",
    "index": "*i32",
    "slope": "*fp32",
    "n": "i32",
    "m": "i32",
}
BOXES = {"order": "*i64", "sorted_xyz": "*fp32", "box": "*fp32", "boxes": "i32"}
TILE = {"QUERIES": 16, "POINTS": 128}
KERNELS = (
    ("sampling", "_alone", CLOUD, {"skip_below": -1.0, "BLOCK": 1024, "WARPS": 4}),
    ("sampling", "_alone", CLOUD | {"xyz": "*fp64"}, {"skip_below": -1.0, "BLOCK": 1024, "WARPS": 4}),
    ("sampling", "_together", TOGETHER, {"skip_below": 1e-3, "TILE": 2048, "SLOTS": 32, "WARPS": 4}),
    ("sampling", "_together", TOGETHER, {"skip_below": 1e-3, "TILE": 8192, "SLOTS": 256, "WARPS": 8}),
    (
        "sampling", "_one_pass",
        CLOUD | {"nearest": "*i32", "best": "*i32", "who": "*i64", "step": "i32", "tiles": "i32"},
        {"skip_below": 1e-3, "TILES": 32, "TILE": 1024},
    ),
    (
        "neighbors", "_select", CLOUD | QUERIES,
        {"BY_INDEX": False, "PACKED": True, "K": 5, "SLOTS": 8, "QUERIES": 4, "ROWS": 32, "LANES": 32}
        | {"WARPS": 1},
    ),
    (
        "neighbor_buckets", "_search_boxes",
        CLOUD | QUERIES | BOXES | {"query_order": "*i64"},
        {"BY_INDEX": False, "PACKED": True, "K": 5, "SLOTS": 8, "BOXES": 256, "BUCKET": 128, "QUERIES": 32}
        | {"POINTS": 32, "WARPS": 1},
    ),
    (
        "neighbor_buckets", "_boxes", CLOUD | BOXES,
        {"BUCKET": 128},
    ),
    (
        "neighbor_buckets", "_codes", CLOUD | {"low": "*fp32", "scale": "*fp32", "code": "*i32"},
        {"BITS": 10, "TILE": 256},
    ),
    ("interpolate", "_labels", CLOUD | QUERIES | {"labels": "*i64"}, {"unlabeled": 65535, **TILE}),
    (
        "interpolate", "_scatter",
        {"grad": "*fp32", "index": "*i64", "weight": "*fp32", "out": "*fp32", "rows": "i32", "channels": "i32"},
        {"K": 3, "ROWS": 32, "CHANNELS": 32},
    ),
    ("chamfer", "_nearest", PAIR, {"OWN": 32, "OTHER": 32}),
    (
        "chamfer", "_pull", PAIR | {"d_a": "*fp32", "d_b": "*fp32", "rows": "i32"},
        {"ROOT": True, "PULL_A": True, "PULL_B": True, "ROWS": 256},
    ),
    (
        "chamfer_patches", "_patches", PAIR | {"parts": "*fp32", "d_a": "*fp32", "d_b": "*fp32", "scenes": "i32"},
        {"ROOT": False, "PULL_A": True, "PULL_B": False, "N": 32, "M": 32, "SCENES": 4, "WARPS": 1},
    ),
    ("clusters", "_join", {"points": "*fp32", "parent": "*i64", "n": "i32", "limit": "fp32"}, {"TILE": 64}),
    ("clusters", "_flatten", {"parent": "*i64", "n": "i32"}, {"TILE": 64}),
    (
        "plane", "_count",
        {"points": "*fp32", "normals": "*fp32", "offsets": "*fp32", "counts": "*i64", "limit": "fp32"}
        | {"n": "i32", "k": "i32"},
        {"PLANES": 16, "POINTS": 128, "ROUNDS": 8},
    ),
)  # fmt: skip


def compile_all() -> None:
    """Compile every kernel; fail where one multiplies and adds in one rounding."""
    from importlib import import_module

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for module, name, types, constants in KERNELS:
        kernel = getattr(import_module(f"pc_perception.ops.gpu.{module}"), name)
        names = kernel.arg_names
        signature = {n: "constexpr" if n in constants else types[n] for n in names}
        source = ASTSource(
            kernel, signature, {(names.index(n),): v for n, v in constants.items() if n in names}
        )
        options = {"enable_fp_fusion": False, "num_warps": constants.get("WARPS", 4)}
        built = triton.compile(source, GPUTarget("cuda", 90, 32), options)
        assert "fma.rn" not in built.asm["ptx"], name
        assert len(built.asm["cubin"]) > 0, name


@pytest.mark.slow
def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [
        sys.executable,
        "-c",
        "from tests.core.test_gpu_compiles_search import compile_all; compile_all()",
    ]
    root = Path(__file__).parents[2]
    environment["PYTHONPATH"] = str(root)
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
