# SPDX-License-Identifier: Apache-2.0
"""The models that come with the package, and README's own code on them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.inference.classifier import Classifier
from pc_perception.inference.contract import InputContract
from pc_perception.inference.loading import load_model, load_shapes
from pc_perception.inference.meshing import sample_surface
from pc_perception.inference.model_choice import choose_model
from pc_perception.inference.model_file import read_model_file, shipped_models
from pc_perception.io.files import write_cloud
from pc_perception.labels import UNLABELED, label_map, load_label_set, other_names
from pc_perception.metrics import Confusion
from pc_perception.simulation.drive import simulate_drive
from pc_perception.simulation.object_shapes import CLASSES, random_shape
from pc_perception.simulation.occupancy import Solid
from pc_perception.simulation.rgbd import rgbd_frames
from pc_perception.simulation.scan import scan_room
from training.data.simulated_objects import simulated_object
from training.data.specs import DataOptions, open_data
from training.evaluate.accuracy import measure_classifier

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def sweeps() -> list[PointCloud]:
    return [next(iter(simulate_drive(2_000_000 + seed, 1))).cloud for seed in range(3)]


def test_the_shipped_models_say_where_they_come_from() -> None:
    assert {"street", "room", "objects", "shapes"} <= set(shipped_models())
    for name, path in shipped_models().items():
        assert path.stat().st_size <= 10_000_000
        header, _ = read_model_file(name)
        for key in ("method", "data", "seed", "commit", "licence", "metrics"):
            assert header.provenance.get(key) not in (None, "", {}), f"{name}: {key}"
        if isinstance(header.contract, InputContract):
            assert header.contract.seen


def _miou(model: str, clouds: list[PointCloud]) -> float:
    segmenter = load_model(model, "cpu")
    truth_of = label_map("simulation", segmenter.label_set.name)
    confusion = Confusion(len(segmenter.label_set))
    for cloud in clouds:
        confusion.add(
            truth_of[cloud.fields["label"]],
            segmenter(PointCloud(cloud.xyz, _seen(cloud), cloud.frame)).labels,
        )
    return confusion.mean_iou()


def _seen(cloud: PointCloud) -> dict:
    return {name: cloud.fields[name] for name in ("intensity", "rgb") if name in cloud.fields}


def test_street_labels_streets_it_never_saw(sweeps: list[PointCloud]) -> None:
    assert _miou("street", sweeps) > 0.35  # far from chance (0.03); the figure itself is in docs/results


def test_room_labels_rooms_it_never_saw() -> None:
    assert _miou("room", [scan_room(2_000_000), scan_room(2_000_001)]) > 0.25


def test_objects_names_shapes_and_cut_outs_that_it_never_saw(tmp_path: Path) -> None:
    model = load_model("objects", "cpu")
    assert isinstance(model, Classifier)
    of = other_names(model.label_set)
    seeds = range(2_000_000, 2_000_064)
    names = [CLASSES[seed % len(CLASSES)] for seed in seeds]
    right = [
        found.name == of.get(name, name)
        for name, found in zip(names, model([simulated_object(s) for s in seeds]), strict=True)
    ]
    assert np.mean(right) > 0.5  # 0.06 by chance; the figure itself is in docs/objects.md
    options = DataOptions("objects16", n_scenes=1, per_scene=1, seed=2_000_000, cache_dir=str(tmp_path))
    (cut,) = open_data("instances:sim:street", options)
    found = measure_classifier(
        lambda clouds: [r.label for r in model(clouds)],
        model.label_set.classes,
        cut,  # type: ignore[arg-type]
    )
    assert found.accuracy > 0.4


def test_classify_needs_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cloud(tmp_path / "thing.ply", simulated_object(2_000_000))
    assert main(["classify", str(tmp_path / "thing.ply"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] in load_label_set("objects16").classes


def test_batch_independence_of_the_shipped_model(sweeps: list[PointCloud]) -> None:
    model = load_model("street", "cpu")
    for alone, together in zip([model(c) for c in sweeps], model(sweeps), strict=True):
        assert np.array_equal(alone.labels, together.labels)
        np.testing.assert_allclose(alone.confidence, together.confidence, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(sweeps[0]))
    shuffled = model(sweeps[0].select(order)).labels
    assert (model(sweeps[0]).labels[order] == shuffled).mean() > 0.999


def test_the_model_follows_from_the_cloud(sweeps: list[PointCloud]) -> None:
    assert choose_model(sweeps[0])[0] == "street"
    assert choose_model(next(iter(rgbd_frames(3)))[0])[0] == "room"
    assert choose_model(scan_room(3))[0] == "room"
    wide = PointCloud(sweeps[0].xyz, {"rgb": np.zeros((len(sweeps[0]), 3), np.uint8)})
    assert choose_model(wide)[0] == "street"
    assert choose_model(PointCloud(np.zeros((0, 3), np.float32)))[0] == "street"


def test_readme_code_runs(
    tmp_path: Path,
    sweeps: list[PointCloud],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cloud("sweep.pcd", PointCloud(sweeps[0].xyz, _seen(sweeps[0])))
    [code] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["result"].labels) == len(sweeps[0])
    assert (names["result"].labels != UNLABELED).mean() > 0.9
    assert "road" in capsys.readouterr().out


def test_shapes_tells_fields_of_shapes_it_never_saw() -> None:
    """Far from nothing (0) and below what docs/results/point_mge.md says of many shapes."""
    tokenizer = load_shapes("shapes", "cpu", "float32").network.tokenizer
    rng = np.random.default_rng(0)
    for name in ("cabinet", "car", "bottle"):
        mesh = random_shape(name, 3_000_000)
        with torch.inference_mode():
            field = tokenizer.reconstruct(torch.from_numpy(sample_surface(mesh, 2048, rng)))
            places = rng.uniform(-1, 1, (20_000, 3)).astype(np.float32)
            found = field(torch.from_numpy(places)).numpy() >= 0
        truth = Solid(mesh).contains(places)
        assert (found & truth).sum() > 0.6 * (found | truth).sum(), name


def test_shapes_makes_and_completes() -> None:
    model = load_shapes("shapes", "cpu")
    assert all(len(mesh.faces) > 100 for mesh in model.generate("chair", 2, resolution=32))
    mesh = random_shape("sofa", 3_000_000)
    points = sample_surface(mesh, 3000, 0) + np.array([3, 0, 0], np.float32)
    seen = points[points[:, 0] < 3]
    found = model.complete(PointCloud(seen), class_name="sofa", resolution=32)
    assert found.n_seen < 64
    size = np.ptp(found.mesh.vertices, axis=0)
    assert (size > 0.5 * np.ptp(seen, axis=0)).all()
    assert (size < 2.5 * np.ptp(points, axis=0)).all()
