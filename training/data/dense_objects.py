# SPDX-License-Identifier: Apache-2.0
"""A data set of objects as one array, so that a whole epoch can lie on a GPU, and text is parsed only once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.object_views import fps_subset, usable

from .objects import ObjectDataset, check_share, data_hash
from .plain_files import cache_root


@dataclass(frozen=True)
class DenseObjects:
    """M objects with the same number of points.

    Attributes:
        points: (M, n, 3) float32, as the data has them, mapped from the file where it is large.
        labels: (M,) int64, -1 for none.
        rows: (M,) numbers of the objects in the data set.
        bad: objects that were left out, with the reason.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    bad: tuple[str, ...]


def dense_objects(
    data: ObjectDataset, n_points: int, cache_dir: str = "", progress: bool = False
) -> DenseObjects:
    """Bring every object to ``n_points`` points: by FPS from its first point on, or by repeating all of them.

    Computed once and kept as a .npy file; ModelNet40's published cache is this with 8,192 points.

    Args:
        cache_dir: where; empty for the user's cache.
        progress: show a bar.

    Raises:
        ValueError: more than 1 % of the objects cannot be used.
    """
    root = Path(cache_dir) if cache_dir else cache_root()
    file = root / "objects" / f"dense-{data_hash(data)}-{n_points}.npy"
    story = file.with_suffix(".json")
    if not story.is_file():
        _write(data, n_points, file, progress)
    kept = json.loads(story.read_text(encoding="utf-8"))
    rows = np.array(kept["rows"], np.int64)
    labels = np.array([data.label(int(i)) for i in rows], np.int64)
    return DenseObjects(np.load(file, mmap_mode="r")[: len(rows)], labels, rows, tuple(kept["bad"]))


def _write(data: ObjectDataset, n_points: int, file: Path, progress: bool) -> None:
    from tqdm import tqdm

    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}")
    shape = (len(data), n_points, 3)
    out = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float32, shape=shape)
    rows: list[int] = []
    bad: list[str] = []
    for i in tqdm(range(len(data)), desc="laying out", unit="object", disable=None if progress else True):
        try:
            cloud = data[i]
            xyz = cloud.xyz[usable(cloud)]
        except (ValueError, OSError) as error:
            bad.append(f"{data.name(i)}: {error}")
            continue
        out[len(rows)] = xyz[np.resize(fps_subset(xyz, n_points), n_points)]
        rows.append(i)
    out.flush()
    check_share(bad, len(data))
    unfinished.replace(file)
    file.with_suffix(".json").write_text(json.dumps({"rows": rows, "bad": bad}), encoding="utf-8")
