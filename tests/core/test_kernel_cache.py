# SPDX-License-Identifier: Apache-2.0
"""Where compiled kernels go when neither the package nor the user's cache can be written."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pc_perception import kernel_cache

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that cannot be written, also by root: inside a file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    return tmp_path / "file" / "numba"


def test_a_place_that_can_be_written_is_left_to_numba(closed: Path, tmp_path: Path) -> None:
    assert kernel_cache.folder_beside([closed, tmp_path / "new" / "numba"]) is None


def test_else_a_private_folder_is_kept(closed: Path, tmp_path: Path) -> None:
    folder = kernel_cache.folder_beside([closed])
    assert folder == kernel_cache.folder_beside([closed])
    assert folder is not None
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["link", "open"])
def test_a_folder_that_others_could_fill_is_not_used(closed: Path, tmp_path: Path, planted: str) -> None:
    expected = tmp_path / f"pc_perception-{os.getuid()}"
    if planted == "link":
        (tmp_path / "elsewhere").mkdir()
        expected.symlink_to(tmp_path / "elsewhere")
    else:
        expected.mkdir()
        expected.chmod(0o777)
    assert kernel_cache.folder_beside([closed]) != expected


KERNEL = """
import numba

@numba.njit(cache=True)
def double(x):
    return 2 * x
"""
CALL = """
import sys
from pc_perception import kernel_cache
with kernel_cache.telling(print):
    from kernel import double
    double(1), double(2), double(0.5)
"""


def test_compiling_is_told_once_and_only_where_nothing_is_cached(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    for expected in (f"{kernel_cache.COMPILING}\n", ""):
        command = [sys.executable, "-c", CALL]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == expected


def test_numba_is_told(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernel_cache.VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(closed))
    monkeypatch.setattr(kernel_cache, "__file__", str(closed / "kernel_cache.py"))
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    kernel_cache.provide()
    assert os.environ[kernel_cache.VARIABLE] == numba.config.CACHE_DIR != ""
