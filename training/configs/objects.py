# SPDX-License-Identifier: Apache-2.0
"""The shipped `objects` model: sixteen classes of single objects, from simulation alone.

Two fifths of the samples are cut out of simulated sweeps of 16 to 128 beams, at the ranges and behind the things that
streets put in between; a fifth out of scans and depth pictures of rooms; the rest are shapes by themselves.

Reproduces: nothing published; weights/objects.safetensors.
Command:    pc-train objects threads=1 (from random weights)
Hardware:   one CPU core, about eighteen minutes of it (the shipped file's took 40 by the clock), and five for the
            simulation before.
Expected:   docs/objects.md, measured by us, one seed.
"""

from dataclasses import replace

from training.configs.classify_tiny import run as classify
from training.methods.classification import Classification
from training.objects import ObjectAugmentation

run = replace(
    classify,
    method=Classification(label_smoothing=0.1, weight_cap=3.0),
    label_set="objects16",
    data="sim:objects:1500,instances:sim:street:100,instances:sim:room:80",
    data_shares=(0.4, 0.4, 0.2),
    per_scene=4,
    survey=4000,
    # Clusters of a live LiDAR may have few points and end anywhere: a quarter to all of those that an object has.
    augmentation=ObjectAugmentation(
        turn=True, scale=(0.8, 1.25), shift=0.0, keep=0.25, part=0.4, jitter=0.005
    ),
    max_steps=6250,
    work_dir="work_dirs/objects",
    licence="trained on simulated data only",
)
