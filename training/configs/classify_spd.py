# SPDX-License-Identifier: Apache-2.0
"""A classifier of objects distilled from a teacher that sees the whole batch (PointCSP's SPD on the transformer).

Reproduces: the loss of arXiv 2605.01759; what a sequence of objects is to a transformer is ours
            (training/methods/object_host.py). The control is classify_tiny.
Command:    pc-train classify_spd data=objects:DIR label_set=NAME
Hardware:   one CPU core, about 20 minutes.
Expected:   not measured by us.
"""

from dataclasses import replace

from training.configs.classify_tiny import run as classify
from training.methods.classification import Classification
from training.methods.spd import Spd

run = replace(classify, method=Spd(host=Classification(), geo=0.0), work_dir="work_dirs/classify_spd")
