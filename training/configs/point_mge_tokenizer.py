# SPDX-License-Identifier: Apache-2.0
"""Point-MGE, stage 1, as the `shapes` model has it: 64 codes and their places tell the occupancy of a whole shape.

Reproduces: 3DILG's first stage with encoder.width=256 encoder.encoder_depth=6
            encoder.decoder_depth=6 encoder.hidden=512 method.n_queries=1024 method.near=0.1 batch_size=128
            max_steps=300000 on ShapeNet's fields; as it stands, a small one on procedural shapes.
Command:    pc-train point_mge_tokenizer workers=6; on a CPU batch_size=16 n_scenes=420 max_steps=2000 workers=0
Hardware:   one H200, 2.6 minutes (the shipped file's, whose schedule went by time: max_minutes=2.6 max_steps=0), and
            before it half a minute of 14 cores for the shapes; the line for a CPU 26 minutes of one busy core.
Expected:   docs/results/point_mge.md, measured by us; by the line for a CPU an IoU of 0.81.
"""

from pc_perception.inference.shape_contract import ShapeContract
from training.methods.point_mge_tokenizer import PointMgeTokenizer
from training.settings import RunSettings

run = RunSettings(
    method=PointMgeTokenizer(n_queries=256, near=0.5, worn=0.25),
    contract=ShapeContract(n_points=2048),
    encoder={
        "n_patches": 64,
        "patch_size": 32,
        "width": 128,
        "heads": 4,
        "encoder_depth": 0,
        "decoder_depth": 3,
        "embed": [32, 64, 96],
        "n_codes": 512,
        "code_width": 32,
        "decay": 0.95,
        "hidden": 128,
        "field_depth": 2,
    },
    data="shapes:all",
    n_scenes=1120,
    max_steps=4331,
    batch_size=48,
    lr=2e-3,
    warm_up=0.02,
    betas=(0.9, 0.98),
    ema=0.99,
    work_dir="work_dirs/point_mge_tokenizer",
    licence="trained on simulated data only",
)
