# SPDX-License-Identifier: Apache-2.0
"""B13, Point-MAE's pre-training with its data on the GPU: clouds a second. Row of ``python -m benchmarks gpu``.

The published recipe but for the data: batches of 128 clouds of 1,024 points, 64 patches of 32, 60 % hidden, the
encoder of 22 million parameters, scaled and shifted at random, AdamW, bfloat16. A first run of the same steps in
float32 from the same weights says whether the losses stay together. Compilation of the network is not used.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.dense import room
from benchmarks.gpu import Place
from pc_perception.models.object_encoder import SIZES
from training.methods.method import Task
from training.methods.point_mae import PointMae, PointMaeModel
from training.objects import ObjectBatch
from training.settings import read_config

CLOUDS_A_SECOND = 15_000
BATCH, N_CLOUDS, N_POINTS = 128, 4096, 1024
CHECKED = 20
"""First steps, whose losses are compared."""


@dataclass(frozen=True)
class PretrainingRow:
    """Steps of Point-MAE on clouds that stay on the device."""

    place: Place
    row: str = "B13"
    input: str = f"Point-MAE, batches of {BATCH} clouds of {N_POINTS:,} points"

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Take ``rounds`` steps, at least those that are compared, after as many in float32."""
        target = 1e3 * BATCH / CLOUDS_A_SECOND
        empty = dict.fromkeys(("ours_ms", "peer", "peer_ms", "ratio", "ratio_low", "floor_ms"))
        record = {**empty, "target": target}
        if self.place.device == "cuda" and not torch.cuda.is_available():
            return {**record, "verdict": f">= {CLOUDS_A_SECOND:,} clouds/s open"}
        data = clouds(rng, 16 if self.place.tiny else N_CLOUDS).to(self.place.device)
        size, batch = ("tiny", 4) if self.place.tiny else ("card", BATCH)
        n_steps = 3 if self.place.tiny else max(rounds, CHECKED)
        wide, _ = steps(data, size, batch, min(n_steps, CHECKED), low=False)
        losses, milliseconds = steps(data, size, batch, n_steps, low=True)
        pairs = zip(losses, wide, strict=False)
        apart = max(abs(a - b) / b for a, b in pairs)
        p50 = float(np.median(milliseconds[1:]))
        rate = 1e3 * batch / p50
        record |= {"ours_ms": p50, "clouds_per_s": rate}
        record["note"] = f"{rate:,.0f} clouds/s; losses of bfloat16 and float32 at most {apart:.1%} apart"
        if self.place.tiny or self.place.device != "cuda":
            return {**record, "verdict": "not the row's size or device"}
        met = "met" if rate >= CLOUDS_A_SECOND else "missed"
        return {**record, "verdict": f">= {CLOUDS_A_SECOND:,} clouds/s {met}"}


def clouds(rng: np.random.Generator, n: int) -> Tensor:
    """Return (n, ``N_POINTS``, 3) float32, pieces of furnished rooms, each centred and scaled to the unit sphere."""
    found = np.stack([room(rng, N_POINTS) for _ in range(n)])
    found -= found.mean(1, keepdims=True)
    return torch.from_numpy(found / np.linalg.norm(found, axis=2).max(1)[:, None, None])


def steps(data: Tensor, size: str, batch: int, n_steps: int, low: bool) -> tuple[list[float], list[float]]:
    """Return the losses of the first ``n_steps`` steps and their milliseconds; ``low``: in bfloat16."""
    torch.manual_seed(0)
    model = build(size).to(data.device)
    run = read_config("point_mae_pretrain")
    optimiser = torch.optim.AdamW(model.parameters(), run.lr, (0.9, 0.999), weight_decay=run.weight_decay)
    draw = torch.Generator(data.device).manual_seed(0)
    offsets = tuple(range(0, (batch + 1) * N_POINTS, N_POINTS))
    labels = torch.full((batch,), -1, device=data.device)
    found: list[Tensor] = []
    milliseconds = []
    for step in range(n_steps):
        torch.manual_seed(step)  # the same patches are hidden in either precision
        begin = perf_counter()
        chosen = data[torch.randint(len(data), (batch,), generator=draw, device=data.device)]
        scale = torch.empty(batch, 1, 3, device=data.device).uniform_(2 / 3, 3 / 2, generator=draw)
        shift = torch.empty(batch, 1, 3, device=data.device).uniform_(-0.2, 0.2, generator=draw)
        points = ObjectBatch((chosen * scale + shift).flatten(0, 1), offsets, labels)
        with torch.autocast(data.device.type, torch.bfloat16) if low else nullcontext():
            loss = model.losses(points)["loss_chamfer"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimiser.step()
        if data.is_cuda:
            torch.cuda.synchronize()
        milliseconds.append(1e3 * (perf_counter() - begin))
        found.append(loss.detach())
    return [float(loss) for loss in found], milliseconds


def build(size: str) -> PointMaeModel:
    """Return Point-MAE around an encoder of a size, ready to train."""
    encoder: dict[str, Any] = {**SIZES[size], "class_token": False}
    run = read_config("point_mae_pretrain")
    model = PointMae().build(Task(run.contract, 0, 0, encoder, run.augmentation), np.zeros(0, np.int64))
    return model.train()


def rows(place: Place) -> list[PretrainingRow]:
    """List the rows for ``place``."""
    return [PretrainingRow(place)]
