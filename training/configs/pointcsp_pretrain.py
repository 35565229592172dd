# SPDX-License-Identifier: Apache-2.0
"""Pre-training without labels on one's own recordings, for the `street` encoder.

Reproduces: the single-scene part of PointCSP (training/methods/pointcsp.py); no published figure.
Command:    pc-train pointcsp_pretrain data=bag:drive.mcap max_minutes=60
            then pc-train street_sim data=... init=work_dirs/pointcsp_pretrain/model.safetensors
Hardware:   any; one CPU core manages about one batch a second.
Expected:   not measured beyond `make loop`: 0.330 from random, 0.355 from pre-trained weights, one seed,
            too little to tell.
"""

from training.augment import Augmentation
from training.configs.street_sim import run as street
from training.methods.pointcsp import PointCsp
from training.settings import RunSettings

run = RunSettings(
    method=PointCsp(),
    contract=street.contract,  # input and shape of the model that will be fine-tuned from this
    encoder=street.encoder,
    augmentation=Augmentation(max_points=12_000, thin=0.7, keep=0.4),
    max_steps=10_000,
    batch_size=2,
    lr=1e-3,
    ema=0.0,  # the teacher is already an average
    work_dir="work_dirs/pointcsp_pretrain",
)
