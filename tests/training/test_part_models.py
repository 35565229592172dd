# SPDX-License-Identifier: Apache-2.0
"""Labels for the points of objects: the head's sizes, what they depend on, runs on ShapeNetPart and S3DIS."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import SMALL, fit, make_object

from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_model
from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.object_contract import ObjectContract
from pc_perception.models.object_encoder import SIZES, ObjectEncoder
from pc_perception.models.object_parts import ObjectPartSegmenter
from training.data.objects import LabeledObject
from training.evaluate import main as pc_evaluate
from training.evaluate.part_models import load_part_segmenter
from training.methods.method import Task
from training.methods.parts import PartSegmentation
from training.methods.spd import Spd
from training.objects import ObjectAugmentation, ObjectBatch
from training.run import train
from training.settings import RunSettings, read_config

ENCODER = {**SMALL, "depth": 3}
TASK = Task(ObjectContract(128), 50, 0, ENCODER, ObjectAugmentation(scale=(0.9, 1.1), shift=0.05))
METHOD = PartSegmentation()


def halves(seed: int, n: int = 200) -> LabeledObject:
    """A cap (category 2) whose upper half is part 7, its lower half part 6."""
    xyz = make_object(seed % 5, seed, n).xyz
    upper = xyz[:, 2] > np.median(xyz[:, 2])
    return LabeledObject(xyz, {"label": np.where(upper, 7, 6).astype(np.uint16)}, category=2)


def batch(n: int) -> ObjectBatch:
    return METHOD.collate([METHOD.sample(halves(s), np.random.default_rng(s), TASK) for s in range(n)])


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        network = ObjectPartSegmenter(ObjectEncoder(**SIZES["card"]), 50, 16)
    assert network.taps == [4, 8, 12]
    assert network.carry[0].weight.shape == (1536, 1155)
    assert network.carry[3].weight.shape == (1024, 1536)
    assert network.head[0].weight.shape == (512, 3392)
    assert network.head[-1].weight.shape == (50, 256)
    with pytest.raises(ValueError, match="features of three blocks, the encoder has 2"):
        ObjectPartSegmenter(ObjectEncoder(**{**ENCODER, "depth": 2}), 50)


def test_labels_go_with_their_points() -> None:
    cloud = halves(1)
    sample = METHOD.sample(
        cloud, np.random.default_rng(0), replace(TASK, augmentation=ObjectAugmentation(keep=0.5))
    )
    assert sample.parts is not None
    upper = sample.points[:, 2] > sample.points[:, 2].median()
    assert float(((sample.parts == 7) == upper).float().mean()) > 0.95
    bad = {
        "no labels": LabeledObject(cloud.xyz, category=2),
        "category 16 is none of the 16": replace(cloud, category=16),
        "none of its points": LabeledObject(cloud.xyz, {"label": np.full(200, 65535, np.uint16)}, category=2),
    }
    for problem, one in bad.items():
        with pytest.raises(ValueError, match=problem):
            METHOD.sample(one, np.random.default_rng(0), TASK)


def test_no_object_sees_another_and_the_category_matters() -> None:
    torch.manual_seed(0)
    network = ObjectPartSegmenter(ObjectEncoder(**ENCODER), 50, 16).eval()
    one = batch(5)
    with torch.no_grad():
        together = network(one.points, one.labels, one.offsets)
        for k, (a, b) in enumerate(zip(one.offsets, one.offsets[1:], strict=False)):
            alone = network(one.points[a:b], one.labels[k : k + 1])
            torch.testing.assert_close(alone, together[a:b], rtol=1e-4, atol=1e-4)
        dense = network(one.points[:128][None].expand(2, -1, -1), torch.tensor([2, 3]))
    torch.testing.assert_close(dense[0], together[:128], rtol=1e-4, atol=1e-4)
    assert float((dense[0] - dense[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("method", [METHOD, Spd(host=METHOD, geo=0.0, momentum=0.9)])
def test_it_learns_upper_and_lower_halves(method: PartSegmentation | Spd) -> None:
    torch.manual_seed(0)
    model = method.build(TASK, np.ones(50, np.int64))
    data = batch(8)
    fit(model, data, 60, lr=5e-3)
    with torch.no_grad():
        found = model.eval().losses(data)
    assert float(found["accuracy"]) > 0.8  # 0.5 by guessing between the two
    assert ("loss_spd" in found) is isinstance(method, Spd)


def shapenet_part(root: Path) -> str:
    (root / "train_test_split").mkdir(parents=True)
    for split, seeds in {"train": range(8), "val": range(8, 9), "test": range(9, 12)}.items():
        names = [f"shape_data/02954340/{seed}" for seed in seeds]
        (root / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))
        for name, seed in zip(names, seeds, strict=True):
            cloud, file = halves(seed), root / f"{name.removeprefix('shape_data/')}.txt"
            file.parent.mkdir(exist_ok=True)
            x, y, z = cloud.xyz.T  # published files have y up
            np.savetxt(file, np.c_[x, z, -y, np.zeros((len(cloud), 3)), cloud.fields["label"]], fmt="%.6f")
    return f"shapenetpart:{root}"


def short(config: str, data: str, work_dir: Path, method: object = None) -> RunSettings:
    words = [
        "max_steps=6",
        "batch_size=4",
        "progress=false",
        "threads=1",
        f"work_dir={work_dir}",
        f"data={data}",
    ]
    run = replace(read_config(config, words), encoder=ENCODER, contract=ObjectContract(128))
    return replace(run, method=method or run.method).validate()


@pytest.mark.parametrize("method", [None, Spd(host=METHOD, geo=0.0)])
def test_from_shapenetpart_to_both_mious(
    tmp_path: Path, method: Spd | None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shapenet_part(tmp_path / "parts")
    file = train(short("parts_tiny", data, tmp_path / "run", method))
    header, _ = read_model_file(file)
    assert (header.task, len(header.labels or ())) == ("parts", 50)
    with pytest.raises(ValueError, match="holds a model for 'parts'"):
        load_model(file)
    assert pc_evaluate([str(file), "--data", data, "--split", "test", "--record"]) == 0
    printed = capsys.readouterr().out
    assert "instance_miou" in printed
    assert "class_miou" in printed
    assert "3 of them, 0 left out" in printed
    recorded = read_model_file(file)[0].provenance["metrics"]
    assert set(recorded["shapenetpart:parts test"]) == {"instance_miou", "class_miou"}
    segment, _ = load_part_segmenter(file, "cpu")
    points = torch.randn(3, 128, 3)
    with torch.inference_mode():
        many = segment(points, torch.tensor([2, 2, 2]))
        torch.testing.assert_close(many[1:2], segment(points[1:2], torch.tensor([2])), rtol=1e-4, atol=1e-4)


def test_blocks_of_s3dis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for area in (1, 5):
        xyz = np.c_[rng.uniform(0, 2, (5000, 2)), rng.choice([0.0, 1.0], 5000)]
        label = np.where(xyz[:, 2] > 0.5, 7, 1)
        rows = np.c_[xyz, np.zeros((5000, 3)), label].astype(np.float32)
        np.save(tmp_path / f"Area_{area}_office_1.npy", rows)
    run = short("blocks_tiny", f"s3dis-blocks:{tmp_path}", tmp_path / "run")
    file = train(replace(run, areas=("1",)))
    assert pc_evaluate([str(file), "--data", f"s3dis-blocks:{tmp_path}", "--areas", "5"]) == 0
    printed = capsys.readouterr().out
    assert "miou" in printed
    assert "over the sampled points of blocks" in printed
    assert pc_evaluate([str(file), "--data", "sim:objects", "--n-scenes", "1"]) == 1
    assert "no labelled parts" in capsys.readouterr().err


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="class_weights be positive"):
        PartSegmentation(class_weights=(1.0, 0.0)).validate()
    with pytest.raises(ValueError, match="2 class_weights for 50 classes"):
        PartSegmentation(class_weights=(1.0, 1.0)).build(TASK, np.ones(50, np.int64))
    with pytest.raises(ValueError, match="category -1"):
        METHOD.sample(PointCloud(halves(0).xyz, halves(0).fields), np.random.default_rng(0), TASK)  # type: ignore[arg-type]
