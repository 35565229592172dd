# SPDX-License-Identifier: Apache-2.0
"""Objects in HDF5 files with the keys ``data`` (M, N, 3) and ``label`` (M,) or (M, 1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_h5(
    path: str | Path, n_classes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], dict[str, NDArray]]:
    """Return points, labels, and the further arrays that have one row an object.

    Returns:
        (M, N, 3) float32, (M,) int64, and by name ``normal`` (M, N, 3), ``mask`` (M, N) ... as stored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, a key is missing, keys are swapped, or a label is no class.
    """
    arrays = _load(Path(path))
    missing = [key for key in ("data", "label") if key not in arrays]
    if missing:
        raise ValueError(f"'{path}' has no key '{missing[0]}'; its keys are {sorted(arrays)}")
    data, label = arrays.pop("data"), arrays.pop("label")
    if label.ndim == 3 and data.ndim < 3:
        raise ValueError(
            f"'{path}': 'data' has shape {data.shape} and 'label' {label.shape}; the two keys are swapped"
        )
    if data.ndim != 3 or data.shape[2] < 3 or data.dtype.kind != "f":
        raise ValueError(f"'{path}': 'data' must be (M, N, 3) numbers, it is {data.shape} {data.dtype}")
    if label.size != len(data) or label.dtype.kind not in "iuf":
        raise ValueError(
            f"'{path}': 'label' must hold {len(data)} numbers, it is {label.shape} {label.dtype}"
        )
    labels = label.reshape(-1).astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
        raise ValueError(
            f"'{path}' has labels {labels.min()} .. {labels.max()}, but there are {n_classes} classes; it is "
            "another version of the data"
        )
    rest = {key: value for key, value in arrays.items() if value.ndim and len(value) == len(data)}
    return data[:, :, :3].astype(np.float32), labels, rest


def _load(path: Path) -> dict[str, NDArray]:
    """Return all arrays of the file's top level."""
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    try:
        with h5py.File(path, "r") as file:
            return {key: file[key][()] for key in file if isinstance(file[key], h5py.Dataset)}
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"'{path}' cannot be read as HDF5, it may be truncated: {error}") from error
