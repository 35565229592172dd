# SPDX-License-Identifier: Apache-2.0
"""ModelNet40 in its three published forms, told apart by what the folder holds.

==========================================  =======================================================
``modelnet40_shape_names.txt`` and lists    resampled text: ``airplane/airplane_0001.txt``, 10,000 x 6
``modelnet40_train_8192pts_fps.dat`` ...    the cache of those, thinned by FPS: a pickle of arrays
``ply_data_train0.h5`` ...                  2,048 x 3
==========================================  =======================================================

9,843 shapes for training, 2,468 for testing; 40 classes, whose ids are their places in the alphabet. The
published code scales to the unit sphere on reading; here ``object_views`` does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.arrays import read_text
from pc_perception.labels import load_label_set

from .h5_objects import read_h5
from .objects import LabeledObject, StoredObjects, z_up
from .pickled_arrays import read_arrays

CLASSES = load_label_set("modelnet40").classes


def open_modelnet40(root: str | Path, split: str = "train") -> ModelNetText | StoredObjects:
    """Open the shapes of ``train`` or ``test``, in whichever form lies there; the cache first.

    Raises:
        FileNotFoundError: the folder holds none of the forms.
        ValueError: an unknown split, or files that cannot be used.
    """
    root, split = Path(root), split or "train"
    if split not in ("train", "test"):
        raise ValueError(f"ModelNet40 has no split '{split}'; there are train and test")
    caches = sorted(root.glob(f"modelnet40_{split}_*pts_fps.dat"))
    if caches:
        return _read_cache(caches[-1])
    if (root / f"modelnet40_{split}.txt").is_file():
        return ModelNetText(root, split)
    files = sorted(root.glob(f"ply_data_{split}*.h5"))
    if files:
        return _read_files(files, split)
    raise FileNotFoundError(
        f"'{root}' holds no ModelNet40 for split '{split}': neither modelnet40_{split}.txt, nor "
        f"modelnet40_{split}_8192pts_fps.dat, nor ply_data_{split}*.h5"
    )


class ModelNetText:
    """The resampled text files, read one by one; each has normals."""

    classes = CLASSES

    def __init__(self, root: Path, split: str) -> None:
        self.root = root
        self.shapes = (root / f"modelnet40_{split}.txt").read_text(encoding="utf-8").split()
        names = root / "modelnet40_shape_names.txt"
        if names.is_file() and tuple(names.read_text(encoding="utf-8").split()) != CLASSES:
            raise ValueError(
                f"'{names}' does not list the 40 classes of ModelNet40 in the order of the alphabet"
            )
        wrong = [s for s in self.shapes if s.rpartition("_")[0] not in CLASSES]
        if wrong or not self.shapes:
            raise ValueError(
                f"the list of split '{split}' in '{root}' names no class: {wrong[:1] or 'it is empty'}"
            )

    def __len__(self) -> int:
        return len(self.shapes)

    def name(self, index: int) -> str:
        """Name shape ``index``."""
        return self.shapes[index]

    def label(self, index: int) -> int:
        """Return the class of shape ``index``."""
        return CLASSES.index(self.shapes[index].rpartition("_")[0])

    def instance(self, index: int) -> str:
        """Every shape is one thing."""
        return self.shapes[index]

    def __getitem__(self, index: int) -> LabeledObject:
        shape = self.shapes[index]
        file = self.root / shape.rpartition("_")[0] / f"{shape}.txt"
        if not file.is_file():
            raise FileNotFoundError(f"there is no file '{file}'")
        try:
            cloud = read_text(file, ("x", "y", "z", "normal_x", "normal_y", "normal_z"))
        except ValueError as error:
            raise ValueError(f"'{file}': {error}") from error
        turned = z_up(cloud)
        return LabeledObject(turned.xyz, turned.fields, category=self.label(index))


def _read_cache(file: Path) -> StoredObjects:
    content = read_arrays(file)
    try:
        points, labels = content
        points = [np.asarray(p, np.float32) for p in points]
        labels = [int(np.asarray(label).reshape(-1)[0]) for label in labels]
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"'{file}' must hold a list of points and a list of labels: {error}") from error
    return stored(points, np.array(labels), CLASSES, f"'{file}'", file.stem)


def _read_files(files: list[Path], split: str) -> StoredObjects:
    parts = [read_h5(file, len(CLASSES)) for file in files]
    points = [p for part in parts for p in part[0]]
    labels = np.concatenate([part[1] for part in parts])
    return stored(points, labels, CLASSES, f"'{files[0].parent}'", f"ply_data_{split}")


def stored(
    points: list[NDArray], labels: NDArray, classes: tuple[str, ...], source: str, name: str
) -> StoredObjects:
    """Return shapes with y up, (N, 3) or (N, 6) with normals, as objects with z up, called ``name 0`` ...

    Raises:
        ValueError: other shapes, or labels that are no class.
    """
    wrong = [p.shape for p in points if p.ndim != 2 or p.shape[1] not in (3, 6)]
    if wrong or not points:
        raise ValueError(f"{source} must hold shapes of (N, 3) or (N, 6), it has {wrong[:1] or 'none'}")
    fields = {}
    if all(p.shape[1] == 6 for p in points):
        fields["normal"] = np.concatenate([p[:, 3:] for p in points]).astype(np.float32)
    cloud = z_up(PointCloud(np.concatenate([p[:, :3] for p in points]).astype(np.float32), fields))
    names = [f"{name} {i}" for i in range(len(points))]
    return StoredObjects(cloud, np.cumsum([0, *map(len, points)]), labels, classes, names, source=source)
