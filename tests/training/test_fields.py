# SPDX-License-Identifier: Apache-2.0
"""Fields of made shapes: what is drawn of them, and how it is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pc_perception.io.meshes import Mesh
from pc_perception.simulation.analytic import random_analytic
from pc_perception.simulation.shapes import box, join
from training.data.field_arrays import Sizes, arrays_of_mesh
from training.data.field_sources import SEEDS, MadeShapes, made_shapes
from training.data.field_store import open_stored
from training.data.fields import FieldDataset, open_fields
from training.data.object_specs import open_all_objects
from training.data.objects import LabeledObject
from training.data.specs import DataOptions, open_data
from training.shape_fields import draw_field

SMALL = Sizes(surface=256, vol=512, near=400)


def open_small(tmp_path: Path, spec: str, n: int = 6, split: str = "train") -> FieldDataset:
    return open_fields(spec, split, n, sizes=SMALL, cache_dir=tmp_path)


def test_a_sample_is_typed_as_promised_and_its_answers_are_exact(tmp_path: Path) -> None:
    data = open_small(tmp_path, "analytic:")
    assert data.classes == ("sphere", "box", "torus")
    for i in range(len(data)):
        sample = data[i]
        shape = random_analytic(data.classes[sample.label], i)
        assert sample.points.shape == (256, 3)
        assert sample.queries_vol.shape == (512, 3)
        assert sample.queries_near.shape == (400, 3)
        for array in (sample.points, sample.queries_vol, sample.queries_near):
            assert array.dtype == np.float32
            assert np.abs(array).max() <= 1
        np.testing.assert_array_equal(sample.occupancy_vol, shape.contains(sample.queries_vol))
        np.testing.assert_array_equal(sample.occupancy_near, shape.contains(sample.queries_near))
        assert sample.occupancy_vol.dtype == sample.occupancy_near.dtype == bool
        assert 0.3 < sample.occupancy_near.mean() < 0.7
        assert (sample.label, sample.name) == (i % 3, f"{data.classes[i % 3]} seed {i}")
        assert (data.label(i), data.name(i), data.instance(i)) == (sample.label, sample.name, sample.name)
    with pytest.raises(IndexError):
        data[len(data)]


def test_a_draw_takes_some_of_each_and_keeps_answers_with_their_places(tmp_path: Path) -> None:
    whole = open_small(tmp_path, "shapes:chair+car", 2)[1]
    drawn = draw_field(whole, np.random.default_rng(0), 100, 60)
    assert drawn.points.shape == (100, 3)
    assert drawn.queries.shape == (2, 60, 3)
    assert drawn.label == 1
    for k, (places, inside) in enumerate(
        [(whole.queries_vol, whole.occupancy_vol), (whole.queries_near, whole.occupancy_near)]
    ):
        answers = {tuple(q): a for q, a in zip(places.tolist(), inside.tolist(), strict=True)}
        assert [answers[tuple(q)] for q in drawn.queries[k].tolist()] == drawn.occupied[k].tolist()
    assert len(np.unique(drawn.points, axis=0)) == 100
    again, other = (draw_field(whole, np.random.default_rng(s), 100, 60) for s in (0, 1))
    np.testing.assert_array_equal(again.queries, drawn.queries)
    assert not np.array_equal(other.points, drawn.points)


def test_points_of_a_union_lie_on_its_outside_only() -> None:
    mesh = Mesh(*join([box((1, 1, 1)), box((0.6, 0.6, 1.4))]))
    made = arrays_of_mesh(mesh, Sizes(4000, 100, 100), np.random.default_rng(0))
    first, second = (
        np.abs(made.surface).max(1) < 0.4999,
        (np.abs(made.surface) < [0.2999, 0.2999, 0.6999]).all(1),
    )
    assert not (first | second).any()
    # The caps and what sticks out of the second box: 2 * 0.36 + 4 * 0.6 * 0.4; the first without the hole: 6 - 0.72.
    out = np.abs(made.surface[:, 2]) > 0.501
    assert out.mean() == pytest.approx((0.72 + 0.96) / (0.72 + 0.96 + 6 - 0.72), abs=0.03)


def test_splits_share_no_seed_and_same_seeds_give_the_same(tmp_path: Path) -> None:
    seeds = {split: set(made_shapes("shapes", "", split, SEEDS).seeds) for split in ("train", "val", "test")}
    assert sum(map(len, seeds.values())) == len(set.union(*seeds.values())) == 3 * SEEDS
    first, second = (open_small(tmp_path / d, "shapes:car", 2, "val") for d in ("a", "b"))
    np.testing.assert_array_equal(first[1].queries_near, second[1].queries_near)
    assert first.name(0) == f"car seed {SEEDS}"


class Interrupted(MadeShapes):
    """Stops at the third shape, as Ctrl-C would."""

    def make(self, index, sizes):  # type: ignore[no-untyped-def]
        if index == 2:
            raise KeyboardInterrupt
        return super().make(index, sizes)


class Counting(MadeShapes):
    """Remembers which shapes were made."""

    made: list[int] = []  # noqa: RUF012

    def make(self, index, sizes):  # type: ignore[no-untyped-def]
        self.made.append(index)
        if index == 3:
            raise ValueError("it has a hole")
        return super().make(index, sizes)


def test_an_interruption_loses_nothing_and_refused_shapes_are_told(tmp_path: Path) -> None:
    plain = made_shapes("analytic", "", "train", 5)
    with pytest.raises(KeyboardInterrupt):
        open_stored(tmp_path, Interrupted("analytic", plain.classes, plain.seeds), SMALL)
    counting = Counting("analytic", plain.classes, plain.seeds)
    data = FieldDataset(counting, tmp_path, SMALL)
    assert Counting.made == [2, 3, 4]
    assert len(data) == 4
    assert data.refused == {"sphere seed 3": "sphere seed 3: it has a hole"}
    np.testing.assert_array_equal(data[0].points, FieldDataset(plain, tmp_path / "b", SMALL)[0].points)
    assert data.name(3) == "box seed 4"
    FieldDataset(counting, tmp_path, SMALL)
    assert Counting.made == [2, 3, 4]
    assert isinstance(open_stored(tmp_path, counting, SMALL).arrays["vol"], np.memmap)


def test_a_damaged_file_is_made_anew_and_a_full_disk_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = made_shapes("analytic", "", "train", 4)
    with pytest.raises(KeyboardInterrupt):
        open_stored(tmp_path, Interrupted("analytic", plain.classes, plain.seeds), SMALL)
    (file,) = tmp_path.glob("*/vol.npy")
    file.write_bytes(file.read_bytes()[:1000])
    again = FieldDataset(plain, tmp_path, SMALL)
    fresh = FieldDataset(plain, tmp_path / "b", SMALL)
    for i in range(4):
        np.testing.assert_array_equal(again[i].queries_vol, fresh[i].queries_vol)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"0\.0 GB left, 4 shapes need"):
        FieldDataset(plain, tmp_path / "c", SMALL)


def test_two_processes_make_the_same(tmp_path: Path) -> None:
    one = open_small(tmp_path / "a", "shapes:", 5)
    two = open_fields("shapes:", n_shapes=5, sizes=SMALL, cache_dir=tmp_path / "b", workers=2)
    for i in range(5):
        np.testing.assert_array_equal(one[i].queries_near, two[i].queries_near)


@pytest.mark.parametrize(
    ("spec", "split", "n", "message"),
    [
        ("shapes:unicorn", "train", 2, r"no class 'unicorn' of shapes.*chair"),
        ("analytic:chair", "train", 2, "no class 'chair' of analytic"),
        ("shapes:", "dev", 2, "no split 'dev'.*train, val, test"),
        ("shapes:", "train", 0, "at least 1"),
        ("nothing:", "train", 2, "names no fields"),
    ],
)
def test_what_cannot_be_opened_is_told(tmp_path: Path, spec: str, split: str, n: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_small(tmp_path, spec, n, split)


def test_an_empty_field_is_refused() -> None:
    flat = Mesh(*box((1, 1, 1e-7)))
    with pytest.raises(ValueError, match=r"empty: none of 600 queries"):
        arrays_of_mesh(flat, Sizes(100, 300, 300), np.random.default_rng(0))


def test_specs_open_fields_as_objects(tmp_path: Path) -> None:
    options = DataOptions(None, n_scenes=4, split="val", cache_dir=str(tmp_path))
    (data,) = open_data("analytic:all", options)
    assert [data.name(0), len(data)] == [f"box seed {SEEDS}", 4]
    assert isinstance(data[0], LabeledObject)
    both = open_all_objects("analytic:sphere,analytic:torus", options)
    assert both.classes == ("sphere", "torus")
    assert both[5].category == both.label(5) == 1
    with pytest.raises(FileNotFoundError, match="no folder 'nowhere'"):
        open_data("meshes:nowhere", options)
