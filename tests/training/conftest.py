# SPDX-License-Identifier: Apache-2.0
"""Small labelled scenes on disk, and the settings of runs that take seconds."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

with warnings.catch_warnings():  # these warn of each other's deprecations while they are imported
    warnings.simplefilter("ignore")
    for name in ("mmengine.runner", "mmengine.visualization", "torch.utils.tensorboard", "nuscenes"):
        importlib.import_module(name)

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import InputContract
from pc_perception.io.files import write_cloud
from training.assembly import assemble
from training.augment import Augmentation
from training.data.specs import open_data
from training.methods.segmentation import Segmentation
from training.settings import RunSettings

ROAD, BUILDING, VEHICLE, POLE = 0, 4, 5, 7
TINY = {"widths": (16, 24, 32), "local": (1, 1, 1), "mixers": (0, 0, 1), "heads": 2, "d_key": 8, "d_value": 8}
CONTRACT = InputContract(grid_m=0.4, features=("offset", "height", "range", "intensity"))


def little_street(seed: int) -> PointCloud:
    """Ground, a wall, two boxes and poles around a sensor 1.8 m above the ground; street8 labels."""
    rng = np.random.default_rng(seed)
    ground = np.c_[rng.uniform(-15, 15, (1200, 2)), np.full(1200, -1.8)]
    wall = np.c_[rng.uniform(-15, 15, 500), np.full(500, rng.uniform(8, 12)), rng.uniform(-1.8, 4, 500)]
    parts, labels = [ground, wall], [np.full(1200, ROAD), np.full(500, BUILDING)]
    for _ in range(2):
        place = np.append(rng.uniform(-8, 6, 2), -1.7)
        parts.append(rng.uniform([-2, -0.9, 0], [2, 0.9, 1.5], (250, 3)) + place)
        labels.append(np.full(250, VEHICLE))
    for _ in range(3):
        parts.append(np.c_[np.tile(rng.uniform(-10, 7, 2), (60, 1)), rng.uniform(-1.8, 4, 60)])
        labels.append(np.full(60, POLE))
    xyz = np.concatenate(parts) + rng.normal(0, 0.02, (sum(map(len, parts)), 3))
    fields = {
        "intensity": rng.uniform(0, 100, len(xyz)).astype(np.float32),
        "label": np.concatenate(labels).astype(np.uint16),
    }
    return PointCloud(xyz.astype(np.float32), fields, "lidar")


@pytest.fixture(scope="session")
def street_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight labelled clouds as files."""
    folder = tmp_path_factory.mktemp("street")
    for seed in range(8):
        write_cloud(folder / f"{seed}.npz", little_street(seed))
    return folder


@pytest.fixture
def make_run(street_folder: Path, tmp_path: Path) -> Callable[..., RunSettings]:
    """Build the settings of a short run; arguments replace defaults."""

    def make(**changes: object) -> RunSettings:
        values: dict = {
            "method": Segmentation(),
            "contract": CONTRACT,
            "label_set": "street8",
            "encoder": TINY,
            "augmentation": Augmentation(max_points=0),
            "data": f"folder:{street_folder}",
            "max_steps": 6,
            "work_dir": str(tmp_path / "run"),
            "survey": 4,
            "threads": 1,
            "progress": False,
        }
        return RunSettings(**(values | changes)).validate()

    return make


@pytest.fixture
def train_and_die() -> Callable[[RunSettings], None]:
    """Return what trains a run until its first checkpoint is written, and ends there like a killed process."""

    def train(run: RunSettings) -> None:
        runner = assemble(run, open_data(run.data, run.data_options()))
        saver = next(h for h in runner.hooks if type(h).__name__ == "Saver")
        save = saver.save

        def save_and_die(*args: object) -> None:
            save(*args)
            raise ConnectionError

        saver.save = save_and_die
        with pytest.raises(ConnectionError):
            runner.train()

    return train
