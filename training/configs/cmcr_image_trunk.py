# SPDX-License-Identifier: Apache-2.0
"""The small image trunk that CMCR's small configuration looks at pictures with, without labels.

Reproduces: nothing published; it stands in for MoCo-v2's ResNet-50 where a CPU is to do.
Command:    pc-train cmcr_image_trunk data=nuscenes:DIR, e.g. of `pc-perception simulate street DIR --format nuscenes`
Hardware:   any; one CPU core takes about a second for a step.
Expected:   docs/results/cmcr.md, short runs measured by us, three seeds.
"""

from training.configs.cmcr_pretrain import run as pretrain
from training.methods.image_trunk import ImageTrunk
from training.settings import RunSettings

run = RunSettings(
    method=ImageTrunk(),
    contract=pretrain.contract,
    data="nuscenes",
    max_steps=1500,
    batch_size=1,
    lr=1e-3,
    work_dir="work_dirs/cmcr_image_trunk",
)
