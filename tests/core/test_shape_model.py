# SPDX-License-Identifier: Apache-2.0
"""Models of shapes from file to mesh: making, completing, placing partial views, refusing what makes no sense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation_z
from pc_perception.inference.loading import load_model, load_segmenter, load_shapes
from pc_perception.inference.model_file import ModelHeader, save_model
from pc_perception.inference.partial_view import PartialView, propose
from pc_perception.inference.shape_contract import ShapeContract, box_placement
from pc_perception.inference.shapes import ShapeModel
from pc_perception.io.files import write_cloud
from pc_perception.labels import LabelSet
from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.shape_generator import ShapeNetwork
from pc_perception.models.shape_tokenizer import ShapeTokenizer

TOKENIZER = {
    **{"n_patches": 16, "patch_size": 8, "width": 24, "heads": 2, "encoder_depth": 0, "decoder_depth": 1},
    **{"embed": [8, 12, 16], "n_codes": 32, "code_width": 8, "hidden": 32, "field_depth": 2},
}
ENCODER = {"n_patches": 16, "patch_size": 8, "width": 24, "depth": 1, "heads": 2, "embed": [8, 12, 16]}
GENERATOR = {"width": 24, "depth": 1, "heads": 2}
LABELS = LabelSet("few", ("chair", "table"), ((200, 0, 0), (0, 200, 0)))


def header_of(**changes: object) -> ModelHeader:
    parts = {"tokenizer": TOKENIZER, "encoder": ENCODER, "generator": GENERATOR} | changes
    return ModelHeader("shapes", {"name": "ShapeNetwork", "arguments": parts}, ShapeContract(128), LABELS)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows nothing, whose fields are occupied somewhere."""
    torch.manual_seed(0)
    network = ShapeNetwork(ShapeTokenizer(**TOKENIZER), ObjectEncoder(**ENCODER), 2, **GENERATOR)
    path = tmp_path_factory.mktemp("model") / "shapes.safetensors"
    save_model(path, network, header_of())
    return path


