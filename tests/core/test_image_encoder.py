# SPDX-License-Identifier: Apache-2.0
"""Image trunks: shapes, frozen, and foreign weights checked against the networks written out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pc_perception.models.image_encoder import FrozenTrunk, PixelHead, SmallTrunk, enlarged, make_trunk
from pc_perception.models.image_weights import load_image_weights

State = dict[str, Tensor]


def test_the_small_trunk_and_its_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    trunk, images = SmallTrunk(), torch.rand(2, 3, 64, 96)
    save_file({f"trunk.{k}": v for k, v in trunk.state_dict().items()}, tmp_path / "t.safetensors")
    other = SmallTrunk()
    load_image_weights(other, tmp_path / "t.safetensors")
    frozen = FrozenTrunk(other)
    frozen.train()
    assert not any(m.training for m in frozen.modules())
    out = frozen(images)
    assert out.shape == (2, SmallTrunk.width, 4, 6)
    assert not out.requires_grad
    normalised = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    torch.testing.assert_close(out, trunk(normalised).detach())
    torch.testing.assert_close(frozen(images[1:]), out[1:], atol=1e-5, rtol=0)


def test_pixel_heads_enlarge_with_aligned_corners() -> None:
    head = PixelHead(2, 3, 4)
    x = torch.rand(1, 2, 3, 5)
    out, small = head(x), head.layer(x)
    assert out.shape == (1, 3, 12, 20)
    torch.testing.assert_close(
        out[..., [0, 0, -1, -1], [0, -1, 0, -1]], small[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_enlarging_is_bilinear_interpolation_with_its_gradient(layout: torch.memory_format) -> None:
    x = torch.rand(2, 5, 3, 7, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    found, expected = (x.clone().requires_grad_() for _ in "ab")
    out = enlarged(found, 8)
    reference = functional.interpolate(expected, scale_factor=8, mode="bilinear", align_corners=True)
    torch.testing.assert_close(out, reference)
    weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weight).sum().backward()
    (reference * weight).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad)
    narrow = enlarged(x.bfloat16(), 8)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), out.detach(), atol=0.02, rtol=0)


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image trunk 'vgg'"):
        make_trunk("vgg")
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        load_image_weights(SmallTrunk(), tmp_path / "none.pth")
    torch.save({"network": SmallTrunk()}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="plain tensors"):
        load_image_weights(SmallTrunk(), tmp_path / "code.pth")
    state = SmallTrunk().state_dict()
    torch.save({**state, "stem.bias": torch.zeros(3)}, tmp_path / "shape.pth")
    with pytest.raises(ValueError, match=r"'stem.bias' is \(3,\), the trunk needs \(32,\)"):
        load_image_weights(SmallTrunk(), tmp_path / "shape.pth")
    del state["stem.bias"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"lacks the tensor 'stem.bias'"):
        load_image_weights(SmallTrunk(), tmp_path / "less.pth")


def _resnet50_state(g: torch.Generator) -> State:
    """Random weights under torchvision's names."""
    state: State = {}

    def conv(name: str, n_out: int, n_in: int, k: int) -> None:
        state[f"{name}.weight"] = torch.randn(n_out, n_in, k, k, generator=g) * (2 / (n_in * k * k)) ** 0.5

    def norm(name: str, n: int) -> None:
        for part, low in (("weight", 0.5), ("bias", -0.1), ("running_mean", -0.1), ("running_var", 0.8)):
            state[f"{name}.{part}"] = low + torch.rand(n, generator=g) * 0.3
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    n_in = 64
    for stage, (width, n_blocks) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True), 1):
        for block in range(n_blocks):
            name = f"layer{stage}.{block}"
            for i, (a, b, k) in enumerate(((n_in, width, 1), (width, width, 3), (width, 4 * width, 1)), 1):
                conv(f"{name}.conv{i}", b, a, k)
                norm(f"{name}.bn{i}", b)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * width, n_in, 1)
                norm(f"{name}.downsample.1", 4 * width)
            n_in = 4 * width
    return state


