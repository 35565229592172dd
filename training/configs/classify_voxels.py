# SPDX-License-Identifier: Apache-2.0
"""A classifier of objects on PointCSP's encoder.

Reproduces: PointCSP's classification, with a host of ours [PROPOSED] (ScanObjectNN 92.8, ModelNet40 93.9 published).
Command:    pc-train classify_voxels data=scanobjectnn:DIR label_set=scanobjectnn15
Hardware:   a GPU; not run by us at this size.
Expected:   not measured by us.
"""

from dataclasses import replace

from pc_perception.models.scene_encoder import SIZES
from training.configs.classify_tiny import run as tiny
from training.methods.classification import Classification

run = replace(
    tiny, method=Classification(host="voxels"), encoder=SIZES["objects"], work_dir="work_dirs/classify_voxels"
)
