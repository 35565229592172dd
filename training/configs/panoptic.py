# SPDX-License-Identifier: Apache-2.0
"""Panoptic segmentation of nuScenes' 16 classes with the small sparse U-Net, from random weights or `cmcr_pretrain`.

Reproduces: no published figure; loss and clustering are in training/methods/panoptic.py and inference/panoptic.py.
Command:    pc-train panoptic data=nuscenes:DIR [split=train] [init=work_dirs/cmcr_pretrain/model.safetensors]
            python -m training.evaluate.panoptic work_dirs/panoptic/model.safetensors --data nuscenes:DIR --split val
Hardware:   any; one CPU core takes about a second for a step.
Expected:   docs/results/cmcr.md, eight minutes on simulated drives measured by us, one seed.
"""

from dataclasses import replace

from pc_perception.models.panoptic_segmenter import PanopticSegmenter
from training.augment import Augmentation
from training.configs.cmcr_finetune import run as finetune
from training.methods.panoptic import Panoptic

run = replace(
    finetune,
    method=Panoptic(),
    network=PanopticSegmenter,
    label_set="nuscenes16",
    augmentation=Augmentation(
        max_points=0, thin=0.0
    ),  # a crop would cut objects, and with them their centres
    work_dir="work_dirs/panoptic",
)
