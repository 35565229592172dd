# SPDX-License-Identifier: Apache-2.0
"""Simulated sweeps and room scans as data sets, made once and kept on disk.

    pc-train street_sim prepare_only=true workers=2

One file per cloud, readable as any cloud file, with raw labels. Training takes the seeds from 0 up,
evaluation those from ``HELD_OUT`` up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pc_perception.cloud import PointCloud
from pc_perception.io.files import read_cloud

from .dataset import Target, label_table, with_labels
from .plain_files import KEPT_FIELDS, cache_root, write_plain

if TYPE_CHECKING:
    from pc_perception.simulation.lidar import SpinningLidar

FORMAT = 4
"""Raise when the clouds of a seed change, so that old files are not taken for new ones."""
HELD_OUT = 1_000_000
SPACING_M = 9.0


def street_sweeps(seed: int, n: int) -> list[PointCloud]:
    """Drive along one random street and take a sweep every few metres, each with another sensor.

    Returns:
        ``n`` clouds as ``SpinningLidar.scan`` gives them, raw labels.
    """
    from pc_perception.simulation.lidar import SpinningLidar

    # Mostly the 32 and 64 beams that the simulator draws by itself, some sparser and denser.
    def another(rng: np.random.Generator) -> SpinningLidar:
        return SpinningLidar.random(rng, (16, 128, None)[int(rng.choice(3, p=[0.12, 0.08, 0.8]))])

    return _sweeps(seed, n, another)


def drive_sweeps(seed: int, n: int) -> list[PointCloud]:
    """Like ``street_sweeps``, but always with the 32-beam sensor that ``pc-perception demo`` drives with."""
    from pc_perception.simulation.lidar import SpinningLidar

    return _sweeps(seed, n, lambda rng: SpinningLidar())


def _sweeps(
    seed: int, n: int, draw_sensor: Callable[[np.random.Generator], SpinningLidar]
) -> list[PointCloud]:
    from pc_perception.simulation.drive import draw_mount
    from pc_perception.simulation.raycast import Raycaster
    from pc_perception.simulation.street import make_street

    rng = np.random.default_rng([20260201, seed])
    speed = float(rng.uniform(2, 14))
    scene = make_street(seed, (n + 1) * SPACING_M, speed)
    assert scene.path is not None
    raycaster, clouds = Raycaster(scene), []
    for k in range(n):
        lidar = draw_sensor(rng)
        here, ahead = scene.path(k * SPACING_M), scene.path(k * SPACING_M + 0.5)
        velocity = (ahead[:3, 3] - here[:3, 3]) / 0.5 * speed
        raycaster.move_to(k * SPACING_M / speed)
        clouds.append(lidar.scan(raycaster, here @ draw_mount(rng), velocity, 0, rng))
    return clouds


def room_clouds(seed: int, n: int) -> list[PointCloud]:
    """Look at one random room: one scan of the whole, the rest single RGB-D views, raw labels."""
    from pc_perception.simulation.rgbd import rgbd_frames
    from pc_perception.simulation.scan import scan_room

    views = [cloud for cloud, _ in rgbd_frames(seed, n - 1)] if n > 1 else []
    return [scan_room(seed), *views]


MAKERS: dict[str, Callable[[int, int], list[PointCloud]]] = {
    "street": street_sweeps,
    "drive": drive_sweeps,
    "room": room_clouds,
}


class SimulatedClouds:
    """Simulated clouds, made when first asked for and kept on disk.

    Args:
        kind: ``street`` (any sensor), ``drive`` (streets, the demo's 32 beams) or ``room``.
        label_set: target preset, or None for clouds without labels.
        n_scenes: how many streets or rooms.
        per_scene: clouds of each.
        seed: the scenes are those of seeds ``seed`` .. ``seed + n_scenes - 1``.
        cache_dir: where files are kept; None for the user's cache.
    """

    def __init__(
        self,
        kind: str,
        label_set: Target,
        n_scenes: int = 200,
        per_scene: int = 4,
        seed: int = 0,
        cache_dir: str | Path | None = None,
    ) -> None:
        if kind not in MAKERS:
            raise ValueError(f"there is no simulation '{kind}'; choose one of {', '.join(MAKERS)}")
        if n_scenes < 1 or per_scene < 1 or seed < 0:
            raise ValueError(
                f"n_scenes {n_scenes} and per_scene {per_scene} must be at least 1, seed {seed} at least 0"
            )
        self.kind, self.n_scenes, self.per_scene, self.seed = kind, n_scenes, per_scene, seed
        self.table = label_table(f"simulation_{'room' if kind == 'room' else 'street'}", label_set)
        self.folder = (
            (Path(cache_dir) if cache_dir else cache_root()) / "simulation" / f"{kind}-{FORMAT}-{per_scene}"
        )

    def __len__(self) -> int:
        return self.n_scenes * self.per_scene

    def _file(self, index: int) -> Path:
        scene, view = divmod(index, self.per_scene)
        return self.folder / f"{self.seed + scene:08d}-{view}.npz"

    def name(self, index: int) -> str:
        """Name cloud ``index``."""
        scene, view = divmod(index, self.per_scene)
        return f"sim:{self.kind} seed {self.seed + scene} view {view}"

    def __getitem__(self, index: int) -> PointCloud:
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = self._file(index)
        if not file.is_file():
            make_files(self.kind, self.folder, self.per_scene, self.seed + index // self.per_scene)
        cloud = read_cloud(file)
        return with_labels(cloud, cloud.fields.get("label"), self.table)

    def missing(self) -> list[int]:
        """Return the seeds whose clouds are not all on disk."""
        last = [self._file((i + 1) * self.per_scene - 1) for i in range(self.n_scenes)]
        return [self.seed + i for i, file in enumerate(last) if not file.is_file()]

    def prepare(self, workers: int = 1, progress: bool = True) -> None:
        """Make all clouds that are missing, with ``workers`` processes (0: in this one)."""
        seeds = self.missing()
        make = partial(make_files, self.kind, self.folder, self.per_scene)
        if not seeds:
            return
        if workers <= 1:
            _run(map(make, seeds), len(seeds), self.kind, progress)
            return
        # Spawned: forked children of a process that has used OpenMP hang.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            _run(pool.map(make, seeds), len(seeds), self.kind, progress)


def _run(results: Iterable[None], n: int, kind: str, progress: bool) -> None:
    from tqdm import tqdm

    for _ in tqdm(results, total=n, desc=f"simulating {kind}", unit="scene", disable=not progress):
        pass


def make_files(kind: str, folder: Path, per_scene: int, seed: int) -> None:
    """Make and write the clouds of one scene, the last view last."""
    for view, cloud in enumerate(MAKERS[kind](seed, per_scene)):
        write_plain(folder / f"{seed:08d}-{view}.npz", cloud, (*KEPT_FIELDS, "instance"))
