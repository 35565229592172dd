# SPDX-License-Identifier: Apache-2.0
"""Fields of files: folders of meshes, and occupancy as 3DILG and 3DShape2VecSet publish it.

Meshes: ``DIR/chair/a.obj``, ``DIR/chair/train/a.off`` (ModelNet's layout) or ``DIR/a.stl`` (no classes).

Occupancy: ``DIR/SYNSET/MODEL.npz`` with ``vol_points``, ``vol_label``, ``near_points``, ``near_label`` and
``surface``; or as published, where the surface is ``points`` in ``ShapeNetV2_watertight/SYNSET/4_pointcloud/MODEL.npz``
times the number in ``ShapeNetV2_point/SYNSET/MODEL.npy``, and ``SYNSET/train.lst`` names a split's models.

Where neither folders nor lists say which split a shape is of, a hash of its name does: 80 % train, 10 % val, 10 % test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.io.meshes import READ, Mesh, read_mesh
from pc_perception.simulation.object_shapes import in_cube

from .field_arrays import FieldArrays, Sizes, arrays_of_mesh, outer_surface
from .field_sources import SPLITS
from .mesh_repair import repair
from .objects import Z_UP

KEYS = ("vol_points", "vol_label", "near_points", "near_label")
_POINT, _WATERTIGHT = "ShapeNetV2_point", "ShapeNetV2_watertight"


@dataclass(frozen=True)
class FileShapes:
    """Shapes of files; see ``FieldSource``.

    Attributes:
        kind: ``meshes`` or ``occupancy``.
        root: their folder.
        files: below it.
        classes: names; labels: one for each file.
        y_up: turn y up to z up.
        key: of what the files hold.
    """

    kind: str
    root: Path
    files: tuple[str, ...]
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    y_up: bool
    key: str

    @property
    def names(self) -> tuple[str, ...]:
        """The files."""
        return self.files

    def make(self, index: int, sizes: Sizes) -> tuple[FieldArrays, str]:
        """Read one file and draw its points and queries."""
        name = self.files[index]
        rng = np.random.default_rng([20261129, *name.encode()])
        if self.kind == "meshes":
            mesh, note = self._mesh(name)
            return arrays_of_mesh(mesh, sizes, rng), note
        turn = self._turn()
        arrays = read_occupancy(self.root / name)
        rows = {
            what: rng.choice(len(have), n, replace=len(have) < n)
            for what, have, n in (
                ("surface", arrays.surface, sizes.surface),
                ("vol", arrays.vol, sizes.vol),
                ("near", arrays.near, sizes.near),
            )
        }
        drawn = FieldArrays(
            arrays.surface[rows["surface"]] @ turn.T,
            arrays.vol[rows["vol"]] @ turn.T,
            arrays.vol_inside[rows["vol"]],
            arrays.near[rows["near"]] @ turn.T,
            arrays.near_inside[rows["near"]],
        )
        return drawn.checked(), ""

    def surface(self, index: int, n: int, rng: Generator) -> NDArray[np.float64]:
        """Draw points on the surface of one file's shape; of occupancy, from the points that the file has."""
        name = self.files[index]
        if self.kind == "meshes":
            return outer_surface(self._mesh(name)[0], rng)(n)
        points = read_occupancy(self.root / name).surface
        return points[rng.choice(len(points), n, replace=len(points) < n)] @ self._turn().T

    def _turn(self) -> NDArray[np.float32]:
        return Z_UP if self.y_up else np.eye(3, dtype=np.float32)

    def _mesh(self, name: str) -> tuple[Mesh, str]:
        """The closed mesh of a file in the cube, and what was repaired."""
        found = repair(read_mesh(self.root / name))
        return in_cube(Mesh(found.mesh.vertices @ self._turn().T, found.mesh.faces)), found.note


