# SPDX-License-Identifier: Apache-2.0
"""Objects from voxels' offsets: grouping, losses, PQ by the devkit, official files, whole runs on a simulated drive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("open3d", reason="ray casting needs open3d")

import camera_drive

from pc_perception.commands.sinks import labelled
from pc_perception.inference.contract import InputContract
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.panoptic import group_instances
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.inference.stream import SweepOptions, SweepSegmenter
from pc_perception.labels import UNLABELED, label_map, load_label_set
from pc_perception.models.panoptic_segmenter import PanopticSegmenter
from pc_perception.models.segmenters import SEGMENTERS
from pc_perception.simulation.writers.nuscenes_tables import nuscenes32_table
from training.augment import Augmentation
from training.data.nuscenes_results import LabelResults, official_ids, panoptic_ids
from training.data.specs import DataOptions, open_one
from training.evaluate import panoptic as evaluation
from training.methods.method import Task
from training.methods.panoptic import Panoptic, voxel_offsets
from training.methods.segmentation import Segmentation
from training.run import train
from training.settings import RunSettings, read_config

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ENCODER = {"widths": (8, 8, 16), "blocks": (1, 1), "up_widths": (16, 16), "up_blocks": (1, 1)}
CONTRACT = InputContract(grid_m=0.4, features=("offset", "height", "intensity"), max_range_m=60)
LABELS = load_label_set("nuscenes16")
TASK = Task(CONTRACT, 16, 3, ENCODER, Augmentation(max_points=0, thin=0), SEGMENTERS["PanopticSegmenter"])
THINGS = torch.arange(16) < 10
CAR, PERSON, ROAD = (LABELS.classes.index(n) for n in ("car", "pedestrian", "driveable_surface"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return camera_drive.write(tmp_path_factory.mktemp("drive"))


@pytest.fixture(scope="module")
def data(root: Path):  # type: ignore[no-untyped-def]
    return open_one(f"nuscenes:{root}", DataOptions("nuscenes16", instances=True))


def test_the_challenges_classes_and_the_simulators_agree() -> None:
    raw = np.arange(22)
    through = label_map("nuscenes32", "nuscenes16")[nuscenes32_table()[raw]]
    assert label_map("simulation", "nuscenes16")[raw].tolist() == through.tolist()
    table = label_map("nuscenes32", "nuscenes16")
    official = [
        0,
        0,
        7,
        7,
        7,
        0,
        7,
        0,
        0,
        1,
        0,
        0,
        8,
        0,
        2,
        3,
        3,
        4,
        5,
        0,
        0,
        6,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        0,
        16,
        0,
    ]
    assert official_ids(table[:32]).tolist() == official


def test_semantickitti_has_the_benchmarks_order() -> None:
    raw = [10, 252, 11, 15, 18, 20, 30, 31, 32, 40, 60, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81, 0, 52, 99]
    want = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18] + [UNLABELED] * 3
    assert label_map("semantickitti", "semantickitti19")[raw].tolist() == want


def test_offsets_part_two_cars_that_touch_and_let_each_agree_on_a_class() -> None:
    x = torch.linspace(0, 8, 41)
    place = torch.stack([x, torch.zeros(41), torch.zeros(41)], 1)
    center = torch.where(x < 4, 2.0, 6.0)
    offset = torch.stack([center - x, torch.zeros(41), torch.full((41,), 9.0)], 1)
    logits = torch.zeros(41, len(LABELS))
    logits[:, CAR] = 2
    logits[3, PERSON] = 3  # one voxel of the first car
    logits[40, ROAD] = 5  # and one that is no object
    agreed, instance = group_instances(place, offset, logits, THINGS)
    assert agreed.argmax(1).tolist() == [CAR] * 40 + [ROAD]
    assert instance[:40].tolist() == [1] * 20 + [2] * 20
    assert instance[40] == 0
    together = group_instances(place, torch.zeros(41, 3), logits, THINGS)[1]
    assert set(together.tolist()) == {0, 1}
    order = torch.randperm(41, generator=torch.Generator().manual_seed(0))
    _, mixed = group_instances(place[order], offset[order], logits[order], THINGS)
    same = lambda ids: ids[:, None] == ids  # noqa: E731
    assert torch.equal(same(mixed), same(instance[order]))
    assert (group_instances(place, offset, logits, torch.arange(16) == PERSON)[1] > 0).sum() == 1
    assert not group_instances(place, offset + torch.nan, logits, THINGS)[1].any()


def test_offsets_lead_to_the_middle_of_what_is_seen() -> None:
    xyz = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 1], [9, 9, 0], [70, 0, 0]], np.float32)
    instance = np.array([7, 7, 7, 0, 7])
    from pc_perception.cloud import PointCloud

    prepared = CONTRACT.prepare(PointCloud(xyz, {"intensity": np.ones(5, np.float32)}), 3)
    offset = voxel_offsets(xyz, instance, prepared)[prepared.inverse]
    torch.testing.assert_close(offset[:3], torch.tensor([[1, 0.5, 0.5], [-1, 0.5, 0.5], [-1, -0.5, -0.5]]))
    assert offset[3].isnan().all()


def test_it_learns_where_objects_are(data) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    method = Panoptic()
    batch = method.collate([method.sample(data[k], np.random.default_rng(k), TASK) for k in range(2)])
    assert batch.offset.shape == (len(batch.features), 3)
    known = batch.offset.isfinite().all(1)
    assert 50 < int(known.sum()) < len(known) / 2
    assert (batch.target[known] < LABELS.classes.index("driveable_surface")).float().mean() > 0.9
    model = method.build(TASK, np.ones(16, np.int64))
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    log = []
    for _ in range(25):
        losses = model.losses(batch)
        optimiser.zero_grad()
        sum(v for k, v in losses.items() if k.startswith("loss")).backward()  # type: ignore[union-attr]
        optimiser.step()
        log.append({k: float(v.detach()) for k, v in losses.items()})
    assert log[-1]["offset_m"] < 0.7 * log[0]["offset_m"]
    assert log[-1]["loss_ce"] < log[0]["loss_ce"]
    empty = data[0].with_fields(instance=np.zeros(len(data[0])))
    nothing = method.collate([method.sample(empty, np.random.default_rng(0), TASK)])
    assert float(model.losses(nothing)["loss_offset"].detach()) == 0
    plain = open_one(f"nuscenes:{data.root}", DataOptions("nuscenes16"))[0]
    with pytest.raises(ValueError, match="no instance ids"):
        method.sample(plain, np.random.default_rng(0), TASK)
    other = replace(TASK, network=SEGMENTERS["SparseUNetSegmenter"])
    with pytest.raises(ValueError, match="needs network=PanopticSegmenter"):
        method.build(other, np.ones(16, np.int64))


def oracle(change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]):  # type: ignore[no-untyped-def]
    """Answer with the truth, changed."""

    class Oracle:
        label_set = LABELS

        def __call__(self, cloud) -> SegmentationResult:  # type: ignore[no-untyped-def]
            labels, instance = change(cloud.fields["label"].copy(), cloud.fields["instance"].copy())
            return SegmentationResult(labels, np.ones(len(cloud), np.float32), LABELS, {}, instance)

    return Oracle()


def test_pq_of_the_truth_and_of_what_is_less(data) -> None:  # type: ignore[no-untyped-def]
    perfect = evaluation.evaluate(oracle(lambda a, b: (a, b)), data)
    assert perfect["all"]["PQ"] == pytest.approx(1)
    assert set(perfect) - {"all"} <= set(LABELS.classes)
    assert "car" in perfect
    merged = evaluation.evaluate(oracle(lambda a, b: (a, np.minimum(b, 1))), data)
    assert merged["car"]["PQ"] < 0.7
    assert merged["driveable_surface"]["PQ"] == pytest.approx(1)
    assert merged["all"]["IoU"] == pytest.approx(1)
    blind = evaluation.evaluate(oracle(lambda a, b: (np.full_like(a, ROAD), b * 0)), data)
    assert blind["car"]["PQ"] == 0
    by_distance = evaluation.evaluate(oracle(lambda a, b: (a, None)), data, cluster=True)  # type: ignore[arg-type,return-value]
    assert 0.3 < by_distance["car"]["PQ"] < 1
    assert by_distance["vegetation"]["PQ"] == pytest.approx(1)
    with pytest.raises(ValueError, match="tells no objects apart"):
        evaluation.evaluate(oracle(lambda a, b: (a, None)), data)  # type: ignore[arg-type,return-value]


def test_official_files_are_what_the_devkit_reads(data, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from nuscenes.utils.data_io import load_bin_file

    cloud, token = data[0], data.frames[0][1]
    labels, instance = cloud.fields["label"], cloud.fields["instance"]
    LabelResults(tmp_path, "mine", "panoptic").add(token, labels, instance)
    found = load_bin_file(str(tmp_path / f"panoptic/mine/{token}_panoptic.npz"), "panoptic")
    assert found.dtype == np.uint16
    assert np.array_equal(found // 1000, official_ids(labels))
    _, parts = np.unique(instance, return_inverse=True)
    assert len(set(zip(found % 1000, parts, strict=True))) == parts.max() + 1
    LabelResults(tmp_path, "mine", "lidarseg").add(token, labels)
    assert np.array_equal(
        load_bin_file(str(tmp_path / f"lidarseg/mine/{token}_lidarseg.bin")), official_ids(labels)
    )
    assert '"meta"' in (tmp_path / "mine" / "submission.json").read_text()
    many = panoptic_ids(np.full(3000, CAR, np.uint16), np.repeat(np.arange(1, 1501), 2))
    assert (many // 1000 == CAR + 1).all()
    assert len(np.unique(many)) == 1000


def test_whole_runs(make_run: Callable[..., RunSettings], root: Path, data, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    common = {
        "data": f"nuscenes:{root}", "contract": CONTRACT, "encoder": ENCODER, "label_set": "nuscenes16",
        "survey": 1, "batch_size": 1, "max_steps": 12, "lr": 1e-2, "ema": 0.0,
    }  # fmt: skip
    network = PanopticSegmenter
    file = train(make_run(**common, method=Panoptic(), network=network, work_dir=str(tmp_path / "run")))
    model, cloud = load_segmenter(file, "cpu"), data[0]
    found = model(cloud)
    assert found.instance is not None
    assert found.instance.shape == (len(cloud),)
    assert isinstance(model.network, PanopticSegmenter)
    things = np.isin(found.labels, model.network.things.nonzero()[:, 0])
    assert model.network.things[CAR]
    assert not model.network.things[ROAD]
    assert not found.instance[~things].any()
    assert (found.instance[things] > 0).all()
    order = np.random.default_rng(0).permutation(len(cloud))
    mixed = model(cloud.select(order))
    assert (mixed.labels == found.labels[order]).mean() > 0.999
    assert model([cloud, data[1]])[0].instance.tolist() == found.instance.tolist()  # type: ignore[union-attr]
    sure = SweepSegmenter(model, SweepOptions(confidence_threshold=float(np.median(found.confidence))))(cloud)
    unsure = sure.labels == UNLABELED
    assert 0 < unsure.sum() < len(cloud)
    assert sure.instance is not None
    np.testing.assert_array_equal(sure.instance, np.where(unsure, 0, found.instance))
    marked = labelled(cloud, found)
    np.testing.assert_array_equal(marked.fields["instance"], found.instance)
    out = str(tmp_path / "results")
    assert evaluation.main([str(file), "--data", f"nuscenes:{root}", "--results", out]) == 0
    assert "driveable_surface" in capsys.readouterr().out
    assert len(list(Path(out).rglob("*_panoptic.npz"))) == 3
    plain = train(
        make_run(
            **common, method=Segmentation(), network=network, init=str(file), work_dir=str(tmp_path / "plain")
        )
    )
    assert load_segmenter(plain, "cpu").network.offset[0].weight.shape == (16, 16)  # type: ignore[union-attr]
    common |= {"max_steps": 2, "label_set": "street8"}
    street = make_run(**common, method=Panoptic(), network=network, work_dir=str(tmp_path / "street"))
    assert evaluation.main([str(train(street)), "--data", f"nuscenes:{root}", "--results", out]) == 1
    assert "need the classes nuscenes16" in capsys.readouterr().err


def test_the_config_fits_what_it_starts_from() -> None:
    run, pretrain = read_config("panoptic"), read_config("cmcr_pretrain")
    assert (run.encoder, run.contract) == (pretrain.encoder, pretrain.contract)
    assert run.data_options().instances
    assert not pretrain.data_options().instances
