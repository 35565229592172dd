# SPDX-License-Identifier: Apache-2.0
"""Pre-training without labels on one's own recordings, for the `street` encoder.

Reproduces: PointCSP's pre-training (training/methods/pointcsp.py) on another host, with larger and fewer views and
            with the loss between places; no published figure.
Command:    pc-train pointcsp_pretrain data=bag:drive.mcap max_minutes=60
            then pc-train street_spd data=... init=work_dirs/pointcsp_pretrain/model.safetensors
Hardware:   any; one CPU core manages about one batch a second.
Expected:   docs/results/pointcsp.md says what pre-training was seen to give in rooms.
"""

from training.augment import Augmentation
from training.configs.street_sim import run as street
from training.methods.pointcsp import PointCsp
from training.methods.views import Views
from training.settings import RunSettings

run = RunSettings(
    method=PointCsp(
        # The published 1,024 points a view are spaced far wider than the voxels of a sweep.
        views=Views(n_local=4, global_points=6000, local_points=1500),
        dense=1.0,
        n_prototypes=256,
        hidden=256,
        bottleneck=64,
        teacher_momentum=0.99,
    ),
    contract=street.contract,  # input and shape of the model that will be fine-tuned from this
    encoder=street.encoder,
    augmentation=Augmentation(thin=0.7, keep=0.4),
    max_steps=10_000,
    batch_size=4,
    lr=1e-3,
    ema=0.0,  # the teacher is already an average
    work_dir="work_dirs/pointcsp_pretrain",
)
