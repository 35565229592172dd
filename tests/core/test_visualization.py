# SPDX-License-Identifier: Apache-2.0
"""Pictures, pages and legends of labelled clouds, read back and checked."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pc_perception.cloud import PointCloud
from pc_perception.inference.upright import upright
from pc_perception.io.meshes import Mesh
from pc_perception.labels import UNLABELED, LabelSet, load_label_set
from pc_perception.simulation.shapes import box
from pc_perception.visualization import Frame, legend, render_grid, render_png, write_html
from pc_perception.visualization.png import BACKGROUND
from pc_perception.visualization.splat import draw, splat_radii
from pc_perception.visualization.view import View, choose_view

STREET = load_label_set("street8")
ROOM = load_label_set("room9")


def street(n: int = 4000) -> tuple[PointCloud, NDArray]:
    rng = np.random.default_rng(3)
    xyz = rng.uniform([-60, -15, -1.8], [60, 15, -1.7], (n, 3)).astype(np.float32)
    labels = np.zeros(n, dtype=np.uint16)
    house = np.abs(xyz[:, 1]) > 10
    xyz[house, 2] += rng.uniform(0, 8, house.sum()).astype(np.float32)
    labels[house] = STREET.classes.index("building")
    return PointCloud(xyz, {"intensity": rng.uniform(0, 90, n).astype(np.float32)}), labels


def room(n: int = 6000) -> tuple[PointCloud, NDArray]:
    rng = np.random.default_rng(4)
    xyz = rng.uniform([0, 0, 0], [6, 4, 2.7], (n, 3)).astype(np.float32)
    side = rng.integers(0, 3, n)
    xyz[side == 0, 2] = 0.0
    xyz[side == 1, 2] = 2.7
    xyz[side == 2, 0] = 0.0
    labels = np.array([ROOM.classes.index(c) for c in ("floor", "ceiling", "wall")], dtype=np.uint16)[side]
    return PointCloud(xyz), labels


def test_legend_counts_in_order_with_unlabeled_last() -> None:
    labels = np.array([5, 0, 0, UNLABELED, 5, 5], dtype=np.uint16)
    entries = legend(labels, STREET)
    assert [(e.name, e.count) for e in entries] == [("road", 2), ("vehicle", 3), ("unlabeled", 1)]
    assert sum(e.share for e in entries) == pytest.approx(1.0)
    assert legend(np.array([], dtype=np.uint16), STREET) == []
    assert [e.name for e in legend(np.array([-1, 99]), STREET)] == ["unlabeled"]


def test_the_view_follows_from_the_cloud() -> None:
    driven, _ = street()
    assert choose_view(driven, 1.6).kind == "street"
    assert choose_view(driven, 1.6).keep.all()
    indoor, labels = room()
    view = choose_view(indoor, 1.6, labels, ROOM)
    assert view.kind == "room"
    assert view.cut == pytest.approx(2.0, abs=0.05)
    assert view.keep[labels == 0].all()
    assert not view.keep[labels == ROOM.classes.index("ceiling")].any()
    depth = PointCloud(np.tile([[0.1, 0.2, 2.0]], (12, 1)), frame="cam_optical_frame")
    assert choose_view(depth, 1.6).kind == "camera"
    np.testing.assert_allclose(upright(depth)[0], [2.0, -0.1, -0.2], atol=1e-6)
    assert choose_view(PointCloud(np.random.default_rng(0).normal(0, 0.1, (50, 3))), 1.0).kind == "object"


@pytest.mark.parametrize("make", [street, room])
def test_most_points_are_in_the_picture(make: Any) -> None:
    cloud, labels = make()
    view = choose_view(cloud, 1.6, labels, ROOM if make is room else STREET)
    near = view.keep & (np.linalg.norm(cloud.xyz, axis=1) < 30)
    local = (cloud.xyz[near] - view.eye) @ view.axes().T
    tan = np.tan(np.radians(view.fov_deg) / 2)
    inside = (local[:, 2] > 0) & (np.abs(local[:, 1]) < tan * local[:, 2])
    inside &= np.abs(local[:, 0]) < 1.6 * tan * local[:, 2]
    assert inside.mean() > 0.95


def test_the_nearer_point_hides_the_farther() -> None:
    view = View("object", np.array([-5.0, 0, 0]), np.zeros(3), 40.0, np.array([True, True, False]))
    xyz = np.array([[1.0, 0, 0], [0.0, 0, 0], [-1.0, 0, 0]])
    colors = np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], dtype=np.uint8)
    image = draw(xyz, colors, np.full(3, 0.3), view, (64, 48), (0, 0, 0))
    assert image.shape == (48, 64, 3)
    assert image[24, 32, 0] > 100  # red is nearer than blue; green is not kept
    assert image[..., 1].max() == 0
    assert image[0, 0].tolist() == [0, 0, 0]


def test_right_is_right_and_up_is_up() -> None:
    view = View("object", np.array([-5.0, 0, 0]), np.zeros(3), 40.0, np.array([True, True]))
    xyz = np.array([[0.0, -1, 0], [0.0, 0, 1]])  # y points left (REP-103)
    image = draw(
        xyz, np.array([[255, 0, 0], [0, 255, 0]], np.uint8), np.full(2, 0.1), view, (80, 80), (0, 0, 0)
    )
    assert np.argwhere(image[..., 0] > 100).mean(axis=0)[1] > 50
    assert np.argwhere(image[..., 1] > 100).mean(axis=0)[0] < 30


def test_splats_close_gaps_and_skip_invalid_points() -> None:
    grid = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0), [0.0]), axis=-1).reshape(-1, 3)
    radii = splat_radii(np.vstack([grid, [[np.nan, 0, 0]]]))
    assert radii[-1] == 0
    assert 0.5 <= np.median(radii[:-1]) <= 1.5


def test_png_shows_the_classes_in_their_colours(tmp_path: Path) -> None:
    cloud, labels = street()
    path = render_png(tmp_path / "sub" / "a.png", cloud, labels, STREET, title="street", size=(640, 400))
    pixels = np.asarray(Image.open(path)).astype(int)
    assert pixels.shape == (400, 640, 3)
    scene = pixels[56:, :340].reshape(-1, 3)
    background = np.abs(scene - [18, 20, 26]).sum(axis=1) < 6
    assert 0.05 < background.mean() < 0.98
    lit = scene[~background]
    yellow = (lit[:, 0] > lit[:, 2] + 40) & (lit[:, 1] > lit[:, 2] + 20)  # building
    violet = (lit[:, 0] > lit[:, 1] + 20) & (lit[:, 2] > lit[:, 1] + 20)  # road
    assert yellow.sum() > 200
    assert violet.sum() > 200


def test_png_puts_truth_beside_labels_from_the_same_view(tmp_path: Path) -> None:
    cloud, labels = room()
    path = render_png(tmp_path / "t.png", cloud, labels, ROOM, truth=labels, size=(700, 300))
    pixels = np.asarray(Image.open(path))[100:, :400]
    assert (pixels[:, :200] == pixels[:, 200:]).all()
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize(
    "xyz", [np.empty((0, 3)), np.full((5, 3), np.nan), np.zeros((1, 3)), np.ones((9, 3))]
)
def test_odd_clouds_are_drawn(tmp_path: Path, xyz: NDArray) -> None:
    labels = np.zeros(len(xyz), dtype=np.uint16)
    assert render_png(tmp_path / "a.png", PointCloud(xyz), labels, STREET, size=(500, 200)).is_file()
    assert write_html(tmp_path / "a.html", [Frame(PointCloud(xyz), labels)], STREET).is_file()


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    cloud, labels = street(100)
    with pytest.raises(ValueError, match="labels have shapes"):
        render_png(tmp_path / "a.png", cloud, labels[:-1], STREET)
    with pytest.raises(ValueError, match="at least one"):
        render_png(tmp_path / "a.png", [], [], STREET)
    with pytest.raises(ValueError, match="confidence has shape"):
        write_html(tmp_path / "a.html", [Frame(cloud, labels, np.zeros(3))], STREET)
    with pytest.raises(ValueError, match="at least one"):
        write_html(tmp_path / "a.html", [], STREET)


def read_page(path: Path) -> tuple[dict[str, Any], list[dict[str, NDArray]]]:
    """Decode a page the way its script does."""
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="meta">(.*?)</script>', text, re.S)
    assert found
    meta = json.loads(found.group(1))
    frames = []
    for i, info in enumerate(meta["frames"]):
        block = re.search(rf'id="frame{i}">(.*?)</script>', text, re.S)
        assert block
        data, at, arrays = base64.b64decode(block.group(1)), 0, {}
        for name, width in meta["columns"].items():
            part = data[at : at + width * info["n"]]
            arrays[name] = np.frombuffer(part, "<u2" if name == "xyz" else np.uint8)
            at += width * info["n"]
        assert at == len(data)
        scaled = arrays["xyz"].reshape(-1, 3) / 65535
        arrays["xyz"] = np.array(info["low"]) + scaled * np.array(info["span"])
        frames.append(arrays)
    return meta, frames


def test_a_page_holds_every_point_with_its_values(tmp_path: Path) -> None:
    cloud, labels = street(500)
    xyz = cloud.xyz.copy()
    xyz[7] = np.nan
    labels[9] = UNLABELED
    rgb = np.random.default_rng(1).integers(0, 256, (500, 3)).astype(np.uint8)
    cloud = PointCloud(xyz, {**cloud.fields, "rgb": rgb})
    confidence = np.linspace(0, 1, 500).astype(np.float32)
    frames = [Frame(cloud, labels, confidence, labels, "0.0 s"), Frame(cloud, labels, confidence, labels)]
    meta, decoded = read_page(write_html(tmp_path / "a.html", frames, STREET, title="a <b> & c"))
    keep = np.arange(500) != 7
    assert list(meta["columns"]) == ["xyz", "label", "confidence", "intensity", "rgb", "truth"]
    assert meta["classes"] == [*STREET.classes, "unlabeled"]
    assert meta["shown"] == {"frames": [2, 2], "points": [998, 1000]}
    np.testing.assert_allclose(decoded[0]["xyz"], xyz[keep], atol=120 / 65535)
    np.testing.assert_array_equal(decoded[0]["label"], np.minimum(labels, len(STREET))[keep])
    np.testing.assert_allclose(decoded[1]["confidence"] / 255, confidence[keep], atol=0.003)
    np.testing.assert_array_equal(decoded[0]["rgb"].reshape(-1, 3), rgb[keep])
    np.testing.assert_array_equal(decoded[0]["truth"], decoded[0]["label"])


def test_a_page_stays_below_its_limit_and_says_so(tmp_path: Path) -> None:
    cloud, labels = street(20_000)
    path = write_html(tmp_path / "a.html", [Frame(cloud, labels)] * 12, STREET, max_bytes=1_000_000)
    meta, decoded = read_page(path)
    assert path.stat().st_size < 1_000_000
    shown = meta["shown"]["frames"][0]
    assert 2 <= shown < 12
    assert meta["shown"]["frames"][1] == 12
    assert meta["shown"]["points"] == [sum(len(f["label"]) for f in decoded), 240_000]
    assert all(len(f["label"]) >= 15_000 for f in decoded)


def test_a_page_is_self_contained_and_safe(tmp_path: Path) -> None:
    cloud, labels = street(50)
    nasty = LabelSet("x", ("</script><script>alert(1)</script>",), ((1, 2, 3),))
    text = write_html(tmp_path / "a.html", [Frame(cloud, labels)], nasty, title="</title><b>").read_text()
    assert "alert(1)</script>" not in text
    assert "</title><b>" not in text
    assert not re.search(r"https?:|//[a-z]+\.[a-z]|@import|<link[^>]+stylesheet|\bsrc=", text)
    assert "{{" not in text
    assert read_page(tmp_path / "a.html")[0]["classes"][0] == nasty.classes[0]


def test_a_grid_shows_meshes_and_clouds_in_their_cells() -> None:
    rng = np.random.default_rng(0)
    cloud = PointCloud(rng.normal(size=(500, 3)).astype(np.float32))
    mesh = Mesh(*box((1.0, 2.0, 0.5)))
    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    image = render_grid([mesh, cloud, cloud.xyz, empty], ["box", "cloud", "array", "nothing"], 2, cell=100)
    assert image.size == (200, 244)
    pixels = np.asarray(image).astype(int)
    drawn = np.abs(pixels - BACKGROUND).sum(2) > 60
    cells = [drawn[y : y + 100, x : x + 100].mean() for y in (0, 122) for x in (0, 100)]
    assert min(cells[:3]) > 0.1
    assert cells[3] == 0
    assert drawn[100:122].any()
    with pytest.raises(ValueError, match="2 and 1 names"):
        render_grid([mesh, cloud], ["box"])
