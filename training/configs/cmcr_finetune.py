# SPDX-License-Identifier: Apache-2.0
"""Segmentation with the small sparse U-Net, from random weights or from what `cmcr_pretrain` leaves.

Reproduces: no published figure; loss as in SLidR's and CMCR's fine-tuning (cross-entropy and Lovász-softmax).
Command:    pc-train cmcr_finetune data=nuscenes:DIR init=work_dirs/cmcr_pretrain/model.safetensors
Hardware:   any; one CPU core takes about a second for a step.
Expected:   docs/results/cmcr.md, short runs measured by us, three seeds.
"""

from pc_perception.models.sparse_unet import SparseUNetSegmenter
from training.augment import Augmentation
from training.configs.cmcr_pretrain import run as pretrain
from training.methods.segmentation import Segmentation
from training.settings import RunSettings

run = RunSettings(
    method=Segmentation(),
    contract=pretrain.contract,
    network=SparseUNetSegmenter,
    encoder=pretrain.encoder,
    label_set="street8",
    data="nuscenes",
    augmentation=Augmentation(max_points=20_000),
    max_steps=2000,
    batch_size=2,
    lr=2e-3,
    work_dir="work_dirs/cmcr_finetune",
)
