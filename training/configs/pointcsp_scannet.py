# SPDX-License-Identifier: Apache-2.0
"""PointCSP's pre-training at the published scale: rooms of ScanNet v2, size S.

Reproduces: PointCSP's pre-training (training/methods/pointcsp.py): 2 global and 8 local views of 1,024 points, all
            1,513 scenes of both labelled splits, labels unused (a ScanNet validation score would be transductive).
            Sizes of heads and momenta are ours [PROPOSED].
Command:    pc-train pointcsp_scannet data=scannet:DIR amp=true
            then pc-train s3dis_spd data=s3dis:DIR init=work_dirs/pointcsp_scannet/model.safetensors
Hardware:   a GPU; not run by us.
Expected:   not measured by us.
"""

from dataclasses import replace

from pc_perception.models.scene_encoder import SIZES
from training.augment import Augmentation
from training.configs.room_sim import run as room
from training.methods.pointcsp import PointCsp

run = replace(
    room,
    method=PointCsp(),
    contract=replace(room.contract, grid_m=0.04),
    label_set="",
    encoder=SIZES["S"],
    data="",
    augmentation=Augmentation.for_rooms(thin=0.0),
    max_steps=9_500,  # 100 epochs of batches of 16
    max_minutes=0,
    batch_size=16,
    lr=2.5e-4,  # 1e-3 at a batch of 64
    warm_up=0.1,
    weight_decay=0.04,
    clip=3.0,
    ema=0.0,
    work_dir="work_dirs/pointcsp_scannet",
    licence="",
)
