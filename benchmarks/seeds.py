# SPDX-License-Identifier: Apache-2.0
"""Mean and spread over seeds of short trainings: ``python -m benchmarks.seeds > docs/results/seeds.md``.

Trains ``street_sim`` and ``room_sim`` once for each seed, two runs side by side with one thread each, and
measures the models on simulated scenes that no training sees. The schedule is shorter than the shipped
models' (it is printed): the table shows how much a figure moves with the seed, not the best figure.
Finished runs are kept, an interrupted one goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.machine import describe_machine
from pc_perception.inference.model_file import read_model_file

CONFIGS = {"street": "street_sim", "room": "room_sim"}
MODEL = "model.safetensors"


def train(kind: str, seed: int, steps: int, folder: Path, n_scenes: int) -> Path:
    """Train one run, or go on with it, or leave it as it is when it has all its steps; return the model."""
    work_dir = folder / f"{kind}-{steps}-{seed}"
    model = work_dir / MODEL
    if model.exists() and read_model_file(model)[0].provenance.get("steps") == steps:
        return model
    settings = {
        "max_steps": steps,
        "max_minutes": 0,
        "seed": seed,
        "threads": 1,
        "workers": 0,
        "n_scenes": n_scenes,
        "work_dir": work_dir,
        "progress": "false",
        "resume": str((work_dir / "last.pth").exists()).lower(),
    }
    command = [
        sys.executable,
        "-m",
        "training.run",
        CONFIGS[kind],
        *(f"{k}={v}" for k, v in settings.items()),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    work_dir.mkdir(parents=True, exist_ok=True)
    with open(work_dir / "log.txt", "a") as log:
        subprocess.run(command, check=True, env=environment, stdout=log, stderr=log)
    return model


def evaluate(kind: str, models: list[Path], n_scenes: int) -> dict:
    """Return what ``pc-evaluate`` says of the models on held-out simulation."""
    command = [
        sys.executable,
        "-m",
        "training.evaluate",
        *map(str, models),
        "--data",
        f"sim:{kind}",
    ]
    command += ["--n-scenes", str(n_scenes), "--per-scene", "2", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Train, measure, print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000, help="batches of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scenes", type=int, default=360, help="simulated scenes to train on")
    parser.add_argument("--test-scenes", type=int, default=12)
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/seeds"))
    a = parser.parse_args()
    jobs = [(kind, seed) for seed in a.seeds for kind in CONFIGS]
    with ThreadPoolExecutor(2) as pool:
        trained = list(pool.map(lambda job: train(*job, a.steps, a.work_dir, a.scenes), jobs))
    print("# Seeds\n")
    print(f"Command: `python -m benchmarks.seeds {' '.join(sys.argv[1:])}`, on {describe_machine()}.\n")
    print(f"{a.steps} steps a run, {len(a.seeds)} seeds; measured on {2 * a.test_scenes} clouds of")
    print(f"{a.test_scenes} simulated scenes that no training sees. Mean ± sample standard deviation.\n")
    for kind in CONFIGS:
        models = [path for (which, _), path in zip(jobs, trained, strict=True) if which == kind]
        found = evaluate(kind, models, a.test_scenes)["summary"]
        rows = {"mIoU": found["miou"], "accuracy": found["accuracy"], **found["iou"]}
        print(f"## {kind}\n\n| figure | mean ± std |\n|---|---|")
        print("\n".join(f"| {name} | {mean:.3f} ± {std:.3f} |" for name, (mean, std) in rows.items()) + "\n")


if __name__ == "__main__":
    main()
