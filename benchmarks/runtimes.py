# SPDX-License-Identifier: Apache-2.0
"""Would another runtime multiply faster? Row R1 of ``python -m benchmarks stream``.

Ours and the peers, ONNX Runtime and OpenVINO (float32 and, where the CPU has it, bfloat16), do the products over
voxels of the `street` network for one sweep: what is left of it when neighbours, pooling and sequence blocks, for
which they have no operators, are taken away. The peers are taken when they can be imported: onnxruntime or openvino,
with onnx and onnxscript.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import Case, Round, installed
from benchmarks.live import MODEL, messages
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.model_file import build, read_model_file
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.models.scene_encoder import SceneSegmenter
from pc_perception.ops.dense_rows import HAS_PAIRS
from pc_perception.ops.parallel import by_rows, team

THREADS = 2


class Products(nn.Module):
    """What a scene encoder multiplies in its neighbourhood blocks, level by level."""

    def __init__(self, network: SceneSegmenter) -> None:
        super().__init__()
        encoder = network.encoder
        again = [*([block] for block in encoder.refine), []]
        self.levels = nn.ModuleList(
            nn.ModuleList([*stage.local, *more]) for stage, more in zip(encoder.stages, again, strict=True)
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """Map (M_l, widths[l]) of every level to the same."""
        return [_level(x, blocks) for x, blocks in zip(xs, self.levels, strict=True)]

    def by_rows(self, xs: list[Tensor]) -> list[Tensor]:
        """Do the same as our encoder does at inference: each thread takes its share of the rows."""
        return [by_rows(partial(_level, blocks=blocks), x) for x, blocks in zip(xs, self.levels, strict=True)]


def _level(x: Tensor, blocks: Any) -> Tensor:
    for block in blocks:
        x = x + block.mix(torch.relu(block.edge(block.edge_norm(x))))
        x = x + block.mlp(x)
    return x


def products(rng: np.random.Generator) -> Round:
    """Return the round for one of eight sweeps."""
    model = load_segmenter(MODEL, "cpu")
    header, tensors = read_model_file(MODEL)
    plain = build(header)
    plain.load_state_dict(tensors, assign=True)
    cloud = cloud_from_msg(messages(32, 34_720, 1 + int(rng.integers(8)))[-1])
    scene = model.contract.prepare(cloud, model.network.encoder.n_levels)
    sizes = zip(scene.pyramid.levels, plain.encoder.widths, strict=True)
    xs = [torch.randn(len(level), width) for level, width in sizes]
    chosen = Products(model.network)

    def ours() -> list[Tensor]:
        with torch.inference_mode(), team():
            return chosen.by_rows(xs)

    return Round(ours, _peers(Products(plain).eval(), xs))


def _peers(plain: Products, xs: list[Tensor]) -> dict[str, Callable[[], object]]:
    if not installed("onnx", "onnxscript"):
        return {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "products.onnx"
        torch.onnx.export(plain, (xs,), str(file), dynamo=True, external_data=False, verbose=False)
        arrays = [x.numpy() for x in xs]
        peers: dict[str, Callable[[], object]] = {}
        if installed("onnxruntime"):
            peers["ONNX Runtime float32"] = _onnx_runtime(file, arrays)
        if installed("openvino"):
            for precision in ("f32", "bf16") if HAS_PAIRS else ("f32",):
                peers[f"OpenVINO {precision}"] = _openvino(file, arrays, precision)
    return peers


def _onnx_runtime(file: Path, arrays: list[Any]) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feed = dict(zip([i.name for i in session.get_inputs()], arrays, strict=True))
    return lambda: session.run(None, feed)


def _openvino(file: Path, arrays: list[Any], precision: str) -> Callable[[], object]:
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": THREADS}
    compiled = core.compile_model(core.read_model(file), "CPU", {**hints, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    return lambda: request.infer(arrays)


CASES = [Case("R1", "products of street, N32", products)]
