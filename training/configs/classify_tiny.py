# SPDX-License-Identifier: Apache-2.0
"""A classifier of objects with the tiny encoder, from random weights or from pre-trained ones.

Reproduces: nothing published; the protocol is full fine-tuning with rotation about the
            vertical, on objects as sparse as sensors see them. method.mode=linear or mlp3 trains the head alone.
Command:    pc-train classify_tiny data=objects:DIR label_set=NAME
            init=work_dirs/point_mae_pretrain/model.safetensors
Hardware:   one CPU core, about 10 minutes.
Expected:   not measured by us on a published set.
"""

from pc_perception.inference.object_contract import ObjectContract
from pc_perception.models.object_encoder import SIZES
from training.methods.classification import Classification
from training.objects import ObjectAugmentation
from training.settings import RunSettings

run = RunSettings(
    method=Classification(),
    contract=ObjectContract(n_points=1024),
    encoder=SIZES["tiny"],
    augmentation=ObjectAugmentation(turn=True, scale=(0.8, 1.25), shift=0.0, keep=0.5, jitter=0.005),
    max_steps=2000,
    batch_size=32,
    lr=1e-3,
    weight_decay=0.05,
    betas=(0.9, 0.999),
    clip=10.0,
    work_dir="work_dirs/classify_tiny",
)
