# SPDX-License-Identifier: Apache-2.0
"""The shipped `objects` model: sixteen classes of single objects, gone on with on simulation and a real drive.

Reproduces: nothing published; weights/objects.safetensors.
Command:    pc-train objects_sim threads=1, then
            pc-train objects data=sim:objects,instances:nuscenes:DIR_OF_PANDASET_KEYFRAMES
            init=work_dirs/objects_sim/model.safetensors threads=1
Hardware:   one shared CPU core, eleven minutes in all.
Expected:   docs/objects.md; the keyframes that it is trained on are not measured again.
"""

from dataclasses import replace

from training.configs.objects_sim import run as objects_sim

run = replace(
    objects_sim,
    data="sim:objects,instances:nuscenes",
    data_shares=(0.8, 0.2),
    label_source="pandaset43",
    max_minutes=3.5,
    lr=5e-4,
    work_dir="work_dirs/objects",
    licence="trained on simulated data and on PandaSet sequence 002 (CC BY 4.0, Scale AI and Hesai)",
)