def _resnet50(x: Tensor, s: State) -> Tensor:
    """He et al. 2016 with the stride in the 3x3 convolution, as torchvision has it."""

    def unit(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        w = s[f"{conv}.weight"]
        x = functional.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)
        parts = (s[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts)

    x = functional.max_pool2d(unit(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for stage, n_blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(n_blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = unit(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = unit(y, f"{name}.conv2", f"{name}.bn2", stride).relu()
            y = unit(y, f"{name}.conv3", f"{name}.bn3")
            if block == 0:
                x = unit(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = (x + y).relu()
    return x


def _vit_small_state(g: torch.Generator) -> State:
    """Random weights under DINO's names."""
    shapes = {
        "cls_token": (1, 1, 384),
        "pos_embed": (1, 197, 384),
        "norm.weight": (384,),
        "norm.bias": (384,),
    }
    shapes |= {"patch_embed.proj.weight": (384, 3, 16, 16), "patch_embed.proj.bias": (384,)}
    layers = {
        "attn.qkv": (1152, 384),
        "attn.proj": (384, 384),
        "mlp.fc1": (1536, 384),
        "mlp.fc2": (384, 1536),
    }
    for i in range(12):
        for name, shape in layers.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        shapes |= {f"blocks.{i}.norm{k}.{p}": (384,) for k in (1, 2) for p in ("weight", "bias")}
    return {name: torch.randn(shape, generator=g) * 0.05 for name, shape in shapes.items()}


def _vit_small(x: Tensor, s: State) -> Tensor:
    """Dosovitskiy et al. 2021, at the resolution of its position table."""

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (384,), s[f"{name}.weight"], s[f"{name}.bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, s[f"{name}.weight"], s[f"{name}.bias"])

    patches = functional.conv2d(x, s["patch_embed.proj.weight"], s["patch_embed.proj.bias"], stride=16)
    x = (
        torch.cat([s["cls_token"].expand(len(x), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        + s["pos_embed"]
    )
    for i in range(12):
        qkv = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = qkv.unflatten(2, (3, 6, 64)).permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(2, 3) / 8).softmax(3) @ v).transpose(1, 2).flatten(2)
        x = x + linear(y, f"blocks.{i}.attn.proj")
        y = functional.gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
        x = x + linear(y, f"blocks.{i}.mlp.fc2")
    return norm(x, "norm")[:, 1:].transpose(1, 2).unflatten(2, (14, 14))


@pytest.mark.parametrize("layout", ["torchvision", "moco_v2"])
def test_resnet50_of_torchvision_and_moco_v2(layout: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="image trunks need transformers")
    state = _resnet50_state(torch.Generator().manual_seed(0))
    data: dict = {**state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    if layout == "moco_v2":
        own = {f"module.encoder_q.{k}": v for k, v in data.items()}
        data = {"epoch": 800, "arch": "resnet50", "state_dict": own | {"module.queue": torch.zeros(128, 4)}}
    torch.save(data, tmp_path / "moco.pth.tar")
    trunk = make_trunk("resnet50")
    load_image_weights(trunk, tmp_path / "moco.pth.tar")
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = trunk.eval()(images), _resnet50(images, state)
    assert found.shape == (1, trunk.width, 64 // trunk.stride, 96 // trunk.stride)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("layout", ["bare", "teacher"])
def test_vit_small_of_dino(layout: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="image trunks need transformers")
    state = _vit_small_state(torch.Generator().manual_seed(0))
    data: dict = dict(state)
    if layout == "teacher":
        own = {f"module.backbone.{k}": v for k, v in state.items()}
        data = {"teacher": own | {"module.head.mlp.0.weight": torch.zeros(2, 2)}, "student": {}, "epoch": 1}
    torch.save(data, tmp_path / "dino.pth")
    trunk = make_trunk("vit_small16")
    load_image_weights(trunk, tmp_path / "dino.pth")
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(trunk.eval()(images), _vit_small(images, state), rtol=1e-3, atol=1e-3)
        assert trunk(torch.zeros(1, 3, 32, 64)).shape == (1, 384, 2, 4)
