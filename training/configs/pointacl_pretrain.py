# SPDX-License-Identifier: Apache-2.0
"""PointACL around Point-MAE: half of the run Point-MAE alone, then with the contrastive loss.

Reproduces: the schedule and the mask of arXiv 2411.14744 (training/methods/point_acl.py says what is not known),
            with encoder="card", batch_size=128, lr=1e-3 and ShapeNet-55; as it stands, the tiny encoder.
Command:    pc-train pointacl_pretrain data=objects:DIR
            its control, Point-MAE as long: the same with method.weight=0
            masks: method.masking=random or top
Hardware:   one CPU core, about an hour at the tiny size.
Expected:   not measured by us on ShapeNet-55; published: 89.9 on ScanObjectNN PB_T50_RS.
"""

from dataclasses import replace

from pc_perception.models.object_encoder import SIZES
from training.configs.point_mae_pretrain import run as point_mae
from training.methods.point_acl import PointAcl

run = replace(
    point_mae,
    method=PointAcl(host=point_mae.method),
    encoder=SIZES["tiny"],  # with a class token: scores are its attention
    max_steps=2 * point_mae.max_steps,
    cycles=2,  # a fresh cosine for the second phase
    work_dir="work_dirs/pointacl_pretrain",
)
