# SPDX-License-Identifier: Apache-2.0
"""Few-shot accuracy: mean and standard deviation over folds.

    python -m training.evaluate.few_shot --data objects:DIR --way 5 --shot 10 --model encoder.safetensors
    python -m training.evaluate.few_shot --data FOLDS --mode full --model encoder.safetensors max_steps=300

FOLDS holds Point-BERT's ``5way_10shot/0.pkl`` ...; of other data, folds are drawn as those were.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pc_perception.inference.loading import load_classifier, load_object_encoder
from pc_perception.refusals import run_command
from training.data.few_shot_folds import N_FOLDS, Fold
from training.data.object_sets import in_label_set
from training.data.object_specs import open_fold
from training.data.specs import DataOptions
from training.export import NAME, without_places
from training.methods.classification import MODES
from training.metrics import mean_std
from training.object_views import MODELNET40
from training.settings import RunSettings, read_config

from .classification import evaluate
from .features import Describe, View, describe_all, shape_statistics
from .options import words
from .probes import SVM_C, Probe, run_probe
from .results import LAST, SeedRun, about, write_result

PROBES = {"svm": SVM_C, "knn": 1}
"""Probes of frozen features and their strength: a fold has no validation objects to choose it on."""


@dataclass(frozen=True)
class FewShotResult:
    """Accuracy on each fold; the published tables say mean ± std over ten.

    Attributes:
        way, shot: classes, and objects of each to learn from.
        accuracy: one of each fold, of the last state of what was fitted, never of the best on the test.
    """

    way: int
    shot: int
    accuracy: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over folds."""
        return mean_std(self.accuracy)[0]

    @property
    def std(self) -> float:
        """Sample standard deviation over folds."""
        return mean_std(self.accuracy)[1]

    def __str__(self) -> str:
        return (
            f"{self.way} way {self.shot} shot: {100 * self.mean:.1f} ± {100 * self.std:.1f} % "
            f"({len(self.accuracy)} folds)"
        )


def run_folds(folds: Sequence[Fold], learn: Callable[[Fold, int], float]) -> FewShotResult:
    """Run ``learn(fold, number)`` on every fold; it returns the accuracy on the fold's test objects.

    Published numbers take the best epoch on the test objects; a number for comparison should not.

    Raises:
        ValueError: there are no folds, or they differ in way or shot.
    """
    sizes = {(len(f.train.classes), len(f.train) // len(f.train.classes)) for f in folds}
    if len(sizes) != 1:
        raise ValueError(f"folds must be of one way and shot, there are {sorted(sizes) or 'none'}")
    way, shot = sizes.pop()
    return FewShotResult(way, shot, tuple(learn(fold, k) for k, fold in enumerate(folds)))


def probe_folds(
    describe: Describe, folds: Sequence[Fold], probe: Probe | None = None, view: View = MODELNET40
) -> FewShotResult:
    """Few-shot accuracy of a probe on frozen features."""
    chosen = probe or Probe()

    def learn(fold: Fold, number: int) -> float:
        train, test = (describe_all(describe, side, view) for side in (fold.train, fold.test))
        return run_probe(chosen, train, test).accuracy

    return run_folds(folds, learn)


def fine_tune_folds(folds: Sequence[Fold], specs: Sequence[str], run: RunSettings) -> FewShotResult:
    """Few-shot accuracy of a run on each fold; what is trained to its last step below ``run.work_dir`` is kept.

    Other settings, folds or weights to start from have folders of their own.

    Args:
        folds: what is measured on.
        specs: the same folds as ``RunSettings.data`` names them.
        run: of everything but data and folders.
    """
    from pc_perception.inference.model_file import read_model_file
    from training.run import train

    def learn(fold: Fold, number: int) -> float:
        """Train on fold ``number`` unless that is done; return the accuracy on its test objects, 0 .. 1."""
        own = replace(run, data=specs[number], split="train")
        start = Path(run.init).read_bytes() if Path(run.init).is_file() else b""
        key = hashlib.sha256(repr(own).encode() + start).hexdigest()[:12]
        work_dir = Path(run.work_dir) / f"fold-{number}-{key}"
        own = replace(own, work_dir=str(work_dir))
        file = work_dir / NAME
        if not file.is_file() or read_model_file(file)[0].provenance["steps"] < run.max_steps:
            file = train(replace(own, resume=(work_dir / "last.pth").exists()).validate())
        model = load_classifier(file, "auto")
        return evaluate(model, in_label_set(fold.test, model.label_set)).accuracy

    return run_folds(folds, learn)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; problems are told in one line."""
    args = _parser().parse_args(argv)
    return run_command("training.evaluate.few_shot", lambda: _evaluate(args), lines=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate.few_shot", description="Accuracy over few-shot folds of objects."
    )
    parser.add_argument("--data", required=True, help="folder of published folds, or KIND:WHERE of objects")
    parser.add_argument("--way", type=int, default=5, help="classes of a fold")
    parser.add_argument("--shot", type=int, default=10, help="objects of each to learn from")
    parser.add_argument("--folds", type=int, default=N_FOLDS)
    parser.add_argument(
        "--model", default="", help="encoder to start from; without one, plain shape statistics (svm)"
    )
    parser.add_argument("--mode", choices=(*PROBES, *MODES), default="svm")
    parser.add_argument("--config", default="classify_tiny", help="of linear, mlp3 and full")
    parser.add_argument("--work-dir", default="work_dirs/few_shot", help="of their runs")
    parser.add_argument("--y-up", default="", help="object files in which y is up, such as modelnet40_*")
    parser.add_argument("--seed", type=int, default=0, help="of drawn folds and of weights")
    parser.add_argument("--out", default="", help="result file (JSON)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the config")
    return parser


def _evaluate(args: argparse.Namespace) -> None:
    options = DataOptions(None, split_seed=args.seed, y_up=words(args.y_up))
    places = [f"{args.way}x{args.shot}x{k}:{args.data}" for k in range(args.folds)]
    folds = [open_fold(place, options) for place in places]
    if args.mode in PROBES:
        describe = load_object_encoder(args.model, "cpu").describe if args.model else shape_statistics
        result = probe_folds(describe, folds, Probe(args.mode, PROBES[args.mode], standardise=True))
    else:
        run = read_config(args.config, args.overrides)
        run = replace(
            run, method=replace(run.method, mode=args.mode), init=args.model, work_dir=args.work_dir,
            seed=args.seed, split_seed=args.seed, y_up=options.y_up,
        )  # fmt: skip
        result = fine_tune_folds(folds, [f"fold:{place}" for place in places], run)
    print(f"{args.mode}, {Path(args.model).name or 'no pre-training'}: {result}")
    if args.out:
        runs = [SeedRun(k, {LAST: accuracy}) for k, accuracy in enumerate(result.accuracy)]
        settings = vars(args) | {
            "data": without_places(args.data),
            "model": Path(args.model).name,
            "out": "",
            "work_dir": "",
        }
        data = {
            f"fold {k} {side}": about(getattr(f, side))
            for k, f in enumerate(folds)
            for side in ("train", "test")
        }
        write_result(args.out, f"few-shot {args.way} way {args.shot} shot", settings, data, runs)


if __name__ == "__main__":
    sys.exit(main())
