# SPDX-License-Identifier: Apache-2.0
"""Pre-training without labels on one's own recordings, for the `street` encoder.

Reproduces: the single-scene part of PointCSP (training/methods/pointcsp.py); no published figure.
Command:    pc-train pointcsp_pretrain data=bag:drive.mcap max_minutes=60
            then pc-train street_sim data=... init=work_dirs/pointcsp_pretrain/model.safetensors
Hardware:   any; one CPU core manages about one batch a second.
Expected:   not measured yet beyond `make loop`, which prints what it brings there.
"""

from pc_perception.inference.contract import InputContract
from training.augment import Augmentation
from training.methods.pointcsp import PointCsp
from training.settings import RunSettings

run = RunSettings(
    method=PointCsp(),
    contract=InputContract(grid_m=0.2, features=("offset", "height", "range", "intensity"), max_range_m=80),
    augmentation=Augmentation(max_points=12_000, thin=0.7, keep=0.4),
    max_steps=10_000,
    batch_size=2,
    lr=1e-3,
    ema=0.0,  # the teacher is already an average
    work_dir="work_dirs/pointcsp_pretrain",
)
