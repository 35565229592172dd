# SPDX-License-Identifier: Apache-2.0
"""``pc-perception simulate``: labelled streets and rooms, written in the formats that tools read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from pc_perception.io.whole_files import whole_file
from pc_perception.refusals import refuse_unwritable

T = TypeVar("T")
FORMATS = {"street": ("bag", "folder", "nuscenes"), "room": ("bag", "folder", "scannet")}
SWEEPS_PER_SCENE = 40


def run(kind: str, out: Path, *, form: str, count: int, seed: int, cameras: bool = False) -> None:
    """Write ``count`` sweeps of a street, or views (bag, folder) or whole scans (scannet) of rooms.

    Raises:
        FileExistsError: ``out`` holds data already.
        ValueError: the format does not fit the kind, or ``count`` is not positive.
    """
    if form not in FORMATS[kind]:
        raise ValueError(f"a {kind} is written as {', '.join(FORMATS[kind])}, not as '{form}'")
    if count < 1:
        raise ValueError(f"--count must be at least 1, got {count}")
    if seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {seed}")
    if cameras and kind == "room":
        raise ValueError("--cameras belongs to streets; rooms are seen by an RGB-D camera anyway")
    refuse_unwritable(out, is_folder=out.suffix != ".mcap" or form != "bag")
    if kind == "street":
        _write_street(out, form, count, seed, cameras)
    else:
        _write_room(out, form, count, seed)
    print(f"written: {out}")


def _write_street(out: Path, form: str, count: int, seed: int, cameras: bool) -> None:
    from pc_perception.simulation.camera import camera_ring
    from pc_perception.simulation.drive import simulate_drive
    from pc_perception.simulation.writers.bag import write_drive_bag
    from pc_perception.simulation.writers.folder import write_folder
    from pc_perception.simulation.writers.nuscenes import write_nuscenes

    ring = camera_ring() if cameras or form == "nuscenes" else []
    if form == "nuscenes":
        scenes = range(-(-count // SWEEPS_PER_SCENE))
        lengths = [min(SWEEPS_PER_SCENE, count - SWEEPS_PER_SCENE * k) for k in scenes]
        drives = (simulate_drive(seed + k, n, cameras=ring) for k, n in zip(scenes, lengths, strict=True))
        write_nuscenes(out, (_with_bar(drive, n) for drive, n in zip(drives, lengths, strict=True)))
        return
    frames = _with_bar(simulate_drive(seed, count, cameras=ring), count)
    if form == "bag":
        write_bag(out, lambda path: write_drive_bag(path, frames))
    else:
        write_folder(out, (frame.cloud for frame in frames))


def _write_room(out: Path, form: str, count: int, seed: int) -> None:
    from pc_perception.simulation.rgbd import rgbd_frames
    from pc_perception.simulation.writers.bag import write_rgbd_bag
    from pc_perception.simulation.writers.folder import write_folder
    from pc_perception.simulation.writers.scannet import write_scannet

    if form == "scannet":
        write_scannet(out, _with_bar(range(seed, seed + count), count))
    elif form == "bag":
        frames = _with_bar(rgbd_frames(seed, count), count)
        write_bag(out, lambda path: write_rgbd_bag(path, frames))
    else:
        write_folder(out, (cloud for cloud, _ in _with_bar(rgbd_frames(seed, count), count)))


def write_bag(out: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a recording; one in a single file appears when it is complete, or not at all.

    Raises:
        FileExistsError: ``out`` is there.
    """
    if out.suffix != ".mcap":
        write(out)
        return
    if out.exists():
        raise FileExistsError(f"'{out}' exists already; choose another name or remove it")
    with whole_file(out) as path:
        write(path)


def _with_bar(items: Iterable[T], total: int) -> Iterator[T]:
    yield from tqdm(items, total=total, unit="frame", disable=None)
