# SPDX-License-Identifier: Apache-2.0
"""The data of ``benchmarks.cmcr``: simulated drives of one sweep each, in nuScenes' format with six cameras, and what
real clouds ``PC_PERCEPTION_DATA`` holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from pc_perception.io.files import write_cloud
from pc_perception.simulation.camera import camera_ring
from pc_perception.simulation.drive import DriveFrame, simulate_drive
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.writers.nuscenes import NuscenesWriter
from training.data.dataset import CloudDataset, Subset
from training.data.specs import DataOptions, open_one

LABELS = "street8"
DRIVES = {"train": (0, 160), "test": (1_000_000, 15)}
"""First seed and number of scenes; every scene is one keyframe in another street, so that 1 % are one sweep."""
SPEED_M_S = 8.0
REAL = {
    "PandaSet": ("nuscenes:nuscenes/pandaset002_nusc_dev", "pandaset43"),
    "SemanticKITTI": ("semantickitti:semantickitti/mmdet3d_seq00", ""),
}
"""Real clouds below ``PC_PERCEPTION_DATA``: where, and the id space of their labels."""
KEYFRAMES, N_KNOWN = "PandaSet", 8
"""Which of them is learned from as well: so many keyframes; the later ones of the same street test."""


def make_drives(folder: Path, part: str) -> None:
    """Write the drives of a part into ``folder``/``part`` unless they are there."""
    if (folder / part / "v1.0-mini" / "sample.json").exists():
        return
    first, n_scenes = DRIVES[part]
    writer = NuscenesWriter(folder / part, keyframe_every=1)
    for k in tqdm(range(n_scenes), desc=f"simulating {part}", unit="scene"):
        writer.add_scene(keyframes(first + k), f"scene-{k + 1:04d}")
    writer.close()


def keyframes(seed: int) -> Iterator[DriveFrame]:
    """Yield the keyframe of a drive through one street."""
    lidar = SpinningLidar(n_beams=32, n_azimuths=1085)
    yield from simulate_drive(seed, 1, lidar=lidar, cameras=camera_ring(6, 416, 234), speed=SPEED_M_S)


def drives(folder: Path, part: str) -> CloudDataset:
    """Open the sweeps of ``make_drives``."""
    return open_one(f"nuscenes:{folder / part}", DataOptions(LABELS))


def real_clouds(name: str) -> CloudDataset | None:
    """Open one of ``REAL``; None where it is not there."""
    spec, source = REAL[name]
    kind, _, folder = spec.partition(":")
    where = Path(os.environ.get("PC_PERCEPTION_DATA", "/nowhere")) / folder
    return open_one(f"{kind}:{where}", DataOptions(LABELS, label_source=source)) if where.is_dir() else None


def keyframes_of(part: str) -> CloudDataset | None:
    """Open the real keyframes that are learned from (``known``) or test (``unseen``); None where they are not there."""
    real = real_clouds(KEYFRAMES)
    if real is None:
        return None
    return Subset(real, range(N_KNOWN) if part == "known" else range(N_KNOWN, len(real)))


def write_known_keyframes(folder: Path) -> None:
    """Write the real keyframes that are learned from as a folder of labelled clouds, where there are any."""
    known = keyframes_of("known")
    if known is None or (folder / f"{N_KNOWN - 1}.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(known)):
        write_cloud(folder / f"{i}.npz", known[i])
