# SPDX-License-Identifier: Apache-2.0
"""PointCSP's fine-tuning at the published scale: S3DIS without area 5, size S, with distillation.

Reproduces: PointCSP's fine-tuning (training/methods/spd.py); schedule of its closest relative with public code,
            CamPoint [PROPOSED], of which the label smoothing is kept.
Command:    pc-train s3dis_spd data=s3dis:DIR areas=1,2,3,4,6 init=work_dirs/pointcsp_scannet/model.safetensors
            then pc-evaluate work_dirs/s3dis_spd/model.safetensors --data s3dis:DIR (docs/training.md)
Hardware:   a GPU; not run by us.
Expected:   not measured by us.
"""

from dataclasses import replace

from training.configs.pointcsp_scannet import run as rooms
from training.configs.room_sim import run as room
from training.methods.spd import Spd

run = replace(
    rooms,
    method=Spd(),
    label_set="s3dis13",
    augmentation=room.augmentation,
    max_steps=75_000,  # 100 epochs of 30 rounds over 204 rooms in batches of 8
    batch_size=8,
    lr=1e-3,
    weight_decay=0.05,
    clip=5.0,
    ema=room.ema,
    work_dir="work_dirs/s3dis_spd",
)
