# SPDX-License-Identifier: Apache-2.0
"""Label sets and maps: the benchmarks' own, and files that a user writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pc_perception.io.s3dis import CLASSES
from pc_perception.labels import UNLABELED, known_ids, label_map, load_label_set
from pc_perception.simulation.writers.scannet import nyu40_table

MINE = """
classes:
  - {name: wall, color: [1, 2, 3]}
  - {name: lamp, color: [4, 5, 6]}
from:
  scanner: {wall: [7], lamp: [8, 9]}
"""


def test_scannet_has_the_benchmarks_order() -> None:
    valid = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39]  # protocols: NYU40 ids
    table = label_map("nyu40", "scannet20")
    assert table[valid].tolist() == list(range(20))
    assert (np.delete(table, valid) == UNLABELED).all()


def test_s3dis_has_the_readers_order() -> None:
    assert load_label_set("s3dis13").classes == CLASSES
    assert label_map("s3dis13", "s3dis13")[:14].tolist() == [*range(13), UNLABELED]


def test_simulated_rooms_agree_with_what_the_writer_writes() -> None:
    raw = np.arange(16)
    written = label_map("nyu40", "scannet20")[nyu40_table()[raw]]
    assert label_map("simulation", "scannet20")[raw].tolist() == written.tolist()
    assert (label_map("simulation", "s3dis13")[1:16] < 13).all()


def test_a_users_set_and_map(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    mine = load_label_set(str(tmp_path / "mine.yaml"))
    assert (mine.name, mine.classes, mine.colors[1]) == ("mine", ("wall", "lamp"), (4, 5, 6))
    assert label_map("scanner", str(tmp_path / "mine.yaml"))[[6, 7, 8, 9]].tolist() == [UNLABELED, 0, 1, 1]
    (tmp_path / "map.yaml").write_text("wall: [2, -1]\nunlabeled: [0]\n")
    source = str(tmp_path / "map.yaml")
    for target in (mine, "s3dis13"):
        table = label_map(source, target)
        assert table[[0, 2, 65535]].tolist() == [UNLABELED] + [0 if target == mine else 2] * 2
    known = known_ids(source)
    assert known is not None
    assert np.flatnonzero(known).tolist() == [0, 2, 255, 65535]
    assert known_ids("semantickitti") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sofa: [1]", "maps to 'sofa', which is no class of wall, lamp"),
        ("wall: 1", "list of whole numbers"),
        ("wall: [a]", "list of whole numbers"),
        ("wall: [70000]", "list of whole numbers"),
        ("- wall", "must be a YAML mapping"),
        ("wall: [1", "is not YAML"),
    ],
)
def test_maps_that_do_not_fit(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(ValueError, match=problem):
        label_map(str(tmp_path / "map.yaml"), str(tmp_path / "mine.yaml"))


def test_sets_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("classes: [wall]")
    with pytest.raises(ValueError, match="needs 'classes'"):
        load_label_set(str(tmp_path / "mine.yaml"))
    with pytest.raises(ValueError, match=r"no label set 'moon'; there are .*room9"):
        load_label_set("moon")
    with pytest.raises(ValueError, match=r"no map from 'scanner'; it has .*nyu40"):
        label_map("scanner", "room9")
