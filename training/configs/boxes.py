# SPDX-License-Identifier: Apache-2.0
"""3D boxes of nuScenes' ten classes with the small sparse U-Net, from random weights or `cmcr_pretrain`.

Reproduces: no published figure; a small CenterPoint head on one sweep (training/methods/boxes.py).
Command:    pc-train boxes data=nuscenes:DIR [split=train] [init=work_dirs/cmcr_pretrain/model.safetensors]
            python -m training.evaluate.boxes work_dirs/boxes/model.safetensors --data nuscenes:DIR --split val
Hardware:   any; one CPU core takes about two seconds for a step.
Expected:   docs/results/cmcr.md, eight minutes on simulated drives measured by us, one seed.
"""

from dataclasses import replace

from pc_perception.models.bev_head import BoxDetector
from training.augment import Augmentation
from training.configs.cmcr_finetune import run as finetune
from training.methods.boxes import Boxes

run = replace(
    finetune,
    method=Boxes(),
    network=BoxDetector,
    label_set="nuscenes10",
    augmentation=Augmentation(max_points=0),
    work_dir="work_dirs/boxes",
)
