# SPDX-License-Identifier: Apache-2.0
"""Point-PQAE on objects without labels.

Reproduces: arXiv 2509.01250 with encoder="card", batch_size=128 and ShapeNet-55 (train and
            test lists, as published); as it stands, the tiny encoder on one's own objects.
Command:    pc-train point_pqae_pretrain data=objects:DIR
Hardware:   one CPU core, about 75 minutes at the tiny size.
Expected:   not measured by us on ShapeNet-55; published: 89.6 on ScanObjectNN PB_T50_RS.
"""

from dataclasses import replace

from pc_perception.models.object_encoder import SIZES
from training.configs.point_mae_pretrain import run as point_mae
from training.methods.point_pqae import PointPqae
from training.objects import ObjectAugmentation

run = replace(
    point_mae,
    method=PointPqae(),
    encoder=SIZES["tiny"],
    augmentation=ObjectAugmentation(turn=True, scale=(1.0, 1.0), shift=0.0),
    lr=5e-4,
    work_dir="work_dirs/point_pqae_pretrain",
)
