# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints, written here with their exact names and shapes, come in and go out unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from shapes import batch_of, object_run, write_objects
from torch import nn

from pc_perception.inference.model_file import read_model_file
from pc_perception.models.discrete_vae import DiscreteVae
from pc_perception.models.object_encoder import SIZES, ObjectClassifier, ObjectEncoder
from pc_perception.models.patches import make_patches
from training.foreign_weights import load_foreign, load_foreign_encoder, read_foreign, save_foreign
from training.methods.point_mae import PointMae, PointMaeModel
from training.methods.point_pqae import PointPqae, PointPqaeModel
from training.run import train

Shapes = dict[str, tuple[int, ...]]


def affine(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def batch_norm(name: str, n: int) -> Shapes:
    return {
        **affine(name, n),
        f"{name}.running_mean": (n,),
        f"{name}.running_var": (n,),
        f"{name}.num_batches_tracked": (),
    }


def embedding(name: str, width: int = 384) -> Shapes:
    return {
        **affine(f"{name}.first_conv.0", 128, 3, 1),
        **batch_norm(f"{name}.first_conv.1", 128),
        **affine(f"{name}.first_conv.3", 256, 128, 1),
        **affine(f"{name}.second_conv.0", 512, 512, 1),
        **batch_norm(f"{name}.second_conv.1", 512),
        **affine(f"{name}.second_conv.3", width, 512, 1),
    }


def blocks(name: str, depth: int) -> Shapes:
    out: Shapes = {}
    for i in range(depth):
        at = f"{name}.{i}"
        out |= affine(f"{at}.norm1", 384) | affine(f"{at}.norm2", 384)
        out |= affine(f"{at}.mlp.fc1", 1536, 384) | affine(f"{at}.mlp.fc2", 384, 1536)
        out |= {f"{at}.attn.qkv.weight": (1152, 384)} | affine(f"{at}.attn.proj", 384, 384)
    return out


def position(name: str) -> Shapes:
    return affine(f"{name}.0", 128, 3) | affine(f"{name}.2", 384, 128)


def encoder(prefix: str, tokens: bool) -> Shapes:
    return {
        **({f"{prefix}cls_token": (1, 1, 384), f"{prefix}cls_pos": (1, 1, 384)} if tokens else {}),
        **embedding(f"{prefix}encoder"),
        **position(f"{prefix}pos_embed"),
        **blocks(f"{prefix}blocks.blocks", 12),
        **affine(f"{prefix}norm", 384),
    }


def graph(name: str, n_out: int) -> Shapes:
    out = affine(f"{name}.input_trans", 128, 256, 1)
    for i, (a, b) in enumerate(((256, 256), (512, 512), (1024, 512), (1024, 1024)), 1):
        out |= {f"{name}.layer{i}.0.weight": (b, a, 1, 1)} | affine(f"{name}.layer{i}.1", b)
    return out | {f"{name}.layer5.0.weight": (n_out, 2304, 1)} | affine(f"{name}.layer5.1", n_out)


POINT_MAE = {
    "mask_token": (1, 1, 384),
    **encoder("MAE_encoder.", False),
    **position("decoder_pos_embed"),
    **blocks("MAE_decoder.blocks", 4),
    **affine("MAE_decoder.norm", 384),
    **affine("increase_dim.0", 96, 384, 1),
}
POINT_PQAE = {
    **encoder("PQAE_encoder.", True),
    **position("decoder_pos_embed"),
    **blocks("PQ_decoder.blocks", 4),
    **affine("PQ_decoder.norm", 384),
    "PQattn_contrast.q.weight": (384, 384),
    "PQattn_contrast.kv.weight": (768, 384),
    **affine("PQattn_contrast.proj", 384, 384),
    **affine("PQ_linear", 96, 384),
}
CLASSIFIER = {
    **encoder("", True),
    **affine("cls_head_finetune.0", 256, 768),
    **batch_norm("cls_head_finetune.1", 256),
    **affine("cls_head_finetune.4", 256, 256),
    **batch_norm("cls_head_finetune.5", 256),
    **affine("cls_head_finetune.8", 40, 256),
}
POINT_BERT = {
    "codebook": (8192, 256),
    **embedding("encoder", 256),
    **graph("dgcnn_1", 8192),
    **graph("dgcnn_2", 256),
    **affine("decoder.mlp.0", 1024, 256),
    **affine("decoder.mlp.2", 1024, 1024),
    **affine("decoder.mlp.4", 24, 1024),
    **affine("decoder.final_conv.0", 512, 261, 1),
    **batch_norm("decoder.final_conv.1", 512),
    **affine("decoder.final_conv.3", 512, 512, 1),
    **batch_norm("decoder.final_conv.4", 512),
    **affine("decoder.final_conv.6", 3, 512, 1),
}


def card_encoder(class_token: bool) -> ObjectEncoder:
    return ObjectEncoder(**SIZES["card"], class_token=class_token)


# layout: its tensors, how many and how many numbers (the cards'; None: not given there), our network.
LAYOUTS: dict[str, tuple[Shapes, int, int | None, Callable[[], nn.Module]]] = {
    "point_mae": (POINT_MAE, 209, 29_007_714, lambda: PointMaeModel(card_encoder(False), PointMae())),
    "point_pqae": (POINT_PQAE, 214, 29_598_306, lambda: PointPqaeModel(card_encoder(True), PointPqae())),
    "classifier": (CLASSIFIER, 174, None, lambda: ObjectClassifier(card_encoder(True), 40)),
    "point_bert": (POINT_BERT, 75, 27_624_223, DiscreteVae),
}


def write(path: Path, shapes: Shapes, prefix: str = "module.") -> dict[str, torch.Tensor]:
    """Write a checkpoint as the public code does; return its tensors."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in shapes.items():
        tensor = 0.02 * torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            tensor = torch.tensor(7)
        tensors[name] = tensor.abs() if name.endswith("running_var") else tensor
    state = {f"{prefix}{k}": v for k, v in tensors.items()}
    file = {"base_model": state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 300}
    torch.save(file | {"metrics": {"acc": 1.0}, "best_metrics": None}, path)
    return tensors


@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip(tmp_path: Path, layout: str) -> None:
    shapes, n_tensors, n_numbers, make = LAYOUTS[layout]
    assert len(shapes) == n_tensors
    if n_numbers:
        assert sum(torch.Size(s).numel() for s in shapes.values()) == n_numbers
    written = write(tmp_path / "published.pth", shapes)
    network = make()
    load_foreign(network, tmp_path / "published.pth")
    save_foreign(network, layout, tmp_path / "ours.pth")
    found, back = read_foreign(tmp_path / "ours.pth")
    assert found == layout
    assert {k: tuple(v.shape) for k, v in back.items()} == shapes
    assert all(torch.equal(back[k], written[k]) for k in written)


def test_qkv_rows_are_query_key_value(tmp_path: Path) -> None:
    """The fused product is packed as published: rows q, k, v, each with heads behind each other."""
    attention = card_encoder(False).transformer.blocks[0].attn
    x = torch.randn(2, 5, 384)
    q, k, v = (x @ w.T for w in attention.qkv.weight.split(384))
    by_head = [t.view(2, 5, 6, 64).transpose(1, 2) for t in (q, k, v)]
    expected = ((by_head[0] @ by_head[1].mT / 8).softmax(-1) @ by_head[2]).transpose(1, 2).reshape(2, 5, 384)
    assert torch.allclose(attention(x), attention.proj(expected), atol=1e-5)


def test_the_embedding_is_that_of_the_concatenated_features() -> None:
    """One product fewer, the same result as the published max, concatenate, convolve."""
    torch.manual_seed(0)
    own = ObjectEncoder().embedding.eval()
    points = torch.randn(2, 3, 8, 3)
    local = own.first(points.flatten(0, 2)).view(2, 3, 8, -1)
    both = torch.cat([local.amax(2, keepdim=True).expand_as(local), local], -1)
    expected = own.second(both.flatten(0, 2)).view(2, 3, 8, -1).amax(2)
    assert torch.allclose(own(points), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "left"), [(POINT_MAE, ["class_token", "class_position"]), (POINT_PQAE, [])]
)
def test_encoders_go_into_classifiers(tmp_path: Path, shapes: Shapes, left: list[str]) -> None:
    written = write(tmp_path / "published.pth", shapes)
    network = ObjectClassifier(card_encoder(True), 15)
    told = load_foreign_encoder(network, tmp_path / "published.pth")
    assert [line for line in told if line.startswith("encoder.")] == [
        f"encoder.{name}: not in the file" for name in left
    ]
    prefix = "MAE_encoder" if shapes is POINT_MAE else "PQAE_encoder"
    ours = network.encoder.transformer.blocks[11].mlp[0].weight
    assert torch.equal(ours, written[f"{prefix}.blocks.blocks.11.mlp.fc1.weight"])


def test_a_run_starts_from_a_published_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "pretrain.pth", POINT_MAE)
    folder = write_objects(tmp_path / "objects", [0])
    run = object_run(
        folder,
        tmp_path / "run",
        encoder=SIZES["card"],
        init=str(tmp_path / "pretrain.pth"),
        max_steps=1,
        batch_size=2,
        lr=1e-12,
        ema=0.0,
    )
    tensors = read_model_file(train(run))[1]
    expected = torch.load(tmp_path / "pretrain.pth", weights_only=True)["base_model"]
    assert torch.allclose(
        tensors["encoder.transformer.norm.weight"], expected["module.MAE_encoder.norm.weight"], atol=1e-6
    )


def test_another_patch_size_is_told(tmp_path: Path) -> None:
    write(tmp_path / "published.pth", POINT_MAE)
    encoder = ObjectEncoder(**{**SIZES["card"], "patch_size": 16}, class_token=False)
    with pytest.raises(ValueError, match=r"increase_dim.* is \(96, 384\), .* \(48, 384\).*patch_size"):
        load_foreign(PointMaeModel(encoder, PointMae()), tmp_path / "published.pth")
    with pytest.raises(ValueError, match=r"patches of 32 points, .* takes 16; set encoder.patch_size=32"):
        load_foreign_encoder(ObjectClassifier(encoder, 5), tmp_path / "published.pth")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        read_foreign(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match="plain tensors"):
        read_foreign(tmp_path / "text.pth")
    torch.save({"base_model": Path("/")}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="plain tensors"):
        read_foreign(tmp_path / "code.pth")
    torch.save({"base_model": {"conv.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no known layout"):
        read_foreign(tmp_path / "other.pth")
    write(tmp_path / "words.pth", POINT_BERT)
    with pytest.raises(ValueError, match="no encoder of objects"):
        load_foreign_encoder(ObjectClassifier(ObjectEncoder(), 2), tmp_path / "words.pth")


def test_the_tokeniser_runs() -> None:
    torch.manual_seed(0)
    network, batch = DiscreteVae(n_words=64).eval(), batch_of(2)
    patches = make_patches(batch.points, 16, 32, batch.offsets)
    coarse, fine = network(patches)
    assert (coarse.shape, fine.shape) == ((2, 16, 8, 3), (2, 16, 32, 3))
    assert network.words(patches).shape == (2, 16)
    order = torch.randperm(16)
    turned = patches.take(order.expand(2, -1))
    assert torch.allclose(network.logits(turned), network.logits(patches)[:, order], atol=1e-4)
