# SPDX-License-Identifier: Apache-2.0
"""Fields of mesh files, good, broken and beyond repair, and of published occupancy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pc_perception.io.meshes import Mesh, write_mesh
from pc_perception.simulation.occupancy import Solid
from pc_perception.simulation.shapes import box, ellipsoid, join, placed, sphere, torus, volume
from training.data.field_arrays import Sizes
from training.data.field_files import read_occupancy
from training.data.fields import FieldDataset, main, open_fields
from training.data.mesh_repair import repair

pytest.importorskip("open3d")

SMALL = Sizes(surface=256, vol=512, near=400)


def inverted(mesh: Mesh) -> Mesh:
    return Mesh(mesh[0], np.ascontiguousarray(mesh[1][:, ::-1]))


def fine_sphere() -> Mesh:
    return Mesh(*ellipsoid((0.9, 0.8, 0.7), n_sides=48, n_rings=30))


def test_a_good_mesh_stays_as_it_is() -> None:
    found = repair(Mesh(*torus(1.0, 0.3)))
    assert found.note == ""
    assert volume(found.mesh) == pytest.approx(volume(torus(1.0, 0.3)))


def test_soup_turned_triangles_and_inverted_pieces_are_repaired() -> None:
    whole = Mesh(*join([sphere(1.0, n_sides=12), placed(box((1, 1, 1)), (4, 0, 0))]))
    soup = Mesh(
        whole.vertices[whole.faces].reshape(-1, 3),
        np.arange(3 * len(whole.faces), dtype=np.int32).reshape(-1, 3),
    )
    assert repair(soup).note == ""
    turned = whole.faces.copy()
    turned[[3, 20, 40]] = turned[[3, 20, 40]][:, ::-1]
    turned = np.concatenate([turned, turned[:2], [[5, 5, 6]]])
    found = repair(Mesh(whole.vertices, turned))
    assert "3 triangles that face the other way" in found.note
    assert "2 repeated triangles" in found.note
    assert "1 empty triangles" in found.note
    assert volume(found.mesh) == pytest.approx(volume(whole), rel=1e-5)
    outside_in = Mesh(*join([sphere(1.0, n_sides=12), inverted(placed(box((1, 1, 1)), (4, 0, 0)))]))
    found = repair(outside_in)
    assert "1 of 2 pieces inside out" in found.note
    assert volume(found.mesh) == pytest.approx(volume(whole), rel=1e-5)


def test_a_cavity_stays_one() -> None:
    found = repair(Mesh(*join([box((1, 1, 1)), inverted(box((0.5, 0.5, 0.5)))])))
    assert found.note == "found: 1 cavities"
    assert volume(found.mesh) == pytest.approx(1 - 0.125)


def test_a_small_hole_is_filled_and_an_open_surface_refused() -> None:
    whole = fine_sphere()
    # Two triangles that touch in a corner, and two far away that share an edge.
    found = repair(Mesh(whole.vertices, np.delete(whole.faces, [100, 101, 1000, 1000 + 29 * 48], 0)))
    assert found.note.startswith("found: 10 open edges; repaired: holes filled: ")
    assert volume(found.mesh) == pytest.approx(volume(whole), rel=1e-3)
    with pytest.raises(ValueError, match=r"\d+ of \d+ edges are open.*watertight first"):
        repair(Mesh(whole.vertices, whole.faces[::2]))
    half = Mesh(whole.vertices, whole.faces[(whole.vertices[whole.faces][:, :, 2] < 0.1).all(1)])
    with pytest.raises(ValueError, match=r"edges are open.*(too large|not defined)"):
        repair(half)


def test_a_mesh_through_itself_is_told_and_taken_as_a_union() -> None:
    crossed = Mesh(*join([box((1, 1, 1)), box((1, 1, 1), (0.5, 0.2, 0.1))]))
    found = repair(crossed)
    assert "runs through itself in" in found.note
    xyz = np.random.default_rng(0).uniform(-0.5, 1, (2000, 3))
    union = (np.abs(xyz).max(1) < 0.5) | (np.abs(xyz - [0.5, 0.2, 0.1]).max(1) < 0.5)
    np.testing.assert_array_equal(Solid(found.mesh).contains(xyz), union)


def test_what_is_no_solid_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN or Inf"):
        repair(Mesh(np.full((3, 3), np.nan, np.float32), np.array([[0, 1, 2]], np.int32)))
    with pytest.raises(ValueError, match="names vertex 9"):
        repair(Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 9]], np.int32)))
    with pytest.raises(ValueError, match="has an area"):
        repair(Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32)))
    sheet = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    with pytest.raises(ValueError, match="encloses nothing"):
        repair(Mesh(sheet, np.array([[0, 1, 2], [0, 2, 1]], np.int32)))


def mesh_folder(root: Path) -> Path:
    whole = fine_sphere()
    write_mesh(root / "ball" / "train" / "a.ply", whole)
    write_mesh(root / "ball" / "train" / "hole.obj", Mesh(whole.vertices, np.delete(whole.faces, [100], 0)))
    write_mesh(root / "box" / "train" / "b.obj", Mesh(*box((1, 2, 4), (10, 0, 0))))
    write_mesh(root / "box" / "train" / "open.ply", Mesh(box((1, 1, 1))[0], box((1, 1, 1))[1][:9]))
    (root / "box" / "train" / "broken.off").write_text("OFF\n3")
    write_mesh(root / "box" / "test" / "c.ply", Mesh(*box((2, 2, 2))))
    return root


def test_a_folder_of_meshes_with_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = mesh_folder(tmp_path / "meshes")
    data = open_fields(f"meshes:{root}", sizes=SMALL, cache_dir=tmp_path / "cache", y_up=True)
    assert data.classes == ("ball", "box")
    assert [data.name(i) for i in range(len(data))] == [
        "ball/train/a.ply",
        "ball/train/hole.obj",
        "box/train/b.obj",
    ]
    sample = data[2]
    assert sample.label == 1
    # y up in the file: its z, the longest side, points to -y here.
    np.testing.assert_array_equal(
        sample.occupancy_vol, (np.abs(sample.queries_vol) < [0.25, 1 - 1e-6, 0.5]).all(1)
    )
    assert set(data.refused) == {"box/train/broken.off", "box/train/open.ply"}
    assert "cannot be read as OFF" in data.refused["box/train/broken.off"]
    assert list(data.repaired) == ["ball/train/hole.obj"]
    test = open_fields(f"meshes:{root}", "test", sizes=SMALL, cache_dir=tmp_path / "cache")
    assert [test.name(0), len(test), test.label(0)] == ["box/test/c.ply", 1, 1]
    picture = tmp_path / "shapes.png"
    assert main([f"meshes:{root}", "--cache", str(tmp_path / "cache"), "--picture", str(picture)]) == 0
    with Image.open(picture) as image:
        assert image.size == (3 * 240, 262)
    said = capsys.readouterr().out
    assert "3 shapes of 2 classes, 1 with a note, 2 refused" in said
    assert "refused: box/train/open.ply: " in said
    assert main([f"meshes:{root}/ball", "--split", "val"]) == 1
    assert "no .obj, .ply, .off, .stl file of split 'val'" in capsys.readouterr().err


def occupancy(seed: int, n: int = 600) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    vol, near = rng.uniform(-1, 1, (n, 3)), rng.uniform(-1, 1, (n, 3))
    surface = rng.normal(size=(n, 3))
    surface /= np.linalg.norm(surface, axis=1, keepdims=True)
    inside = [(np.linalg.norm(q - [0, 0.1, 0], axis=1) < 0.8).astype(np.float32) for q in (vol, near)]
    return {
        "vol_points": vol.astype(np.float32),
        "vol_label": inside[0],
        "near_points": near.astype(np.float32),
        "near_label": inside[1],
        "surface": (0.8 * surface + [0, 0.1, 0]).astype(np.float32),
    }


def check_sphere(data: FieldDataset) -> None:
    """The published y axis is our z axis."""
    for i in range(len(data)):
        sample = data[i]
        for places, inside in (
            (sample.queries_vol, sample.occupancy_vol),
            (sample.queries_near, sample.occupancy_near),
        ):
            np.testing.assert_array_equal(np.linalg.norm(places - [0, 0, 0.1], axis=1) < 0.8, inside)
        np.testing.assert_allclose(np.linalg.norm(sample.points - [0, 0, 0.1], axis=1), 0.8, atol=1e-5)


def test_occupancy_as_published(tmp_path: Path) -> None:
    points, meshes = tmp_path / "ShapeNetV2_point", tmp_path / "ShapeNetV2_watertight"
    for synset, model in (("03001627", "m1"), ("03001627", "m2"), ("02691156", "m3")):
        arrays = occupancy(len(model))
        surface = arrays.pop("surface")
        (points / synset).mkdir(parents=True, exist_ok=True)
        (meshes / synset / "4_pointcloud").mkdir(parents=True, exist_ok=True)
        np.savez(points / synset / f"{model}.npz", **arrays)
        np.save(points / synset / f"{model}.npy", np.float64(2.0))
        np.savez(meshes / synset / "4_pointcloud" / f"{model}.npz", points=(surface / 2).astype(np.float16))
    (points / "03001627" / "train.lst").write_text("m1")
    (points / "03001627" / "val.lst").write_text("m2.npz\n")
    (points / "02691156" / "train.lst").write_text("m3")
    np.savez(meshes / "03001627" / "4_pointcloud" / "m1.npz", points=occupancy(2)["surface"] / 2)
    np.savez(meshes / "02691156" / "4_pointcloud" / "m3.npz", points=occupancy(2)["surface"] / 2)
    data = open_fields(f"occupancy:{tmp_path}", sizes=SMALL, cache_dir=tmp_path / "cache")
    assert data.classes == ("02691156", "03001627")
    assert [(data.name(i), data.label(i)) for i in range(2)] == [
        ("ShapeNetV2_point/02691156/m3.npz", 0),
        ("ShapeNetV2_point/03001627/m1.npz", 1),
    ]
    check_sphere(data)
    val = open_fields(f"occupancy:{tmp_path}", "val", sizes=SMALL, cache_dir=tmp_path / "cache")
    assert [val.name(i) for i in range(len(val))] == ["ShapeNetV2_point/03001627/m2.npz"]


def test_occupancy_files_without_lists_are_split_by_name(tmp_path: Path) -> None:
    (tmp_path / "data" / "ball").mkdir(parents=True)
    for i in range(40):
        np.savez(tmp_path / "data" / "ball" / f"{i}.npz", **occupancy(i, 64))
    sizes = Sizes(32, 32, 32)
    names = []
    for split in ("train", "val", "test"):
        data = open_fields(
            f"occupancy:{tmp_path / 'data'}", split, sizes=sizes, cache_dir=tmp_path, y_up=True
        )
        check_sphere(data)
        names += [data.name(i) for i in range(len(data))]
        assert data.classes == ("ball",)
    assert len(names) == len(set(names)) == 40


def test_occupancy_that_cannot_be_used(tmp_path: Path) -> None:
    arrays = occupancy(0, 50)

    def file(**changes: object) -> Path:
        np.savez(tmp_path / "a.npz", **{k: v for k, v in (arrays | changes).items() if v is not None})  # type: ignore[arg-type]
        return tmp_path / "a.npz"

    with pytest.raises(ValueError, match=r"lacks the arrays vol_label, near_label; it has near_points"):
        read_occupancy(file(vol_label=None, near_label=None))
    with pytest.raises(ValueError, match=r"vol_points \(50, 3\) and vol_label \(49,\)"):
        read_occupancy(file(vol_label=arrays["vol_label"][1:]))
    with pytest.raises(ValueError, match=r"no array 'surface', and neither 'a.npy'"):
        read_occupancy(file(surface=None))
    with pytest.raises(ValueError, match=r"surface must be \(N, 3\)"):
        read_occupancy(file(surface=np.zeros((0, 3))))
    empty = file(vol_label=np.zeros(50), near_label=np.zeros(50)).rename(tmp_path / "b.npz")
    for split in ("train", "val", "test"):
        with pytest.raises(ValueError, match=r"field is empty|no \.npz file of split"):
            open_fields(f"occupancy:{empty.parent}", split, sizes=SMALL, cache_dir=tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_fields(f"occupancy:{tmp_path / 'nowhere'}", cache_dir=tmp_path)
