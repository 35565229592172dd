# SPDX-License-Identifier: Apache-2.0
"""``make loop``: the whole promise on the simulator, with the commands that a user would type.

record a bag -> pre-train without labels -> fine-tune with few labels -> model file -> labels on a new bag.
Fine-tuning is run twice, from random weights and from the pre-trained ones, and both are measured on the
new bag. One seed each: the difference is an example, not a result.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

SEEDS = {"unlabelled": 30_000, "labelled": 30_001, "unseen": 30_002}
SPEED = 12.0
"""Metres per second of the recorded drives."""
CROP = "augmentation.max_points=8000"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the loop and print what came out."""
    parser = argparse.ArgumentParser(
        prog="python -m training.loop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("out/loop"), help="folder (default: out/loop)")
    parser.add_argument("--pretrain-steps", type=int, default=120, help="without labels (default: 120)")
    parser.add_argument("--tune-steps", type=int, default=100, help="with labels (default: 100)")
    parser.add_argument("--sweeps", type=int, default=48, help="of the unlabelled recording (default: 48)")
    parser.add_argument("--labelled", type=int, default=4, help="labelled sweeps (default: 4)")
    args = parser.parse_args(argv)
    start = time.monotonic()
    bags = record(args.out, args.sweeps, args.labelled)
    models = learn(args.out, bags, args.pretrain_steps, args.tune_steps)
    measured = {name: label(args.out, bags["unseen"], model) for name, model in models.items()}
    print(
        f"\nmIoU on {bags['unseen'].name}, a street that no training saw, {args.labelled} labelled sweeps, one seed:"
    )
    for name, miou in measured.items():
        print(f"  fine-tuned from {name:<22} {miou:.3f}")
    print(f"the whole loop took {(time.monotonic() - start) / 60:.1f} minutes; everything is in {args.out}")
    return 0


def record(out: Path, n_unlabelled: int, n_labelled: int) -> dict[str, Path]:
    """Simulate three drives: a long one without labels, a few labelled sweeps, one to be judged on."""
    from pc_perception.simulation.drive import simulate_drive
    from pc_perception.simulation.writers.bag import write_drive_bag

    paths = {name: out / f"{name}.mcap" for name in SEEDS}
    # (sweeps kept, every how many, with labels): the judged labels are read by the evaluation alone.
    plans = {
        "unlabelled": (n_unlabelled, 2, False),
        "labelled": (n_labelled, 15, True),
        "unseen": (8, 6, True),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, (n, every, labels) in plans.items():
        paths[name].unlink(missing_ok=True)
        frames = simulate_drive(SEEDS[name], (n - 1) * every + 1, speed=SPEED)
        n_written = write_drive_bag(paths[name], islice(frames, 0, None, every), with_labels=labels)
        print(f"recorded {n_written} sweeps {'with' if labels else 'without'} labels: {paths[name]}")
    return paths


def learn(out: Path, bags: dict[str, Path], pretrain_steps: int, tune_steps: int) -> dict[str, Path]:
    """Pre-train, then fine-tune from random and from pre-trained weights; return both model files."""
    from training.run import main as pc_train

    cache = f"cache_dir={out / 'cache'}"
    encoder, models = out / "pretrained" / "model.safetensors", {}
    _type(
        pc_train, "pc-train", "pointcsp_pretrain", f"data=bag:{bags['unlabelled']}", CROP, cache,
        f"max_steps={pretrain_steps}", f"work_dir={encoder.parent}",
    )  # fmt: skip
    for name, init in (("random weights", ""), ("the pre-trained encoder", f"init={encoder}")):
        work_dir = out / ("tuned_from_encoder" if init else "tuned_from_random")
        _type(
            pc_train, "pc-train", "street_sim", f"data=bag:{bags['labelled']}", "label_source=simulation", CROP, cache,
            f"max_steps={tune_steps}", "ema=0.95", f"work_dir={work_dir}", *([init] if init else []),
        )  # fmt: skip
        models[name] = work_dir / "model.safetensors"
    return models


def label(out: Path, bag: Path, model: Path) -> float:
    """Label the unseen bag as a user would and return the mIoU of the same model on it."""
    from pc_perception.cli import main as pc_perception
    from pc_perception.inference.loading import load_segmenter
    from training.data.bag import BagClouds
    from training.evaluate.segmentation import evaluate

    labelled = out / f"{model.parent.name}.mcap"
    labelled.unlink(missing_ok=True)
    _type(pc_perception, "pc-perception", "segment", str(bag), "--model", str(model), "--out", str(labelled))
    segmenter = load_segmenter(model)
    data = BagClouds(bag, segmenter.label_set.name, "simulation", cache_dir=str(out / "cache"))
    return evaluate(segmenter, data).mean_iou()


def _type(command: Callable[[Sequence[str]], int], *words: str) -> None:
    print("\n$ " + " ".join(words), flush=True)
    if command(words[1:]):
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
