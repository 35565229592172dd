# SPDX-License-Identifier: Apache-2.0
"""Classes of the points of S3DIS's blocks with the tiny encoder (columns of a square metre, 2,048 points).

Reproduces: the block protocol of Point-MAE's family with encoder="card",
            encoder.n_patches=128, batch_size=32; as it stands, the tiny encoder and equal class weights. The
            published ones: method.class_weights from S3DISBlocks.class_weights().
Command:    pc-train blocks_tiny data=s3dis-blocks:DIR areas=1,2,3,4,6, then
            pc-evaluate work_dirs/blocks_tiny/model.safetensors --data s3dis-blocks:DIR --areas 5
Hardware:   one CPU core, about half an hour.
Expected:   not measured by us; published with encoder="card": mIoU 60.8 (Point-MAE), on sampled points.
"""

from dataclasses import replace

from training.configs.parts_tiny import run as parts
from training.methods.parts import PartSegmentation
from training.objects import ObjectAugmentation

run = replace(
    parts,
    method=PartSegmentation(n_categories=0, unit_sphere=False),
    label_set="s3dis13",
    augmentation=ObjectAugmentation(scale=(1.0, 1.0), shift=0.0),
    work_dir="work_dirs/blocks_tiny",
)
