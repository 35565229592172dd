# SPDX-License-Identifier: Apache-2.0
"""B14, SLidR's step from a cache of decoded pictures: frames a second. Row of ``python -m benchmarks gpu``.

CMCR's recipe at the published size with nothing but the contrast over superpixels (SLidR, arXiv 2203.16258): the
sparse U-Net of 37.9 million parameters at 0.1 m, a frozen ResNet-50 whose random weights cost what trained ones do,
six pictures of 224x416 beside each sweep of 34,720 points, AdamW, bfloat16. Sweeps and pictures are made up and lie in
a folder as a data set's do, the pictures decoded and cut into superpixels in training's cache; points are projected,
cropped, voxelised and paired by what trains. Timed are mmengine's ``train_step`` on batches of training's own loader,
by the wall clock, each loss read on the host as training does. A few frames take turns and stay in the system's
memory: a disk's speed is not in it.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.cmcr import CONTRAST
from benchmarks.dense import sweep
from benchmarks.gpu import Place
from pc_perception.geometry import inverse, pose
from pc_perception.inference.contract import InputContract
from pc_perception.io.files import read_cloud
from pc_perception.models.segmenters import SEGMENTERS
from pc_perception.models.sparse_unet import RES16UNET34C
from pc_perception.simulation.camera import camera_ring
from training.data.cameras import Camera, CameraCloud
from training.data.crops import CropSettings
from training.data.dataset import Picker
from training.methods.cmcr import Cmcr
from training.methods.frames import FrameBatch
from training.methods.method import Task
from training.settings import RunSettings, read_config
from training.stream import Numbers, SampleStream, make_loader

FRAMES_A_SECOND = 150
FLOOR_MS = 1e3 * 0.5 / 790
"""Of one frame: 0.5 TFLOP at 790 TFLOP/s."""
BATCHES = (4, 16)
"""Frames in a batch: of SLidR's file for one GPU and for each of its four, and of all four."""
N_FRAMES = 8
SECONDS = 6.0
"""How long steps are timed, with the loader and without."""
WARM_UP = 5
TINY = {"widths": (8, 8, 16), "blocks": (1, 1), "up_widths": (16, 16), "up_blocks": (1, 1)}
T_BASE_LIDAR = pose((0.9, 0.0, 1.8))

Step = Callable[[FrameBatch], float]


