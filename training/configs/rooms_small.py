# SPDX-License-Identifier: Apache-2.0
"""A small room segmenter for comparisons of methods: minutes a run, three levels, voxels of 8 cm.

Reproduces: nothing published; the host of docs/results/pointcsp.md.
Command:    pc-train rooms_small; `python -m benchmarks.pointcsp` runs it with many methods and seeds
Hardware:   one CPU core, about a minute; 120 simulated rooms on disk.
Expected:   docs/results/pointcsp.md, measured by us, three seeds.
"""

from pc_perception.inference.contract import InputContract
from training.augment import Augmentation
from training.methods.segmentation import Segmentation
from training.settings import RunSettings

run = RunSettings(
    method=Segmentation(),
    contract=InputContract(
        grid_m=0.08,
        features=("offset", "height", "column", "shape", "color"),
        ground_cell_m=0.5,
        ground_slope=0.05,
        level_camera=True,
    ),
    encoder={"widths": [32, 64, 96], "local": [1, 1, 1], "mixers": [0, 1, 2]},
    label_set="room9",
    data="sim:room",
    n_scenes=120,
    augmentation=Augmentation.for_rooms(max_points=12_000, whole=0.3),
    max_steps=120,
    batch_size=4,
    lr=3e-3,
    ema=0.98,
    survey=16,
    work_dir="work_dirs/rooms_small",
    licence="trained on simulated data only",
)
