# SPDX-License-Identifier: Apache-2.0
"""PointCSP's pre-training of the small room encoder, 1,024 points a view as published.

Reproduces: PointCSP's pre-training (training/methods/pointcsp.py) on a small host; no published figure.
Command:    pc-train pointcsp_rooms, then pc-train rooms_small init=work_dirs/pointcsp_rooms/model.safetensors
Hardware:   one CPU core, about four minutes.
Expected:   docs/results/pointcsp.md, measured by us, three seeds.
"""

from dataclasses import replace

from training.augment import Augmentation
from training.configs.rooms_small import run as rooms
from training.methods.pointcsp import PointCsp
from training.methods.views import Views

run = replace(
    rooms,
    method=PointCsp(
        views=Views(n_local=4),
        dense=1.0,
        n_prototypes=256,
        hidden=256,
        bottleneck=64,
        teacher_momentum=0.99,
    ),
    label_set="",
    augmentation=Augmentation.for_rooms(thin=0.0),
    max_steps=150,
    batch_size=8,
    lr=1e-3,
    ema=0.0,
    work_dir="work_dirs/pointcsp_rooms",
)
