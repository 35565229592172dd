# SPDX-License-Identifier: Apache-2.0
"""A folder of labelled clouds, one .npz file each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.io.files import write_cloud


def write_folder(folder: str | Path, clouds: Iterable[PointCloud]) -> list[Path]:
    """Write clouds as ``000000.npz``, ``000001.npz``, ... with all their fields (labels are raw ids).

    Args:
        folder: made if it is not there.
        clouds: taken one at a time.

    Returns:
        The files' paths, in order.

    Raises:
        FileExistsError: the folder holds clouds of an earlier run.
    """
    folder = Path(folder)
    if any(folder.glob("[0-9]*.npz")):
        raise FileExistsError(f"'{folder}' already holds clouds; remove them or name another folder")
    return [write_cloud(folder / f"{k:06d}.npz", cloud) for k, cloud in enumerate(clouds)]
