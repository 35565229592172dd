# SPDX-License-Identifier: Apache-2.0
"""Per-point labels in files beside the clouds: SemanticKITTI .label, nuScenes lidarseg, .npy, .npz.

Ids are the data set's own; ``pc_perception.labels.label_map`` turns them into classes. A ``label`` field
inside the cloud itself wins over any file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.arrays import load_npy, load_npz
from pc_perception.io.whole_files import whole_file
from pc_perception.labels import whole_ids


def read_labels(path: str | Path, n_points: int | None = None) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return raw labels and instance ids of a label file.

    Args:
        path: ``.label`` (uint32: class in the lower 16 bits, instance in the upper), ``.bin`` (lidarseg,
            uint8, no instances), ``.npy`` (N,), or ``.npz`` with ``label`` and perhaps ``instance``.
        n_points: how many there must be.

    Returns:
        (N,) int32 labels, (N,) int32 instances (zero where the file has none).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or has another number of labels.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no label file '{path}'")
    try:
        label, instance = _read(path)
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as labels: {error}") from error
    if n_points is not None and len(label) != n_points:
        raise ValueError(f"'{path}' has {len(label)} labels for {n_points} points")
    return label, instance


def _read(path: Path) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    suffix = path.suffix.lower()
    instance = None
    if suffix == ".label":
        raw = path.read_bytes()
        if len(raw) % 4:
            raise ValueError(f"its {len(raw)} bytes are not a whole number of uint32 labels: truncated?")
        packed = np.frombuffer(raw, "<u4")
        label, instance = packed & 0xFFFF, packed >> 16
    elif suffix == ".bin":
        label = np.frombuffer(path.read_bytes(), np.uint8)
    elif suffix == ".npy":
        label = load_npy(path)
    elif suffix == ".npz":
        arrays = load_npz(path)
        label = arrays[next((k for k in ("label", "labels", "data") if k in arrays), "label")]
        instance = arrays.get("instance")
    else:
        raise ValueError(f"label files end in .label, .bin, .npy or .npz, not in '{suffix}'")
    label = np.asarray(label)
    if label.ndim != 1 or label.dtype.kind not in "iuf":
        raise ValueError(f"one label a point is needed, it has shape {label.shape} and type {label.dtype}")
    if instance is None:
        instance = np.zeros(len(label), np.int32)
    return whole_ids(label), np.asarray(instance).astype(np.int32)


def write_labels(path: str | Path, label: NDArray, instance: NDArray | None = None) -> Path:
    """Write (N,) raw labels, and instances where given: ``.label``, ``.npy``, ``.npz``, lidarseg ``.bin``.

    Raises:
        ValueError: the ids do not fit the format, or the suffix is unknown.
    """
    path, label = Path(path), np.asarray(label)
    suffix = path.suffix.lower()
    top = 255 if suffix == ".bin" else 65535
    if label.size and (label.min() < 0 or label.max() > top):
        raise ValueError(f"labels {label.min()} to {label.max()} do not fit '{suffix}' (0 to {top})")
    with whole_file(path) as partial:
        _write(partial, label, instance)
    return path


def _write(path: Path, label: NDArray, instance: NDArray | None) -> None:
    suffix = path.suffix.lower()
    if suffix == ".label":
        packed = label.astype("<u4")
        if instance is not None:
            packed |= (np.asarray(instance).astype("<u4") & 0xFFFF) << 16
        path.write_bytes(packed.tobytes())
    elif suffix == ".bin":
        path.write_bytes(label.astype(np.uint8).tobytes())
    elif suffix == ".npy":
        np.save(path, label.astype(np.uint16))
    elif suffix == ".npz":
        extra = {} if instance is None else {"instance": np.asarray(instance, np.int32)}
        np.savez_compressed(path, label=label.astype(np.uint16), **extra)
    else:
        raise ValueError(f"label files end in .label, .bin, .npy or .npz, not in '{suffix}'")


def find_label_file(cloud_path: str | Path) -> Path | None:
    """Return the label file that belongs to a cloud file, or None.

    Looked for: the same name ending in .label or _label.npy / _labels.npz beside the cloud,
    SemanticKITTI's ``labels/`` beside ``velodyne/``, and ``_sem_label.npy`` beside ``_vert.npy`` (what
    mmdetection3d makes of ScanNet; NYU40 ids).
    """
    path = Path(cloud_path)
    stem = path.name.removesuffix(".bin").removesuffix(".pcd") if path.name.endswith(".bin") else path.stem
    beside = [path.with_name(stem + end) for end in (".label", "_label.npy", "_labels.npy", "_labels.npz")]
    if path.parent.name == "velodyne":
        beside.append(path.parent.parent / "labels" / f"{stem}.label")
    if "_vert" in path.name:
        beside.append(path.with_name(path.name.replace("_vert", "_sem_label")))
    return next((p for p in beside if p.is_file()), None)


def labels_of(cloud: PointCloud, path: str | Path | None = None) -> NDArray[np.int32] | None:
    """Return the raw labels of a cloud: its own field ``label``, else its label file's, else None."""
    if "label" in cloud.fields:
        return whole_ids(cloud.fields["label"])
    file = find_label_file(path) if path is not None else None
    return read_labels(file, len(cloud))[0] if file else None
