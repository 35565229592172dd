# SPDX-License-Identifier: Apache-2.0
"""Files that are cut, damaged or another kind than their name says: what is wrong is told in words."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.io.files import cloud_files, read_cloud, write_cloud


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"# .PCD v0.7 - Point Cloud Data file format\n" * 9,
            "it is text (it begins with '# .PCD v0.7 - Point ",
        ),
        (b"1.5 2.5 0.25\n1.5 2.5 0.5\n", "give it the ending of its format"),
        (np.random.default_rng(0).bytes(4000), "of its coordinates are beyond 1,000 km and"),
    ],
    ids=["pcd", "table", "bytes"],
)
def test_a_bin_of_something_else_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "000000.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(words)):
        read_cloud(path)


def test_a_bin_without_returns_is_a_cloud(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(0, 20, (101, 4)).astype("<f4")
    points[:50] = np.inf
    points[50] = 1e9
    (tmp_path / "a.bin").write_bytes(points.tobytes())
    assert np.count_nonzero(read_cloud(tmp_path / "a.bin").finite()) == 51
    (tmp_path / "a.bin").write_bytes(np.full((7, 4), np.nan, "<f4").tobytes())
    assert not read_cloud(tmp_path / "a.bin").finite().any()


def test_values_beyond_float32_are_no_points(tmp_path: Path) -> None:
    far = np.full((10, 3), 637012.25)
    far[3] = 1e300
    np.save(tmp_path / "a.npy", far)
    assert np.count_nonzero(read_cloud(tmp_path / "a.npy").finite()) == 9


def test_damaged_arrays_are_called_what_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((50, 3), np.float32))
    np.savez(tmp_path / "a.npz", xyz=np.zeros((50, 3), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    npy, npz = (tmp_path / "a.npy").read_bytes(), (tmp_path / "a.npz").read_bytes()
    objects = (tmp_path / "objects.npy").read_bytes()
    for name, content, words in (
        (
            "b.npy",
            npy[:-5],
            "truncated or damaged: its (50, 3) values of float32 need 600 bytes, 595 are there",
        ),
        ("b.npy", b"", "it is empty"),
        ("b.npy", b"rubbish " * 9, "begins with b'rubbish ', not with b'\\x93NUMPY'"),
        ("b.npy", objects, "Python objects, which are never loaded"),
        ("b.npz", npz[:-5], "truncated or damaged: the list of its arrays, at its end, is missing"),
        ("b.npz", b"rubbish " * 9, "it is no .npz file: it begins with b'rubbish '"),
        ("b.npz", npy, "it is no .npz file: it begins with b'\\x93NUMPY"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(words)) as error:
            read_cloud(tmp_path / name)
        assert "allow_pickle" not in str(error.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_damaged_array_of_a_folder_is_not_passed_over(tmp_path: Path, suffix: str) -> None:
    path = write_cloud(tmp_path / f"a{suffix}", PointCloud(np.zeros((20, 3), np.float32)))
    path.write_bytes(path.read_bytes()[:60])
    assert cloud_files(tmp_path) == [path]


def test_a_cut_las_is_called_truncated(tmp_path: Path) -> None:
    pytest.importorskip("laspy")
    whole = write_cloud(tmp_path / "a.las", PointCloud(np.zeros((20, 3), np.float32))).read_bytes()
    (tmp_path / "b.las").write_bytes(whole[:-5])
    with pytest.raises(
        ValueError, match=rf"its 20 points need {len(whole)} bytes, {len(whole) - 5} are there"
    ):
        read_cloud(tmp_path / "b.las")
