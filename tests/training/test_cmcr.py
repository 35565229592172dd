# SPDX-License-Identifier: Apache-2.0
"""CMCR from simulated sweeps with pictures to a segmenter: samples, terms and switches, learning, whole runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("open3d", reason="ray casting needs open3d")

import camera_drive

from pc_perception.inference.contract import InputContract
from pc_perception.inference.loading import load_model
from pc_perception.inference.model_file import read_model_file
from pc_perception.models.segmenters import SEGMENTERS
from pc_perception.models.sparse_unet import SparseUNetSegmenter
from training.augment import Augmentation
from training.data.cameras import CameraCloud
from training.data.crops import CropSettings
from training.data.specs import DataOptions, open_one
from training.methods.cmcr import Cmcr, turned
from training.methods.cmcr_model import CmcrModel, at_stride
from training.methods.frames import FrameBatch
from training.methods.image_trunk import ImageTrunk
from training.methods.method import Task
from training.methods.panels import frame_panel
from training.methods.segmentation import Segmentation
from training.run import train
from training.settings import RunSettings, read_config

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ENCODER = {"widths": (8, 8, 16), "blocks": (1, 1), "up_widths": (16, 16), "up_blocks": (1, 1)}
CONTRACT = InputContract(grid_m=0.4, features=("offset", "height", "intensity"), max_range_m=60)
TASK = Task(CONTRACT, 0, 3, ENCODER, Augmentation(max_points=0), SEGMENTERS["SparseUNetSegmenter"])
SMALL = Cmcr(
    image_trunk="small", pixel_stride=4, crop=CropSettings(64, 112), pairs=256, queries=300, n_codes=32,
    superpixel=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return camera_drive.write(tmp_path_factory.mktemp("drive"))


@pytest.fixture(scope="module")
def clouds(root: Path) -> list[CameraCloud]:
    data = open_one(f"nuscenes:{root}", DataOptions(None, cameras=True, cache_dir=str(root / "cache")))
    return [data[i] for i in range(len(data))]  # type: ignore[misc]


def batch_of(clouds: list[CameraCloud], method: Cmcr = SMALL) -> FrameBatch:
    return method.collate([method.sample(c, np.random.default_rng(i), TASK) for i, c in enumerate(clouds)])


@cache
def model(method: Cmcr = SMALL) -> CmcrModel:
    torch.manual_seed(0)
    return method.build(TASK, np.zeros(0, np.int64))


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum((v for k, v in losses.items() if k.startswith("loss")), torch.zeros(()))


def test_a_sample_holds_what_both_see(clouds: list[CameraCloud]) -> None:
    sample = SMALL.sample(clouds[0], np.random.default_rng(0), TASK)
    assert sample.rgb.shape == (2, 64, 112, 3)
    pairs = sample.pairs
    assert len(pairs) > 500
    assert int(pairs.voxel.max()) < len(sample.prepared.features)
    assert int(pairs.voxel.min()) >= 0
    v, u = pairs.pixel.T
    assert torch.equal(sample.hidden[pairs.picture, v, u], pairs.hidden)
    assert sample.segments is not None
    assert set(sample.segments[0].unique().tolist()).isdisjoint(sample.segments[1].unique().tolist())
    rays = sample.occupancy
    assert rays.offset.norm(dim=1).max() < 1
    assert 0 <= rays.intensity.nan_to_num().min() <= rays.intensity.nan_to_num().max() <= 1
    # Voxels near a picture's place are near each other: the depth of the pair is that of the voxel's point.
    places = sample.prepared.pyramid.levels[0].xyz[pairs.voxel]
    assert float((places.norm(dim=1) - pairs.depth).median().abs()) < 3


def test_everything_is_reconstructed_where_nothing_is_masked(clouds: list[CameraCloud]) -> None:
    sample = replace(SMALL, mask_picture=0.0).sample(clouds[0], np.random.default_rng(0), TASK)
    assert not sample.hidden.any()
    assert not sample.pairs.hidden.any()


def test_turning_keeps_the_sensor_and_every_distance() -> None:
    xyz = np.random.default_rng(0).normal(0, 9, (200, 3)).astype(np.float32)
    found = [turned(xyz, np.random.default_rng(s)) for s in range(20)]
    for moved in found:
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.linalg.norm(xyz, axis=1), rtol=1e-5)
        np.testing.assert_array_equal(moved[:, 2], xyz[:, 2])
    hands = {float(np.sign(np.linalg.det(np.linalg.lstsq(xyz, m, rcond=None)[0]))) for m in found}
    assert hands == {1.0, -1.0}


def test_a_cloud_without_pictures_or_pairs_is_refused(clouds: list[CameraCloud]) -> None:
    plain = replace(clouds[0], cameras=())
    with pytest.raises(ValueError, match="without pictures"):
        SMALL.sample(camera_drive.frames()[0].cloud, np.random.default_rng(0), TASK)
    blind = tuple(replace(c, T_camera_lidar=np.diag([1.0, 1, 1, 1]) * 0) for c in clouds[0].cameras)
    with pytest.raises(ValueError, match=f"sample {blind[0].sample}: only 0 points are seen"):
        SMALL.sample(replace(plain, cameras=blind), np.random.default_rng(0), TASK)


def test_at_the_start_the_losses_say_nothing_is_known(clouds: list[CameraCloud]) -> None:
    losses = {k: v.detach() for k, v in model().losses(batch_of(clouds[:1])).items()}
    assert float(losses["loss_match"]) == pytest.approx(np.log(256), abs=0.1)
    assert float(losses["loss_nce"]) == pytest.approx(np.log(256), abs=0.7)
    assert float(losses["loss_occ"]) == pytest.approx(np.log(2), abs=0.1)
    assert 1 <= float(losses["perplexity"]) <= 32
    assert 0 < float(losses["psnr_db"]) < 40


SWITCHES = {
    "nce": {"nce": 0.0}, "superpixel": {"superpixel": 0.0}, "commit": {"commit": 0.0}, "match": {"match": 0.0},
    "rec": {"rec": 0.0}, "occ": {"occ": 0.0}, "intensity": {"intensity": 0.0}, "orth": {"orth": 0.0},
    "orth_image": {"orth_image": 0.0}, "kl": {"kl": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("term", SWITCHES)
def test_each_term_goes_by_one_switch(term: str, clouds: list[CameraCloud]) -> None:
    method = replace(SMALL, **SWITCHES[term])
    m = model(method)
    losses = m.losses(batch_of(clouds[:1], method))
    names = {k for k in losses if k.startswith("loss")}
    assert names == {f"loss_{t}" for t in SWITCHES} - {f"loss_{term}"}
    total(losses).backward()
    assert [n for n, p in m.named_parameters() if p.requires_grad and p.grad is None] == []


def test_contrast_alone_trains_what_it_reaches(clouds: list[CameraCloud]) -> None:
    off = dict.fromkeys(("commit", "match", "rec", "occ", "intensity", "orth", "orth_image", "kl"), 0.0)
    method = replace(SMALL, superpixel=0.0, codebook=False, **off)
    m = model(method)
    losses = m.losses(batch_of(clouds[:1], method))
    assert {k for k in losses if k.startswith("loss")} == {"loss_nce"}
    losses["loss_nce"].backward()
    assert [n for n, p in m.named_parameters() if p.requires_grad and p.grad is None] == []


def test_without_codebook_and_geometry(clouds: list[CameraCloud]) -> None:
    batch = batch_of(clouds[:1])
    losses = model(replace(SMALL, codebook=False)).losses(batch)
    assert {"loss_commit", "loss_match", "perplexity"}.isdisjoint(losses)
    found = []
    for geometry in (True, False):
        m = model(replace(SMALL, geometry=geometry)).eval()
        m.load_state_dict(model().state_dict())
        found.append(float(m.losses(batch)["loss_rec"].detach()))
        m.train()
    assert bool(batch.pairs.hidden.any())
    assert found[0] != found[1]


def test_released_leaves_out_what_the_paper_adds() -> None:
    released = replace(SMALL, mode="released").effective()
    assert (released.kl, released.orth_image, released.geometry) == (0, 0, False)
    assert (released.orth, released.rec, released.occ) == (SMALL.orth, SMALL.rec, SMALL.occ)
    assert SMALL.effective() == SMALL
    for wrong in (
        {"mode": "both"},
        {"mask_patch": 2.0},
        {"occ": -1.0},
        {"pixel_stride": 3},
        {"temperature": 0.0},
    ):
        with pytest.raises(ValueError, match="method"):
            replace(SMALL, **wrong).validate()


def test_other_scenes_of_a_batch_change_nothing(clouds: list[CameraCloud]) -> None:
    one, two = batch_of(clouds[:1]), batch_of(clouds[:2])
    m = model().eval()
    with torch.no_grad():
        alone, both = (m.encoder(b.features, b.pyramid) for b in (one, two))
        maps = [m.trunk(b.rgb.movedim(3, 1) / 255) for b in (one, two)]
    m.train()
    torch.testing.assert_close(both[: len(alone)], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(maps[1][:2], maps[0], atol=1e-5, rtol=1e-5)
    n = len(one.pairs)
    assert torch.equal(two.pairs.voxel[:n], one.pairs.voxel)
    assert int(two.pairs.picture[n:].min()) == 2
    assert int(two.pairs.voxel[n:].min()) >= len(one.features)
    assert int(two.occupancy.voxel[len(one.occupancy.full) :].min()) >= len(one.features)


def test_half_precision_gives_the_same_terms(clouds: list[CameraCloud]) -> None:
    m, batch, found = model().eval(), batch_of(clouds[:1]), []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled):
            found.append({k: float(v) for k, v in m.losses(batch).items() if k.startswith("loss")})
    m.train()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=0.1, abs=0.01), name


def test_a_picture_that_cannot_be_read_is_named_and_replaced(
    clouds: list[CameraCloud], tmp_path: Path
) -> None:
    from training.data.dataset import Picker
    from training.stream import SampleStream

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    spoiled = replace(clouds[0], cameras=tuple(replace(c, file=broken) for c in clouds[0].cameras))

    class Two(list):
        def name(self, index: int) -> str:
            return f"number {index}"

    stream = SampleStream(Picker([Two([spoiled, clouds[1]])], (), 0), SMALL, TASK, 0)
    bad = [line for k in range(4) for line in stream[k].bad]
    assert bad
    assert all(f"number 0: sample {clouds[0].cameras[0].sample}: the picture of CAM_" in line for line in bad)


def test_it_learns_a_frame_and_leaves_the_trunk_alone(clouds: list[CameraCloud]) -> None:
    torch.manual_seed(0)
    m, batch = SMALL.build(TASK, np.zeros(0, np.int64)), batch_of(clouds[:1])
    before = [p.clone() for p in m.trunk.parameters()]
    optimiser = torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], 4e-3)
    log = []
    for _ in range(40):
        losses = m.losses(batch)
        optimiser.zero_grad()
        total(losses).backward()
        optimiser.step()
        log.append({k: float(v.detach()) for k, v in losses.items()})
    start, end = log[0], log[-1]
    assert end["loss_nce"] < start["loss_nce"] - 1.0  # stuck at ln N = a wrong pairing
    assert end["retrieval"] > 5 / 256
    assert end["loss_rec"] < 0.6 * start["loss_rec"]
    assert end["psnr_db"] > start["psnr_db"] + 2
    assert end["loss_occ"] < start["loss_occ"]
    assert end["loss_superpixel"] < start["loss_superpixel"]
    assert end["same_code"] > 0.3
    assert all(torch.equal(a, b) for a, b in zip(before, m.trunk.parameters(), strict=True))
    unused = [n for n, p in m.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []


def test_the_panel_shows_points_in_the_colours_of_their_pixels(clouds: list[CameraCloud]) -> None:
    batch = batch_of(clouds[:1])
    panel = model().panel(batch)
    height, width = 64 // 4, 112 // 4
    assert panel.shape == (4 * height, 2 * width, 3)
    hidden = batch.hidden[0, ::4, ::4].numpy()
    assert not panel[:height, :width][hidden].any()
    pairs = batch.pairs.select(torch.arange(1))
    pixels = torch.randn(2, 8, height, width)
    points = torch.zeros(int(pairs.voxel.max()) + 1, 8)
    v, u = (pairs.pixel[0] // 4).tolist()
    points[pairs.voxel] = pixels[pairs.picture, :, v, u]
    blank = torch.zeros(2, 3, height, width)
    found = frame_panel(blank, blank, pixels, points, at_stride(pairs, 4))
    column = int(pairs.picture) * width + u
    assert found[3 * height + v, column].tolist() == found[2 * height + v, column].tolist()
    assert int((found[3 * height :].sum(2) > 0).sum()) == 1


def test_whole_runs(
    make_run: Callable[..., RunSettings], root: Path, clouds: list[CameraCloud], tmp_path: Path
) -> None:
    """A trunk without labels, an encoder from it, a segmenter from that, and labels for a cloud."""
    common = {
        "data": f"nuscenes:{root}", "cache_dir": str(root / "cache"), "contract": CONTRACT, "encoder": ENCODER,
        "network": SparseUNetSegmenter, "survey": 1, "batch_size": 1, "log_steps": 1, "panel_steps": 2,
    }  # fmt: skip
    trunk = train(
        make_run(
            **common,
            method=ImageTrunk(CropSettings(48, 80, area=(0.3, 0.8)), places=24),
            max_steps=3,
            label_set="",
            work_dir=str(tmp_path / "trunk"),
        )
    )
    method = replace(SMALL, image_weights=str(trunk))
    encoder = train(
        make_run(**common, method=method, max_steps=3, label_set="", work_dir=str(tmp_path / "pre"))
    )
    header, tensors = read_model_file(encoder)
    assert (header.task, header.architecture["name"]) == ("encoder", "SparseUNetSegmenter")
    assert all(name.startswith("encoder.") for name in tensors)
    assert header.provenance["config"]["method"]["image_weights"] == "model.safetensors"
    assert str(tmp_path) not in str(header.provenance)
    assert "loss_nce" in next((tmp_path / "pre").rglob("*.log")).read_text()
    tuned = train(
        make_run(
            **common,
            method=Segmentation(),
            max_steps=2,
            init=str(encoder),
            work_dir=str(tmp_path / "tune"),
        )
    )
    log = next((tmp_path / "tune").rglob("*.log")).read_text()
    assert "not loaded: head.weight: not in the file; head.bias: not in the file" in log
    segmenter = load_model(tuned, "cpu")
    found, pair = segmenter(clouds[0]), segmenter([clouds[0], clouds[1]])
    assert found.labels.shape == (len(clouds[0]),)
    assert np.array_equal(pair[0].labels, found.labels)
    order = np.random.default_rng(0).permutation(len(clouds[0]))
    assert (segmenter(clouds[0].select(order)).labels == found.labels[order]).mean() > 0.999


def test_an_encoder_of_other_voxels_or_another_intensity_is_told(tmp_path: Path) -> None:
    """The released code pre-trains on Cartesian voxels and intensity / 255, and fine-tunes on others."""
    from pc_perception.inference.model_file import ModelHeader, save_model
    from training.export import load_encoder

    theirs = InputContract(0.1, ("intensity_255",))
    ours = InputContract(0.1, ("intensity_raw",), voxels="cylindrical")
    network = SEGMENTERS["SparseUNetSegmenter"].build(1, 8, ENCODER)
    encoder = torch.nn.ModuleDict({"encoder": network.encoder})
    architecture = {"name": "SparseUNetSegmenter", "arguments": {k: list(v) for k, v in ENCODER.items()}}
    save_model(tmp_path / "e.safetensors", encoder, ModelHeader("encoder", architecture, theirs, None))
    left = load_encoder(network, str(tmp_path / "e.safetensors"), ours)
    assert "its input differs, voxels cartesian in the file, cylindrical here" in left
    assert any("intensity_255" in line and "intensity_raw" in line for line in left)


def test_the_shipped_configs_fit_each_other() -> None:
    trunk, pretrain, tune = (read_config(f"cmcr_{n}") for n in ("image_trunk", "pretrain", "finetune"))
    assert trunk.method.task == "image_trunk"
    assert (pretrain.contract, pretrain.encoder, pretrain.network) == (
        tune.contract,
        tune.encoder,
        tune.network,
    )
    assert pretrain.data_options().cameras
    assert not tune.data_options().cameras
