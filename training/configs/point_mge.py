# SPDX-License-Identifier: Apache-2.0
"""Point-MGE, stage 2, which leaves the `shapes` model: hidden tokens are named from the rest, ever more of them.

Reproduces: stage 2 of arXiv 2406.17342 with encoder="card" (and a class token), method.width=384 method.depth=4
            batch_size=128, lr=1e-3, 300 epochs of ShapeNet; as it stands, a small one on procedural shapes.
            method.class_drop=1 trains without labels, method.ratio.kind=constant with a ratio that does not slide.
Command:    pc-train point_mge threads=1 (after point_mge_tokenizer); its encoder starts a classifier:
            pc-train classify_tiny init=work_dirs/point_mge/model.safetensors with the same encoder
Hardware:   one core of a busy machine, 12 minutes (4,111 steps).
Expected:   docs/results/point_mge.md, measured by us.
"""

from pc_perception.inference.shape_contract import ShapeContract
from training.methods.point_mge import PointMge
from training.settings import RunSettings

run = RunSettings(
    method=PointMge(tokenizer="work_dirs/point_mge_tokenizer/model.safetensors", width=128, depth=3, heads=4),
    contract=ShapeContract(n_points=2048),
    encoder={
        "n_patches": 64,
        "patch_size": 32,
        "width": 128,
        "depth": 3,
        "heads": 4,
        "embed": [32, 64, 96],
        "drop_path": 0.0,
    },
    data="shapes:all",
    n_scenes=1120,
    max_steps=0,
    max_minutes=12,
    batch_size=16,
    lr=2e-3,
    warm_up=0.05,
    weight_decay=0.05,
    betas=(0.9, 0.98),
    ema=0.998,
    work_dir="work_dirs/point_mge",
    licence="trained on simulated data only",
)
