# SPDX-License-Identifier: Apache-2.0
"""CMCR at a size for CPUs: a small sparse U-Net learns from pictures of the same drive, without labels.

Reproduces: the method of arXiv 2412.08973 (training/methods/cmcr.py), not its figures: small networks, pictures at a
            quarter of the resolution, voxels of 0.2 m, half the pairs and rays, 128 codes. The paper's size: the
            encoder RES16UNET34C on intensity_255 at 0.1 m, and Cmcr() as it is, 10 epochs of 600 scenes.
Command:    pc-train cmcr_image_trunk data=nuscenes:DIR, then
            pc-train cmcr_pretrain data=nuscenes:DIR method.image_weights=work_dirs/cmcr_image_trunk/model.safetensors
            then pc-train cmcr_finetune data=nuscenes:DIR init=work_dirs/cmcr_pretrain/model.safetensors
Hardware:   any; one CPU core takes about a second for a step (one sweep, six pictures of 224x416).
Expected:   docs/results/cmcr.md, short runs measured by us, three seeds.
"""

from pc_perception.inference.contract import InputContract
from pc_perception.models.sparse_unet import SMALL, SparseUNetSegmenter
from training.augment import Augmentation
from training.methods.cmcr import Cmcr
from training.settings import RunSettings

run = RunSettings(
    method=Cmcr(image_trunk="small", pixel_stride=4, pairs=1024, queries=1024, n_codes=128),
    contract=InputContract(grid_m=0.2, features=("offset", "height", "intensity"), max_range_m=80),
    network=SparseUNetSegmenter,
    encoder=SMALL,
    augmentation=Augmentation(max_points=0),  # of the cloud only its crop is used: see Cmcr.sample
    data="nuscenes",
    max_steps=2000,
    batch_size=1,
    lr=1e-3,
    weight_decay=0.01,
    ema=0.0,
    work_dir="work_dirs/cmcr_pretrain",
)
