# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning with few labels after `pointcsp_pretrain`: PointCSP's stability-preserving distillation.

Reproduces: PointCSP's fine-tuning (training/methods/spd.py) on another host; no published figure.
Command:    pc-train street_spd data=folder:labelled init=work_dirs/pointcsp_pretrain/model.safetensors
Hardware:   any; one CPU core manages about one batch in a second.
Expected:   docs/results/pointcsp.md says what distillation was seen to give in rooms.
"""

from dataclasses import replace

from training.configs.street_sim import run as street
from training.methods.spd import Spd

run = replace(
    street, method=Spd(), batch_size=4, max_minutes=30, lr=1e-3, licence="", work_dir="work_dirs/street_spd"
)
