# SPDX-License-Identifier: Apache-2.0
"""Parts of ShapeNetPart's objects with the tiny encoder, from random weights or from pre-trained ones.

Reproduces: the protocol of Point-MAE's family with encoder="card", encoder.n_patches=128,
            for 300 epochs of the train and val lists; as it stands, the tiny encoder.
Command:    pc-train parts_tiny data=shapenetpart:DIR init=work_dirs/point_mae_pretrain/model.safetensors, then
            pc-evaluate work_dirs/parts_tiny/model.safetensors --data shapenetpart:DIR --split test
            without ShapeNetPart, on the simulator's shapes: pc-train parts_tiny data=sim:parts n_scenes=390
            label_set=simulation_parts method.n_categories=13, then pc-evaluate MODEL --data sim:parts
            with SPD around it: method=Spd(host=PartSegmentation(), geo=0.0) in a config of your own
Hardware:   one CPU core, about 5 s a step (six hours); with contract.n_points=512 batch_size=8 half a second.
Expected:   simulated parts in docs/results/objects.md; ShapeNetPart not measured by us, published with encoder="card":
            instance mIoU 86.1 (Point-MAE).
"""

from pc_perception.inference.object_contract import ObjectContract
from pc_perception.models.object_encoder import SIZES
from training.methods.parts import PartSegmentation
from training.objects import ObjectAugmentation
from training.settings import RunSettings

run = RunSettings(
    method=PartSegmentation(),
    contract=ObjectContract(n_points=2048),
    label_set="shapenetpart50",
    encoder=SIZES["tiny"],
    augmentation=ObjectAugmentation(),
    max_steps=4000,
    batch_size=16,
    lr=2e-4,
    weight_decay=0.05,
    betas=(0.9, 0.999),
    clip=10.0,
    work_dir="work_dirs/parts_tiny",
)