@dataclass(frozen=True)
class FramesRow:
    """Steps on batches of sweeps with pictures."""

    place: Place
    batch: int
    row: str = "B14"

    @property
    def input(self) -> str:
        """Say what a step works on."""
        return f"SLidR, batches of {self.batch} sweeps of 34,720 points with six pictures of 224x416"

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Time steps for ``SECONDS``, however many ``rounds``."""
        tiny, device, told = self.place.tiny, self.place.device, f">= {FRAMES_A_SECOND} frames/s"
        empty = dict.fromkeys(("ours_ms", "peer", "peer_ms", "ratio", "ratio_low", "floor_ms"))
        record: dict[str, Any] = {**empty, "target": 1e3 * self.batch / FRAMES_A_SECOND}
        record["verdict"] = f"{told} open"
        if device == "cuda" and not torch.cuda.is_available():
            return record
        run = settings(tiny, self.batch)
        try:
            step = stepper(run, device)
        except ImportError as error:  # of mmengine, or of the trunk's package
            return {**record, "note": str(error)}
        with TemporaryDirectory() as folder:
            record |= paces(run, write_frames(Path(folder), rng, tiny), step, device, tiny)
        record["note"] = (
            f"{record['frames_per_s']:.0f} frames/s, {record['waiting']:.0%} of the time waiting for"
            f" {record['workers']} processes; {record['alone_ms']:.1f} ms a step without the loader; one process makes"
            f" a frame in {record['make_ms']:.0f} ms, {record['frame_mb']:.1f} MB that take {record['copy_ms']:.1f} ms"
            f" to the device; peak {record['peak_gib'] or 0:.1f} GiB"
        )
        if tiny or device != "cuda":
            return {**record, "verdict": "not the row's size or device"}
        met = "met" if record["frames_per_s"] >= FRAMES_A_SECOND else "missed"
        return {**record, "floor_ms": self.batch * FLOOR_MS, "verdict": f"{told} {met}"}


def settings(tiny: bool, batch: int) -> RunSettings:
    """Return the recipe at the published size, or with small networks and pictures."""
    # SLidR hides no part of a picture.
    contrast: dict[str, Any] = CONTRAST | {"nce": 0.0, "superpixel": 1.0, "mask_picture": 0.0}
    method = Cmcr(**contrast)
    contract = InputContract(grid_m=0.1, features=("intensity_255",))
    run = replace(read_config("cmcr_pretrain"), method=method, contract=contract, encoder=RES16UNET34C)
    if tiny:
        small = replace(method, image_trunk="small", crop=CropSettings(32, 64))
        run = replace(run, method=small, contract=replace(contract, grid_m=0.5), encoder=TINY)
    return replace(run, batch_size=2 if tiny else batch, amp=True).validate()


def task_of(run: RunSettings) -> Task:
    """Return what the method works on."""
    network = SEGMENTERS[run.network.__name__]
    return Task(run.contract, 0, len(run.encoder["widths"]), run.encoder, run.augmentation, network)


def stepper(run: RunSettings, device: str) -> Step:
    """Return what trains a new model on a batch, wherever that is, and reads the loss before it.

    Raises:
        ImportError: mmengine or transformers, which the trunk is of, is not installed.
    """
    from training.assembly import BFloat16Optimization, groups

    torch.manual_seed(0)
    model: Any = run.method.build(task_of(run), np.zeros(0, np.int64)).to(device).train()
    parts: Any = groups(model, run.weight_decay)
    optimizer = torch.optim.AdamW(parts, run.lr, run.betas, fused=True)  # type: ignore[arg-type]
    wrapper = BFloat16Optimization(optimizer, clip_grad={"max_norm": run.clip})
    return lambda batch: float(model.train_step(batch, wrapper)["loss"].detach())


@dataclass(frozen=True)
class Frames:
    """Sweeps in nuScenes' form with six pictures each, ``size`` (width, height), in one folder."""

    folder: Path
    n: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> CameraCloud:
        cloud = read_cloud(self.file(index), 5)
        return CameraCloud(cloud.xyz, cloud.fields, cloud.frame, cloud.stamp_ns, cameras=self.cameras(index))

    def name(self, index: int) -> str:
        """Name frame ``index``."""
        return self.file(index).name

    def file(self, index: int) -> Path:
        """Return where the sweep lies."""
        return self.folder / f"{index}.pcd.bin"

    def cameras(self, index: int) -> tuple[Camera, ...]:
        """Return the cameras of frame ``index``."""
        return tuple(
            Camera(
                channel=name,
                file=self.folder / f"{index}-{name}.jpg",
                size=self.size,
                K=camera.K,
                T_camera_lidar=inverse(T_base_camera) @ T_BASE_LIDAR,
                sample=str(index),
                cache=self.folder / "cache",
            )
            for name, camera, T_base_camera in camera_ring(6, *self.size)
        )


def write_frames(folder: Path, rng: np.random.Generator, tiny: bool) -> Frames:
    """Write frames, and fill the cache as the first epoch of a training does."""
    n, beams, azimuths, size = (2, 8, 128, (160, 90)) if tiny else (N_FRAMES, 32, 1085, (1600, 900))
    frames = Frames(folder, n, size)
    cameras = [camera for index in range(n) for camera in frames.cameras(index)]
    for index in range(n):
        xyz = sweep(rng, beams, azimuths)
        intensity, ring = rng.uniform(0, 255, len(xyz)), np.repeat(np.arange(beams), azimuths)
        np.column_stack([xyz, intensity, ring]).astype(np.float32).tofile(frames.file(index))
    for camera in cameras:
        write_texture(camera.file, rng, size)
    with ThreadPoolExecutor() as pool:
        list(pool.map(Camera.superpixels, cameras))
    return frames