def half_sphere(n: int = 400, radius: float = 0.7, at: tuple = (4.0, 3.0, 0.5)) -> PointCloud:
    """What is seen of a sphere from the origin."""
    v = np.random.default_rng(0).normal(size=(4 * n, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    v = v[v @ np.array(at) < 0][:n]
    return PointCloud((radius * v + np.array(at)).astype(np.float32))


def test_a_file_makes_and_completes_shapes(file: Path) -> None:
    model = load_model(file, "cpu", "float32")
    assert isinstance(model, ShapeModel)
    one, two = model.generate("chair", 2, seed=5, resolution=16)
    alone = model.generate("chair", 1, seed=5, resolution=16)[0]
    assert np.array_equal(one.vertices, alone.vertices)
    assert one.vertices.shape != two.vertices.shape or not np.array_equal(one.vertices, two.vertices)
    for mesh in (one, two):
        assert np.abs(mesh.vertices).max(initial=0) <= 1
    found = [model.complete(half_sphere(), 3, resolution=16) for _ in range(2)]
    assert np.array_equal(found[0].mesh.vertices, found[1].mesh.vertices)
    assert 1 <= found[0].n_seen < 16
    assert np.abs(found[0].mesh.vertices - found[0].placement.middle).max(initial=0) < 3


def test_a_completion_does_not_depend_on_where_the_origin_of_far_axes_lies(file: Path) -> None:
    """The cloud turned about the sensor by a step of the headings gives the shape turned."""
    model = load_model(file, "cpu", "float32")
    cloud = half_sphere()
    R = rotation_z(np.pi / 2)
    turned = PointCloud((cloud.xyz @ R.T).astype(np.float32))
    a, b = (model.complete(c, 0, resolution=16).placement for c in (cloud, turned))
    assert a.scale == pytest.approx(b.scale, rel=1e-4)
    np.testing.assert_allclose(R @ a.middle, b.middle, atol=1e-4)


def test_placements_go_there_and_back() -> None:
    xyz = half_sphere().xyz
    for yaw in (0.0, 0.7):
        placement = box_placement(xyz, yaw)
        cube = placement.into_cube(xyz)
        assert np.abs(cube).max() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(placement.out_of_cube(cube), xyz, atol=1e-5)


def test_the_true_cube_of_a_half_seen_sphere_is_proposed() -> None:
    """Seen along +x, it is half as deep as high; one proposal is as deep as high."""
    cloud = half_sphere(at=(4.0, 0.0, 0.0))
    cubes = propose(cloud.xyz.astype(np.float64), [0.0])
    off = [np.abs(c.middle - [4, 0, 0]).max() + abs(c.scale - 0.7) for c in cubes]
    assert min(off) < 0.15
    assert all((c.into_cube(cloud.xyz) <= 1.001).all() for c in cubes)  # what was seen is in every one


def test_tokens_of_a_view_turn_with_its_cube(file: Path) -> None:
    model = load_model(file, "cpu", "float32")
    points = half_sphere().xyz
    R = rotation_z(0.4).astype(np.float32)
    tokenizer = model.network.tokenizer
    views = [PartialView.of(p, tokenizer, 128) for p in (points, points @ R.T)]
    places = [box_placement(points, 0.3), box_placement(points @ R.T, 0.7)]
    tokens = [v.tokens(tokenizer, [p], torch.device("cpu"), 6) for v, p in zip(views, places, strict=True)]
    assert tokens[0].ids.shape == (1, 6)
    assert int((tokens[0].bins - tokens[1].bins).abs().max()) <= 1
    together = views[0].tokens(tokenizer, [places[0], box_placement(points, 1.3)], torch.device("cpu"), 6)
    assert torch.equal(together.bins[0], tokens[0].bins[0])


def test_few_or_bad_points(file: Path) -> None:
    model = load_model(file, "cpu")
    rng = np.random.default_rng(0)
    few = model.complete(PointCloud(rng.normal(size=(5, 3)).astype(np.float32)), resolution=16)
    assert few.n_seen <= 5  # documented: a shape of the model's choice around them
    with pytest.raises(ValueError, match=r"1 finite points; a shape is completed from at least 2"):
        model.complete(PointCloud(np.array([[0, 0, 1], [np.nan, 0, 0]], np.float32)))
    with pytest.raises(ValueError, match="all points of the cloud are equal"):
        model.complete(PointCloud(np.ones((50, 3), np.float32)))
    with pytest.raises(ValueError, match=r"no class 'boat'; it has: chair, table"):
        model.generate("boat")
    with pytest.raises(ValueError, match="n must be at least 1"):
        model.generate(n=0)


def test_a_file_for_another_task_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds a model for 'shapes', this needs 'segmentation'"):
        load_segmenter(file)
    with pytest.raises(ValueError, match="holds a model for 'segmentation', this needs 'shapes'"):
        load_shapes("street")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"generator": {"width": 10**9, "depth": 1, "heads": 1}}, "width must be whole numbers"),
        ({"generator": {"width": 24}}, "depth must be whole numbers"),
        ({"tokenizer": {**TOKENIZER, "n_codes": 10**9}}, "n_codes must be whole numbers"),
        ({"tokenizer": {**TOKENIZER, "update": "magic"}}, "update must be one of"),
        ({"encoder": {**ENCODER, "class_token": False}}, "needs a class token"),
        ({"decoder": {}}, "are not those of ShapeNetwork"),
    ],
)
def test_a_hostile_header_is_refused(file: Path, tmp_path: Path, changes: dict, why: str) -> None:
    network = load_model(file, "cpu").network
    path = tmp_path / "bad.safetensors"
    save_model(path, network, header_of(**changes))
    with pytest.raises(ValueError, match=why):
        load_model(path)


def test_commands(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cloud(tmp_path / "seen.ply", half_sphere())
    mesh, picture = tmp_path / "whole.ply", tmp_path / "look" / "whole.png"
    command = ["complete", str(tmp_path / "seen.ply"), "--model", str(file), "--out", str(mesh)]
    assert main([*command, "--picture", str(picture)]) == 0
    assert "of 16 tokens seen" in capsys.readouterr().out
    assert mesh.stat().st_size > 100
    assert picture.stat().st_size > 100
    out = tmp_path / "made"
    assert main(["generate", "--class", "chair", "-n", "2", "--out", str(out), "--model", str(file)]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["chair.png", "chair_00.ply", "chair_01.ply"]
    assert main(["generate", "--class", "boat", "--out", str(out), "--model", str(file)]) == 1
    assert "it has: chair, table" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path / "whole.stl")]) == 1
    assert ".ply or .obj" in capsys.readouterr().err