def file_shapes(kind: str, where: str, split: str, y_up: bool = False) -> FileShapes:
    """Find a split's shapes in a folder.

    Args:
        kind: ``meshes`` or ``occupancy``.
        y_up: y is up in the files. What ShapeNet publishes has y up and is always turned.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no file in it is of this kind and split.
    """
    root = Path(where)
    if not where or not root.is_dir():
        raise FileNotFoundError(f"'{kind}:{where}': there is no folder '{where}'")
    if split not in SPLITS:
        raise ValueError(f"{kind} have no split '{split}'; there are {', '.join(SPLITS)}")
    published = (root / _POINT).is_dir()
    top = root / _POINT if published else root
    suffixes = READ if kind == "meshes" else (".npz",)
    every = sorted(f.relative_to(top) for f in top.rglob("*") if f.suffix.lower() in suffixes)
    every = [f for f in every if "4_pointcloud" not in f.parts]
    files = [f for f in every if _split_of(top, f) == split]
    if not files:
        raise ValueError(
            f"'{where}' holds no {', '.join(suffixes)} file of split '{split}', and {len(every)} of all splits together"
        )
    classes = tuple(sorted({f.parts[0] for f in every if len(f.parts) > 1}))
    prefix = Path(_POINT) if published else Path()
    return FileShapes(
        kind,
        root.resolve(),
        tuple((prefix / f).as_posix() for f in files),
        classes,
        tuple(classes.index(f.parts[0]) if len(f.parts) > 1 else -1 for f in files),
        y_up or published,
        _key(kind, top, files, y_up or published),
    )


def _split_of(top: Path, file: Path) -> str:
    named = [part for part in file.parts[:-1] if part in SPLITS]
    if named:
        return named[0]
    lists = {s: top / file.parent / f"{s}.lst" for s in SPLITS}
    if any(path.is_file() for path in lists.values()):
        return next((s for s, path in lists.items() if path.is_file() and file.stem in _models(path)), "")
    number = hashlib.sha256(file.as_posix().encode()).digest()[0] % 10
    return SPLITS[max(number - 7, 0)]


def _models(path: Path) -> frozenset[str]:
    return frozenset(path.read_text(encoding="utf-8").replace(".npz", "").split())


def _key(kind: str, top: Path, files: Sequence[Path], y_up: bool) -> str:
    stats = [(f.as_posix(), (top / f).stat().st_size, (top / f).stat().st_mtime_ns) for f in files]
    digest = hashlib.sha256(repr((str(top.resolve()), stats, y_up)).encode()).hexdigest()[:12]
    return f"{kind}-{top.name}-{digest}"


def read_occupancy(file: Path) -> FieldArrays:
    """Read all points and queries of one shape as published.

    Raises:
        ValueError: arrays are missing or do not fit each other; OSError: the file cannot be read.
    """
    with np.load(file, allow_pickle=False) as stored:
        missing = [key for key in KEYS if key not in stored]
        if missing:
            raise ValueError(f"it lacks the arrays {', '.join(missing)}; it has {', '.join(sorted(stored))}")
        vol, vol_label, near, near_label = (stored[key] for key in KEYS)
        surface = stored["surface"] if "surface" in stored else _published_surface(file)
    for what, places, labels in (("vol", vol, vol_label), ("near", near, near_label)):
        if places.ndim != 2 or places.shape[1] != 3 or labels.reshape(-1).shape != (len(places),):
            raise ValueError(
                f"{what}_points {places.shape} and {what}_label {labels.shape} must be (Q, 3) and (Q,)"
            )
    if surface.ndim != 2 or surface.shape[1] != 3 or not len(surface):
        raise ValueError(f"its surface must be (N, 3) points, it is {surface.shape}")
    return FieldArrays(
        surface.astype(np.float32),
        vol.astype(np.float32),
        vol_label.reshape(-1) > 0.5,
        near.astype(np.float32),
        near_label.reshape(-1) > 0.5,
    )


def _published_surface(file: Path) -> NDArray[np.float32]:
    cloud = file.parents[2] / _WATERTIGHT / file.parent.name / "4_pointcloud" / file.name
    scale = file.with_suffix(".npy")
    if not cloud.is_file() or not scale.is_file():
        raise ValueError(
            f"it has no array 'surface', and neither '{scale.name}' nor '{cloud}' stand in for it"
        )
    with np.load(cloud, allow_pickle=False) as stored:
        if "points" not in stored:
            raise ValueError(f"'{cloud}' lacks the array points")
        return stored["points"].astype(np.float32) * np.float32(np.load(scale, allow_pickle=False).item())
