# SPDX-License-Identifier: Apache-2.0
"""PointACL around the causal encoder in PointGPT's manner, its second host.

Reproduces: as pointacl_pretrain; the host's constants are PointGPT-S's (lr=1e-4, batch_size=64 with encoder="card").
Command:    pc-train pointacl_causal_pretrain data=objects:DIR; method.weight=0 is the control
Hardware:   one CPU core, about an hour at the tiny size.
Expected:   not measured by us.
"""

from dataclasses import replace

from training.configs.pointacl_pretrain import run as pointacl
from training.methods.point_acl import PointAcl
from training.methods.point_gpt import PointGpt

run = replace(
    pointacl,
    method=PointAcl(host=PointGpt(), weight=0.1),
    encoder={**pointacl.encoder, "causal": True, "order": "walk", "position": "sine"},
    lr=5e-4,
    work_dir="work_dirs/pointacl_causal_pretrain",
)
