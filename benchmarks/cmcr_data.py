# SPDX-License-Identifier: Apache-2.0
"""The simulated drives of ``benchmarks.cmcr``: many of one sweep each, in nuScenes' format with six cameras."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from pc_perception.simulation.camera import camera_ring
from pc_perception.simulation.drive import DriveFrame, simulate_drive
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.writers.nuscenes import NuscenesWriter

DRIVES = {"train": (0, 160), "test": (1_000_000, 15)}
"""First seed and number of scenes; every scene is one keyframe in another street, so that 1 % are one sweep."""
SPEED_M_S = 8.0


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
