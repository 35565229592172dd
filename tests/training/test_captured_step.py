# SPDX-License-Identifier: Apache-2.0
"""A step for clouds on the device: the plain loop's losses, whether it is replayed from a graph or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapes import SMALL, batch_of, object_run
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pc_perception.models.patches import make_patches
from pc_perception.ops.packed import numbers_on
from training.assembly import groups
from training.augment import Augmentation
from training.captured_step import CapturedStep, change
from training.methods.method import Task
from training.methods.point_mae import PointMae, PointMaeModel
from training.objects import ObjectAugmentation
from training.settings import RunSettings

N_OBJECTS, N_POINTS = 8, 128
on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def run(tmp_path: Path) -> RunSettings:
    """Point-MAE at a small size; paths are dropped and points jittered: masks are not all that is drawn."""
    return object_run(
        tmp_path,
        tmp_path,
        method=PointMae(decoder_depth=1),
        encoder={**SMALL, "class_token": False},
        augmentation=ObjectAugmentation(jitter=0.01),
        label_set="",
        lr=3e-3,
        betas=(0.9, 0.999),
        clip=1.0,
    )


def build(run: RunSettings, device: str = "cpu") -> PointMaeModel:
    torch.manual_seed(0)
    model = run.method.build(Task(run.contract, 0, 0, run.encoder, run.augmentation), np.zeros(0, np.int64))
    assert isinstance(model, PointMaeModel)
    return model.to(device).train()


def clouds(seed: int = 0) -> Tensor:
    return batch_of(N_OBJECTS, N_POINTS, seed).points.view(N_OBJECTS, N_POINTS, 3)


def losses(step: CapturedStep, n: int) -> list[float]:
    """Train on other clouds each time, at another rate, with the same draws in every call."""
    found = []
    for k in range(n):
        torch.manual_seed(k)
        step.lr.fill_(3e-4 * (k + 1))
        found.append(float(step(clouds(k))))
    return found


@pytest.mark.parametrize("low", [False, True])
def test_it_is_the_plain_loop(run: RunSettings, low: bool) -> None:
    """Also with autocast, which rounds each weight where it is used."""
    run = replace(run, amp=low)
    model, expected = build(run), []
    optimizer = torch.optim.AdamW(groups(model, run.weight_decay), betas=run.betas)  # type: ignore[arg-type]
    for k in range(5):
        torch.manual_seed(k)
        points = change(clouds(k), run.augmentation).flatten(0, 1)  # type: ignore[arg-type]
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = model.losses(replace(batch_of(N_OBJECTS, N_POINTS), points=points))["loss_chamfer"]
        for group in optimizer.param_groups:
            group["lr"] = 3e-4 * (k + 1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), run.clip)
        optimizer.step()
        expected.append(float(loss.detach()))
    assert losses(CapturedStep(build(run), run), 5) == pytest.approx(expected, rel=1e-5)


def test_the_loss_falls(run: RunSettings) -> None:
    still = replace(run, augmentation=ObjectAugmentation(scale=(1.0, 1.0), shift=0.0))
    step = CapturedStep(build(still), still)
    found = [float(step(clouds())) for _ in range(60)]
    assert sum(found[-5:]) < 0.8 * sum(found[:5])


def test_draws_differ_between_steps_and_clouds() -> None:
    same = torch.ones(4, 16, 3)
    first, second = (change(same, ObjectAugmentation()) for _ in range(2))
    assert not torch.equal(first, second)
    assert len(first.unique(dim=0)) == 4
    assert (first == first[:, :1]).all()  # a cloud is scaled and shifted as one
    assert float(first.min()) > 2 / 3 - 0.2
    assert float(first.max()) < 3 / 2 + 0.2


def test_augmentation_that_it_does_not_do_is_refused(run: RunSettings) -> None:
    turned = replace(run, augmentation=ObjectAugmentation(turn=True))
    with pytest.raises(ValueError, match="no more"):
        CapturedStep(build(run), turned)
    with pytest.raises(ValueError, match="single objects"):
        CapturedStep(build(run), replace(run, augmentation=Augmentation()))


def test_evenly_spaced_numbers_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    for numbers in ([], [0, 5, 4], [0, 0, 1]):
        assert numbers_on(device, numbers).tolist() == numbers
        assert numbers_on(device, numbers).dtype == torch.int64
    monkeypatch.setattr(torch, "tensor", None)
    for numbers in ([7], [0, 5, 10], [3, 3, 3], [4, 2, 0]):
        assert numbers_on(device, numbers).tolist() == numbers


@pytest.mark.parametrize("n_points", [(40, 40, 40), (40, 9, 20), (5,)])
def test_patches_of_packed_clouds_are_those_of_each(n_points: tuple[int, ...]) -> None:
    parts = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in n_points]
    together = make_patches(torch.cat(parts), 16, 12, [0, *np.cumsum(n_points).tolist()])
    for i, part in enumerate(parts):
        alone = make_patches(part, 16, 12)
        assert torch.equal(together.centers[i], alone.centers[0])
        assert torch.equal(together.points[i], alone.points[0])


class NothingCopied(TorchDispatchMode):
    """Refuse what goes from one device to another; what comes to the host from ``meta`` is refused by torch."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        devices = {t.device for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)}
        assert len(devices) < 2, f"{func} copies between {devices}"
        return result


def test_losses_wait_for_nothing(run: RunSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without memory, kernels left out, where a graph is said to be captured."""
    pytest.importorskip("triton")
    from pc_perception.models import patches, transformer
    from pc_perception.ops import chamfer, neighbors, packed, sampling
    from pc_perception.ops.gpu import chamfer_patches, residual_norm
    from pc_perception.ops.gpu import neighbors as neighbors_kernels
    from pc_perception.ops.gpu import patches as patches_kernels
    from pc_perception.ops.gpu import sampling as sampling_kernels

    model, batch = build(run).to("meta"), batch_of(N_OBJECTS, N_POINTS).to(torch.device("meta"))
    for module in (chamfer, neighbors, patches, sampling, transformer):
        monkeypatch.setattr(module, "resolve", lambda *_, **__: "triton")
    for module in (chamfer_patches, neighbors_kernels, patches_kernels, residual_norm, sampling_kernels):
        monkeypatch.setattr(module, "launch", lambda *_, **__: None)
    for module in (chamfer, packed):
        monkeypatch.setattr(module, "capturing", lambda _: True)
    make = torch.tensor

    def on_host(data: object, **how: Any) -> Tensor:
        assert how.get("device") is None, "a copy from the host"
        return make(data, **how)

    monkeypatch.setattr(torch, "tensor", on_host)
    with NothingCopied():
        model.losses(batch)["loss_chamfer"].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("_", [pytest.param(0, marks=on_gpu)])
def test_replayed_as_from_python(run: RunSettings, low: bool, _: int) -> None:
    """More steps than are taken before the capture: the same losses, other clouds, rates and draws in each."""
    run = replace(run, amp=low)
    expected = losses(CapturedStep(build(run, "cuda"), run, captured=False), 10)
    step = CapturedStep(build(run, "cuda"), run)
    assert losses(step, 10) == pytest.approx(expected, rel=5e-2 if low else 1e-2)
    assert float(step(clouds())) != float(step(clouds()))