def write_texture(file: Path, rng: np.random.Generator, size: tuple[int, int]) -> None:
    """Write a picture of ``size``: coloured blots of two scales, smooth."""
    from PIL import Image

    noise = [rng.integers(0, 256, (9 * n, 16 * n, 3), dtype=np.uint8) for n in (1, 4)]
    coarse, fine = (Image.fromarray(n).resize(size, Image.Resampling.BICUBIC) for n in noise)
    Image.blend(coarse, fine, 0.4).save(file)


def paces(run: RunSettings, data: Frames, step: Step, device: str, tiny: bool) -> dict[str, Any]:
    """Time the loader's parts, steps on one batch over and over, and steps on what the loader brings.

    Returns:
        ours_ms of a step with the loader, frames_per_s, the share of it spent ``waiting`` for the loader, alone_ms of
        a step without it, make_ms, copy_ms and frame_mb of one frame, peak_gib on the device (None on a CPU), workers,
        first_s of the first steps (kernels are compiled), and the losses on the batch that came over and over.
    """
    stream = SampleStream(Picker([data], (), run.seed), run.method, task_of(run), run.seed)
    alone = iter(make_loader(stream, Numbers(run.batch_size), 0))
    batch, made_s = next(alone), _spent(lambda: next(alone))  # the first one compiles
    n_bytes, moved_s = len(pickle.dumps(batch)), _spent(lambda: _wait(batch.to(torch.device(device)), device))
    n_workers = 0 if tiny else processes(n_bytes)
    loader = make_loader(stream, Numbers(run.batch_size, first=2), n_workers)
    batches = iter(loader)  # processes start beside the first steps

    here, start = batch.to(torch.device(device)), perf_counter()
    losses = [step(here) for _ in range(WARM_UP)]
    first_s = perf_counter() - start
    alone_ms, _ = timed(step, repeat(here), 0 if tiny else SECONDS)

    # What was laid up meanwhile is no pace; after it the allocator meets batches of other sizes.
    for _ in range(n_workers * (loader.prefetch_factor or 0)):
        next(batches)
    timed(step, batches, 0)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ms, waiting = timed(step, batches, 0 if tiny else SECONDS)
    return {
        "ours_ms": ms,
        "frames_per_s": 1e3 * run.batch_size / ms,
        "waiting": waiting,
        "alone_ms": alone_ms,
        "make_ms": 1e3 * made_s / run.batch_size,
        "copy_ms": 1e3 * moved_s / run.batch_size,
        "frame_mb": n_bytes / run.batch_size / 1e6,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
        "workers": n_workers,
        "first_s": first_s,
        "loss": losses,
    }


def processes(n_bytes: int) -> int:
    """Return how many processes make batches of ``n_bytes``: a core for each but one, if shared memory holds them."""
    # Each keeps four ready and works on another.
    room = shutil.disk_usage("/dev/shm").free // (8 * n_bytes)
    return int(min(len(os.sched_getaffinity(0)) - 1, room))


def timed(step: Step, batches: Iterator[FrameBatch], seconds: float) -> tuple[float, float]:
    """Take steps for ``seconds``, two at least; return milliseconds of one and the share spent waiting for batches."""
    n, waited, start = 0, 0.0, perf_counter()
    while n < 2 or perf_counter() - start < seconds:
        before = perf_counter()
        batch = next(batches)
        waited += perf_counter() - before
        step(batch)
        n += 1
    spent = perf_counter() - start
    return 1e3 * spent / n, waited / spent


def _spent(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _wait(_: object, device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def rows(place: Place) -> list[FramesRow]:
    """List the rows for ``place``."""
    return [FramesRow(place, batch) for batch in BATCHES]
