# SPDX-License-Identifier: Apache-2.0
"""Point-MGE: both stages learn, nothing of hidden tokens leaks, the codebook's collapse is told, files go round."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import object_run, write_objects

from pc_perception.inference.loading import load_model, load_object_encoder
from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.shape_contract import ShapeContract
from pc_perception.inference.shapes import ShapeModel
from pc_perception.models.codebook import perplexity
from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.shape_generator import ShapeNetwork, in_order
from pc_perception.models.shape_tokenizer import ShapeTokenizer
from training.data.fields import open_fields
from training.evaluate.fields import score_fields
from training.methods.point_mge import PointMge, PointMgeModel
from training.methods.point_mge_tokenizer import (
    PATIENCE,
    PointMgeTokenizer,
    PointMgeTokenizerModel,
    wear,
)
from training.run import train
from training.settings import RunSettings
from training.shape_fields import FieldBatch, collate_fields, draw_field

G, V = 16, 32
TOKENIZER = {
    **{"n_patches": G, "patch_size": 16, "width": 32, "heads": 2, "encoder_depth": 0, "decoder_depth": 1},
    **{"embed": [16, 24, 32], "n_codes": V, "code_width": 8, "decay": 0.9, "hidden": 48, "field_depth": 2},
}
ENCODER = {"n_patches": G, "patch_size": 16, "width": 32, "depth": 1, "heads": 2, "embed": [8, 12, 16]}
N_POINTS = 256


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fields")


@pytest.fixture(scope="session")
def batch(cache: Path) -> FieldBatch:
    return batch_of(cache, "train")


def batch_of(cache: Path, split: str, n: int = 12, seed: int = 0) -> FieldBatch:
    data = open_fields("analytic:all", split, n, cache_dir=cache)
    rng = np.random.default_rng(seed)
    return collate_fields([draw_field(data[i], rng, N_POINTS, 256) for i in range(n)])


def fit(model, batch: FieldBatch, n_steps: int, lr: float) -> list[dict[str, float]]:  # type: ignore[no-untyped-def]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    model.train()
    found = []
    for step in range(n_steps):
        losses = model.losses(batch)
        optimizer.zero_grad()
        sum(v for k, v in losses.items() if k.startswith("loss")).backward()
        optimizer.step()
        model.after_step((step + 1) / n_steps)
        found.append({k: float(v.detach()) for k, v in losses.items()})
    return found


@pytest.fixture(scope="session")
def tokenizer(cache: Path) -> ShapeTokenizer:
    """A tokenizer that knows some analytic shapes."""
    torch.manual_seed(0)
    model = PointMgeTokenizerModel(ShapeTokenizer(**TOKENIZER), PointMgeTokenizer(n_queries=256, near=0.5))
    for seed in range(6):
        fit(model, batch_of(cache, "train", 36, seed), 40, 4e-3)
    return model.tokenizer.eval()


def stage_two(tokenizer: ShapeTokenizer, **settings: object) -> PointMgeModel:
    torch.manual_seed(0)
    network = ShapeNetwork(tokenizer, ObjectEncoder(**ENCODER), 3, 32, 2, 2)
    return PointMgeModel(network, PointMge(**settings))  # type: ignore[arg-type]


def test_fields_of_unseen_shapes_are_drawn(tokenizer: ShapeTokenizer, cache: Path) -> None:
    other = open_fields("analytic:all", "test", 12, cache_dir=cache)
    with torch.inference_mode():
        scores = score_fields(lambda x: tokenizer.reconstruct(torch.from_numpy(x)), other, N_POINTS)
        points = torch.from_numpy(np.stack([other[i].points[:N_POINTS] for i in range(12)]))
        ids = tokenizer.tokenize(tokenizer.patches(points)).ids
    assert scores.iou > 0.5  # after seconds of training; nothing learned gives 0
    assert float(perplexity(ids.flatten(), V)) > 4


def test_another_sampling_of_a_shape_has_more_codes_in_common_than_another_shape(
    tokenizer: ShapeTokenizer, cache: Path
) -> None:
    """Codes at the nearest centres; and the field of one sampling is that of the other."""
    one, other = (batch_of(cache, "test", seed=s) for s in (0, 1))
    a, b = (tokenizer.tokenize(tokenizer.patches(x.points)) for x in (one, other))
    same, different = [], []
    for i in range(12):
        for j in range(12):
            nearest = torch.cdist(a.centers[i], b.centers[j]).argmin(1)
            share = float((a.ids[i] == b.ids[j][nearest]).float().mean())
            (same if i == j else different).append(share)
    assert np.mean(same) > 1.5 * np.mean(different)
    places = one.queries[:, 0]
    with torch.no_grad():
        first, second = (tokenizer(tokenizer.patches(x.points), places)[0] for x in (one, other))
    agree = ((first >= 0) == (second >= 0)).float().mean()
    assert float(agree) > 0.9


def test_worn_patches_hold_fewer_points_of_their_own(batch: FieldBatch, tokenizer: ShapeTokenizer) -> None:
    torch.manual_seed(0)
    patches = tokenizer.patches(batch.points)
    assert torch.equal(wear(patches, 0.0).points, patches.points)
    worn = wear(patches, 1.0)
    assert torch.equal(worn.centers, patches.centers)
    nearest = torch.cdist(worn.points.flatten(0, 1), patches.points.flatten(0, 1)).amin(2)
    assert 0 < float(nearest.max()) < 0.06
    apart = torch.cdist(worn.points.flatten(0, 1), worn.points.flatten(0, 1)).flatten(1)
    assert float((apart.std(1) > 0).float().mean()) == 1


def test_a_collapsed_codebook_stops_the_run_with_a_sentence(batch: FieldBatch) -> None:
    torch.manual_seed(0)
    model = PointMgeTokenizerModel(ShapeTokenizer(**TOKENIZER), PointMgeTokenizer(n_queries=64))
    with torch.no_grad():
        model.tokenizer.to_code.weight.zero_()  # all features are equal, and no restart can help
    model.train()

    def run() -> None:
        for _ in range(PATIENCE):
            model.losses(few)
            model.after_step(0.0)

    few = FieldBatch(batch.points[:2], batch.queries[:2, :, :4], batch.occupied[:2, :, :4], batch.labels[:2])
    with pytest.raises(ValueError, match=r"codebook has collapsed.*over 1\.0 of 32 codes.*lower lr"):
        run()


def test_it_begins_at_chance_and_learns(tokenizer: ShapeTokenizer, batch: FieldBatch) -> None:
    """Cross-entropies begin at ln V and ln 256 and fall."""
    model = stage_two(tokenizer, label_smoothing=0.0)
    found = fit(model, batch, 120, 3e-3)
    assert found[0]["loss_codes"] == pytest.approx(math.log(V), abs=0.15)
    assert found[0]["loss_centers"] == pytest.approx(math.log(256), abs=0.15)
    late = {k: np.mean([f[k] for f in found[-15:]]) for k in found[0]}
    assert late["loss_codes"] < 0.85 * math.log(V)
    assert late["loss_centers"] < 0.85 * math.log(256)


@pytest.mark.parametrize("codes", [0.0, 1.0])
def test_nothing_of_hidden_tokens_leaks(tokenizer: ShapeTokenizer, batch: FieldBatch, codes: float) -> None:
    """What the slots say does not change when hidden codes, centres and patches are replaced by others."""
    model = stage_two(tokenizer, codes=codes).eval()
    patches = tokenizer.patches(batch.points)
    tokens = tokenizer.tokenize(patches)
    order = torch.rand(12, G).argsort(1)
    seen, hidden = order[:, :6], order[:, 6:]
    said: list[torch.Tensor] = []
    model.network.generator.register_forward_hook(lambda *call: said.append(call[2]))
    for other in (False, True):
        if other:
            tokens.ids.scatter_(1, hidden, torch.randint(V, hidden.shape))
            tokens.bins[torch.arange(12)[:, None], hidden] = torch.randint(256, (*hidden.shape, 3))
            patches.points[torch.arange(12)[:, None], hidden] = torch.randn(12, 10, 16, 3)
            patches.centers[torch.arange(12)[:, None], hidden] = torch.randn(12, 10, 3)
        with torch.no_grad():
            model.name_hidden(patches, tokens, seen, in_order(tokens, hidden), batch.labels)
    assert said[0].shape == (12, 10, 32)
    assert torch.equal(said[0], said[1])


def test_shuffled_targets_stay_at_chance(tokenizer: ShapeTokenizer, batch: FieldBatch) -> None:
    """No leak: codes drawn anew at every step cannot be named better than by chance."""
    model = stage_two(tokenizer, label_smoothing=0.0)
    patches = tokenizer.patches(batch.points)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    late = []
    for step in range(80):
        tokens = tokenizer.tokenize(patches)
        tokens = replace(tokens, ids=torch.randint(V, tokens.ids.shape))
        order = torch.rand(12, G).argsort(1)
        losses = model.name_hidden(
            patches, tokens, order[:, :6], in_order(tokens, order[:, 6:]), batch.labels
        )
        optimizer.zero_grad()
        losses["loss_codes"].backward()
        optimizer.step()
        if step >= 60:
            late.append(float(losses["loss_codes"].detach()))
    assert np.mean(late) > math.log(V) - 0.03


def test_masks_hide_as_many_as_they_say(tokenizer: ShapeTokenizer, batch: FieldBatch) -> None:
    model = stage_two(tokenizer, one_sided=1.0)
    tokens = tokenizer.tokenize(tokenizer.patches(batch.points))
    order = model.order(tokens)
    assert torch.equal(order.sort(1).values, torch.arange(G).expand(12, -1))
    # Hidden and seen tokens of one side lie apart.
    middle = tokens.take(order[:, :8]).centers.mean(1) - tokens.take(order[:, 8:]).centers.mean(1)
    model.settings = replace(model.settings, one_sided=0.0)
    order = model.order(tokens)
    mixed = tokens.take(order[:, :8]).centers.mean(1) - tokens.take(order[:, 8:]).centers.mean(1)
    assert middle.norm(dim=1).mean() > 1.5 * mixed.norm(dim=1).mean()
    model.fraction = 1.0
    counts = []
    model.network.generator.register_forward_pre_hook(lambda _, a: counts.append(a[2]))
    for _ in range(60):
        with torch.no_grad():
            model.losses(batch)
    assert min(counts) >= G // 2
    assert max(counts) == G  # which is where generation begins


def test_the_tokenizer_stays_as_it_is(tokenizer: ShapeTokenizer, batch: FieldBatch) -> None:
    before = {k: v.clone() for k, v in tokenizer.state_dict().items()}
    fit(stage_two(tokenizer), batch, 3, 1e-2)
    assert all(torch.equal(v, before[k]) for k, v in tokenizer.state_dict().items())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Path]:
    """Model files of both stages, of runs of a few steps."""
    folder = tmp_path_factory.mktemp("runs")
    one = RunSettings(
        method=PointMgeTokenizer(n_queries=64),
        contract=ShapeContract(N_POINTS),
        encoder=TOKENIZER,
        data="analytic:all",
        n_scenes=12,
        cache_dir=str(cache),
        max_steps=3,
        batch_size=4,
        work_dir=str(folder / "one"),
        threads=1,
        progress=False,
    )
    first = train(one)
    two = replace(
        one,
        method=PointMge(tokenizer=str(first), width=32, depth=1, heads=2),
        encoder=ENCODER,
        work_dir=str(folder / "two"),
    )
    return first, train(two)


def test_runs_leave_files_that_work(files: tuple[Path, Path]) -> None:
    header, _ = read_model_file(files[0])
    assert (header.task, header.labels) == ("tokenizer", None)
    header, _ = read_model_file(files[1])
    assert header.task == "shapes"
    assert header.labels is not None
    assert header.labels.classes == ("sphere", "box", "torus")
    assert header.provenance["config"]["method"]["tokenizer"] == "model.safetensors"
    model = load_model(files[1], "cpu")
    assert isinstance(model, ShapeModel)
    assert len(model.generate("box", 2, resolution=16)) == 2
    with pytest.raises(ValueError, match=r"holds a model for 'tokenizer'"):
        load_model(files[0])


def test_a_model_of_shapes_gives_its_tokenizer(files: tuple[Path, Path]) -> None:
    arguments, tensors = PointMge(tokenizer=str(files[1]))._tokenizer()
    first = read_model_file(files[0])
    assert arguments == first[0].architecture["arguments"]
    assert all(torch.equal(v, tensors[k]) for k, v in first[1].items())
    assert set(tensors) == set(first[1])


def test_the_extractor_starts_a_classifier(files: tuple[Path, Path], tmp_path: Path) -> None:
    objects = write_objects(tmp_path / "objects", [0, 1], 128)
    changes = {"max_steps": 1, "batch_size": 4, "lr": 1e-12, "ema": 0.0, "survey": 4, "init": str(files[1])}
    run = object_run(objects, tmp_path / "run", encoder=ENCODER, **changes)
    tuned = train(run)
    theirs, ours = read_model_file(files[1])[1], read_model_file(tuned)[1]
    key = "encoder.transformer.blocks.0.attn.qkv.weight"
    assert torch.allclose(theirs[key], ours[key], atol=1e-9)
    encoder = load_object_encoder(files[1], "cpu")
    assert encoder.describe(torch.rand(2, 100, 3)).shape == (2, 96)


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tokenizer is empty"):
        PointMge().validate()
    with pytest.raises(ValueError, match="class_drop"):
        PointMge(tokenizer="x", class_drop=2.0).validate()
    with pytest.raises(ValueError, match="n_queries"):
        PointMgeTokenizer(n_queries=0).validate()
    with pytest.raises(FileNotFoundError, match="neither a file nor a shipped model"):
        PointMge(tokenizer=str(tmp_path / "none")).architecture({})
    wrong = {**ENCODER, "n_patches": 8}
    with pytest.raises(ValueError, match=r"16 patches of 16 points"):
        PointMgeModel(
            ShapeNetwork(ShapeTokenizer(**TOKENIZER), ObjectEncoder(**wrong), 1, 32, 1, 2), PointMge()
        )
