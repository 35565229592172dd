# SPDX-License-Identifier: Apache-2.0
"""The shipped `street` model: the simulation-only model, gone on with on simulation and a real drive.

Reproduces: nothing published; weights/street.safetensors.
Command:    pc-train street threads=1 init=work_dirs/street_sim/model.safetensors
            data_root=DIR_OF_PANDASET_KEYFRAMES, then three times more from what that left (init=... n_scenes=1000
            max_minutes=60, and the same with seed=1; at last data=sim:street,sim:drive,nuscenes
            data_shares=(0.5,0.3,0.2) warm_up=0.03 ema=0.999 max_minutes=62 seed=7)
Hardware:   one CPU core, 32, 60, 57 and 62 minutes after two runs of street_sim, shared with other work.
Expected:   docs/results/real_clouds.md; the keyframes that it is trained on are not measured again.
"""

from training.configs.street_sim import run as street_sim
from training.methods.segmentation import Segmentation
from training.settings import RunSettings

run = RunSettings(
    method=Segmentation(),
    contract=street_sim.contract,
    encoder=street_sim.encoder,
    label_set="street8",
    data="sim:street,nuscenes",
    data_shares=(0.8, 0.2),  # mixed: on the real frames alone, simulated accuracy fell
    n_scenes=street_sim.n_scenes,
    augmentation=street_sim.augmentation,
    max_steps=0,
    max_minutes=32,
    batch_size=2,
    lr=1.5e-3,
    work_dir="work_dirs/street",
    licence="trained on simulated data and on PandaSet sequence 002 (CC BY 4.0, Scale AI and Hesai)",
)
