# SPDX-License-Identifier: Apache-2.0
"""The `objects` model's part from simulation alone: sixteen classes of single objects, half seen from one side.

Reproduces: nothing published; what `objects` goes on from.
Command:    pc-train objects_sim threads=1 (from random weights)
Hardware:   one shared CPU core, seven and a half minutes, and the simulation of the shapes before.
Expected:   docs/objects.md, measured by us, one seed.
"""

from dataclasses import replace

from training.configs.classify_tiny import run as classify
from training.methods.classification import Classification
from training.objects import ObjectAugmentation

run = replace(
    classify,
    method=Classification(label_smoothing=0.1),
    label_set="objects16",
    data="sim:objects",
    n_scenes=500,
    # Clusters of a live LiDAR may have few points: a quarter to all of those that an object has.
    augmentation=ObjectAugmentation(turn=True, scale=(0.8, 1.25), shift=0.0, keep=0.25, jitter=0.005),
    max_steps=0,
    max_minutes=7.5,
    work_dir="work_dirs/objects_sim",
    licence="trained on simulated data only",
)
