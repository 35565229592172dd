# SPDX-License-Identifier: Apache-2.0
"""The `street` model's part from simulation alone: eight coarse outdoor classes.

Reproduces: nothing published; what `street` goes on from.
Command:    pc-train street_sim prepare_only=true workers=2, then pc-train street_sim threads=1
            (from random weights)
Hardware:   one CPU core, 95 minutes, and again 100 from what that left (init=... lr=2e-3 max_minutes=100); the
            shipped file's were shared with other work. About 2 GB of simulated sweeps on disk.
Expected:   docs/results/real_clouds.md, measured by us, one seed; over three seeds of a short schedule
            docs/results/seeds.md.
"""

from pc_perception.inference.contract import InputContract
from training.augment import Augmentation
from training.methods.segmentation import Segmentation
from training.settings import RunSettings

run = RunSettings(
    method=Segmentation(),
    contract=InputContract(
        grid_m=0.2,
        features=("offset", "height", "column", "relief", "shape", "range", "intensity"),
        max_range_m=80,
    ),
    encoder={"widths": [32, 64, 96, 128, 160], "local": [1, 2, 2, 2, 2], "mixers": [0, 0, 0, 0, 2]},
    label_set="street8",
    data="sim:street",
    n_scenes=500,
    augmentation=Augmentation(max_points=12_000, whole=0.15),  # more scenes a minute beat larger crops
    max_steps=0,
    max_minutes=95,
    batch_size=2,
    lr=3e-3,
    work_dir="work_dirs/street_sim",
    licence="trained on simulated data only",
)
