# SPDX-License-Identifier: Apache-2.0
"""Chamfer distance in Triton against the reference: values, gradients, ties."""

import pytest
import torch

from pc_perception.ops.chamfer import chamfer_distance

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BOTH = ("triton", "torch")


def _clouds(shape: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    scenes, n, m = shape
    return tuple(torch.rand(scenes, k, 3, generator=g).to(DEVICE, dtype).requires_grad_() for k in (n, m))


def _agree(a: torch.Tensor, b: torch.Tensor, norm: str) -> torch.Tensor:
    found, expected = (chamfer_distance(a, b, norm, backend) for backend in BOTH)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    grads = (torch.autograd.grad(3 * value, (a, b)) for value in (found, expected))
    for x, y in zip(*grads, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)
    return found


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_the_reference_s(norm: str, dtype: torch.dtype) -> None:
    for shape in ((9, 32, 32), (3, 40, 25), (5, 7, 64), (1, 150, 300), (2, 1, 5), (1, 1, 1)):
        _agree(*_clouds(shape, dtype), norm)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_large_clouds_are_searched(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pc_perception.ops.gpu import chamfer, neighbors

    for module in (chamfer, neighbors):
        monkeypatch.setattr(module, "ALL_PAIRS", 60)
    _agree(*_clouds((2, 150, 200)), norm)
    g = torch.Generator().manual_seed(3)  # many equally near
    _agree(
        *(torch.randint(0, 4, (2, 100, 3), generator=g).float().to(DEVICE).requires_grad_() for _ in "ab"),
        norm,
    )


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_gradient(norm: str) -> None:
    a, b = _clouds((1, 4, 3), torch.float64)
    assert torch.autograd.gradcheck(lambda p, q: chamfer_distance(p, q, norm, "triton"), (a, b))
    target = b.detach()
    assert torch.autograd.gradcheck(lambda p: chamfer_distance(p, target, norm, "triton"), (a,))
    assert torch.autograd.gradcheck(lambda p: chamfer_distance(target, p, norm, "triton"), (a,))


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_ties_and_coinciding_points(norm: str) -> None:
    g = torch.Generator().manual_seed(2)
    a, b = (torch.randint(0, 3, (2, 140, 3), generator=g).float().to(DEVICE).requires_grad_() for _ in "ab")
    _agree(a, b, norm)
    half = (a.detach()[:, :40] + 0.5).requires_grad_()  # eight corners at the same distance
    _agree(half, b, norm)
    same = torch.ones(1, 20, 3, device=DEVICE, requires_grad=True)
    assert float(_agree(same, torch.ones(1, 9, 3, device=DEVICE, requires_grad=True), norm).detach()) == 0


def test_one_scene_and_strides() -> None:
    a, b = _clouds((2, 30, 20))
    _agree(a.detach()[0].requires_grad_(), b.detach()[0].requires_grad_(), "l2")
    turned = a.detach().mT.contiguous().mT.requires_grad_()
    assert not turned.is_contiguous()
    _agree(turned, b, "l1")


def test_refuses_what_has_no_distance() -> None:
    a, b = (t.detach() for t in _clouds((2, 4, 3)))
    for wrong, message in (
        (b.double(), "both be float32"),
        (b[:, :0], "empty"),
        (torch.full_like(b, torch.nan), "NaN or Inf"),
    ):
        with pytest.raises(ValueError, match=message):
            chamfer_distance(a, wrong, "l2", "triton")
