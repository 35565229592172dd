# SPDX-License-Identifier: Apache-2.0
"""Point-MAE on objects without labels: the base of the other object methods, and their control.

Reproduces: Point-MAE's pre-training with encoder="card", batch_size=128, lr=1e-3 and
            ShapeNet-55; as it stands, the tiny encoder on one's own objects.
Command:    pc-train point_mae_pretrain data=objects:DIR
Hardware:   one CPU core, about 45 minutes at the tiny size.
Expected:   not measured by us on ShapeNet-55; published: 85.18 on ScanObjectNN PB_T50_RS after fine-tuning.
"""

from pc_perception.inference.object_contract import ObjectContract
from pc_perception.models.object_encoder import SIZES
from training.methods.point_mae import PointMae
from training.objects import ObjectAugmentation
from training.settings import RunSettings

run = RunSettings(
    method=PointMae(),
    contract=ObjectContract(n_points=1024),
    encoder={**SIZES["tiny"], "class_token": False},
    augmentation=ObjectAugmentation(),
    max_steps=10_000,
    batch_size=32,
    lr=1e-3,
    warm_up=10 / 300,
    weight_decay=0.05,
    betas=(0.9, 0.999),
    ema=0.0,
    work_dir="work_dirs/point_mae_pretrain",
)
