# SPDX-License-Identifier: Apache-2.0
"""The schema of a run and how the command line changes it."""

from __future__ import annotations

import ast
import runpy
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pc_perception.inference.architectures import Contract
from pc_perception.labels import load_label_set
from pc_perception.models.scene_encoder import SceneSegmenter

from .augment import Augmentation
from .data.specs import DataOptions
from .methods.method import Method
from .objects import ObjectAugmentation

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class RunSettings:
    """One training run. A config file assigns one of these to ``run``.

    Attributes:
        method: what is learned, and how.
        contract: the input of the network, of scenes or of objects; a scene's ``seen`` is filled in from the
            training data.
        label_set: target preset, or a .yaml file of one; empty for a method without labels, and for objects whose
            data names the classes.
        network: class of the segmenter of scenes, one of ``pc_perception.models.segmenters``.
        encoder: arguments of its encoder, or of ``ObjectEncoder``.
        augmentation: random changes of the clouds.
        data: ``KIND:WHERE`` (``training/data/specs.py``), several separated by commas.
        data_shares: how often each data set is drawn from; empty: every cloud equally often.
        data_limit: use only this many clouds, spread evenly over the data; 0 for all.
        data_root, version, split, every, split_seed, per_class, label_source, label_field, sequences, areas, topic,
            variant, y_up: see ``DataOptions``.
        n_scenes, per_scene, data_seed, cache_dir: of simulated data, see ``DataOptions``.
        max_steps: batches; 0 for no limit.
        max_minutes: training time; 0 for no limit. The schedule follows whichever is further.
        batch_size: scenes in a batch, on each process.
        accumulate: batches for one step of the optimiser.
        lr: highest learning rate, reached after the share ``warm_up`` of the run, then down a cosine.
        cycles: the learning rate goes through warm-up and cosine this many times.
        weight_decay, betas: of AdamW.
        clip: largest norm of the gradient; 0 for none.
        ema: decay of the average of weights that becomes the model; 0 takes the last weights.
        amp: bfloat16 autocast; gains on CUDA.
        seed: of weights, order and random changes.
        workers: processes that prepare batches; 0 does it in the training process.
        threads: of torch, 0 leaves torch's choice.
        init: model file whose encoder to start from, or a .pth file of Point-MAE or Point-PQAE.
        work_dir: where checkpoints, logs and ``model.safetensors`` go.
        resume: go on from the checkpoint in ``work_dir``.
        checkpoint_minutes, checkpoint_steps: save at least this often; 0 for never.
        log_steps: log every so many batches.
        validate_steps: classify the objects of the validation part (of data that is split by instance, with
            split=train) every so many batches and keep the weights that were best on them too; 0 for never.
        panel_steps: draw what the model sees every so many batches, for methods that offer it; 0 for never.
        survey: clouds that are read before the start for class weights and the contract's ``seen``.
        prepare_only: make simulated data and stop.
        licence: note for the model file's provenance.
        progress: show a progress bar.
    """

    method: Method
    contract: Contract
    label_set: str = ""
    network: type = SceneSegmenter
    encoder: dict[str, Any] = field(default_factory=dict)
    augmentation: Augmentation | ObjectAugmentation = field(default_factory=Augmentation)
    data: str = ""
    data_shares: tuple[float, ...] = ()
    data_limit: int = 0
    data_root: str = ""
    version: str = ""
    split: str = ""
    split_seed: int = 0
    per_class: int = 0
    every: int = 1
    label_source: str = ""
    label_field: str = ""
    sequences: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()
    topic: str = ""
    variant: str = ""
    y_up: tuple[str, ...] = ()
    n_scenes: int = 200
    per_scene: int = 4
    data_seed: int = 0
    cache_dir: str = ""
    max_steps: int = 1000
    max_minutes: float = 0.0
    batch_size: int = 2
    accumulate: int = 1
    lr: float = 2e-3
    warm_up: float = 0.05
    cycles: int = 1
    weight_decay: float = 0.02
    betas: tuple[float, ...] = (0.9, 0.98)
    clip: float = 5.0
    ema: float = 0.998
    amp: bool = False
    seed: int = 0
    workers: int = 0
    threads: int = 0
    init: str = ""
    work_dir: str = "work_dirs/run"
    resume: bool = False
    checkpoint_minutes: float = 2.0
    checkpoint_steps: int = 0
    log_steps: int = 10
    validate_steps: int = 0
    panel_steps: int = 500
    survey: int = 32
    prepare_only: bool = False
    licence: str = ""
    progress: bool = True

    def validate(self) -> RunSettings:
        """Return self, or raise ValueError for the first value that makes no sense."""
        at_least = {"batch_size": 1, "accumulate": 1, "log_steps": 1, "survey": 1, "cycles": 1}
        at_least |= dict.fromkeys(
            ("max_steps", "max_minutes", "workers", "threads", "clip", "data_limit", "panel_steps"), 0
        )
        at_least |= dict.fromkeys(("validate_steps", "split_seed", "per_class"), 0)
        for name, low in at_least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not self.max_steps and not self.max_minutes:
            raise ValueError("max_steps and max_minutes are both 0; give one of them, or the run never ends")
        if not self.lr > 0 or not 0 <= self.ema < 1 or not 0 <= self.warm_up < 1:
            raise ValueError(
                f"lr must be > 0, ema and warm_up in 0 .. 1; got {self.lr}, {self.ema}, {self.warm_up}"
            )
        if self.method.task in ("segmentation", "detection") and not self.label_set:
            raise ValueError("label_set is empty; name the classes to learn, such as label_set=street8")
        if self.validate_steps and (self.method.task != "classification" or self.split != "train"):
            raise ValueError(
                "validate_steps needs a method of classification and split=train, whose validation part it uses;"
                f" here are {self.method.task} and split='{self.split}'"
            )
        if self.label_set:
            load_label_set(self.label_set)
        for part in (self.augmentation, self.method):
            if hasattr(part, "validate"):
                part.validate()
        return self

    def data_options(self) -> DataOptions:
        """Return what ``open_data`` needs."""
        return DataOptions(
            label_set=self.label_set or None,
            root=self.data_root,
            version=self.version,
            split=self.split,
            split_seed=self.split_seed,
            per_class=self.per_class,
            every=self.every,
            label_source=self.label_source,
            label_field=self.label_field,
            sequences=self.sequences,
            areas=self.areas,
            topic=self.topic,
            variant=self.variant,
            y_up=self.y_up,
            cameras=getattr(self.method, "cameras", False),
            instances=getattr(self.method, "instances", False),
            boxes=getattr(self.method, "boxes", False),
            n_scenes=self.n_scenes,
            per_scene=self.per_scene,
            seed=self.data_seed,
            cache_dir=self.cache_dir,
        )


def config_names() -> list[str]:
    """Return the names of the configs that come with the package."""
    return sorted(p.stem for p in CONFIGS.glob("[!_]*.py"))


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunSettings:
    """Run a config file and apply ``key=value`` texts; the file is code, so it must be your own.

    Args:
        path: a Python file that assigns a ``RunSettings`` to ``run``, or the name of one of ours.
        overrides: dots reach inside, ``method.lovasz=0``, ``encoder.heads=8``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it fails or assigns no ``run``, or an override does not fit.
    """
    file = Path(path)
    if not file.is_file():
        file = CONFIGS / f"{Path(path).stem}.py"
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no config '{path}'; give a file or one of: {', '.join(config_names())}"
        )
    run = _run_file(file)
    if not isinstance(run, RunSettings):
        raise ValueError(f"'{file}' must assign a training.settings.RunSettings to 'run'")
    for text in overrides:
        key, found, value = text.partition("=")
        if not found:
            raise ValueError(f"'{text}' is not key=value")
        run = _override(run, key.strip().split("."), value, key)
    return run.validate()


def _run_file(file: Path) -> Any:
    if file.suffix != ".py":
        raise ValueError(f"'{file}' is no config; give a Python file (.py) that assigns `run`")
    try:
        return runpy.run_path(str(file)).get("run")
    except Exception as error:  # whatever the user's own code raises
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
        line = f" in line {lines[-1]}" if lines else ""
        raise ValueError(f"the config '{file}' fails{line}: {type(error).__name__}: {error}") from error


def _override(target: Any, path: Sequence[str], text: str, key: str) -> Any:
    name = path[0]
    if isinstance(target, dict):
        if len(path) > 1:
            raise ValueError(f"'{key}' goes too deep; '{name}' is not a group of settings")
        return {**target, name: _parse(text)}
    known = {f.name: f.type for f in fields(target)}
    if name not in known:
        raise ValueError(f"there is no setting '{key}'; known here: {', '.join(known)}")
    old = getattr(target, name)
    if len(path) > 1:
        if not is_dataclass(old) and not isinstance(old, dict):
            raise ValueError(f"'{key}' goes too deep; '{name}' is not a group of settings")
        return replace(target, **{name: _override(old, path[1:], text, key)})
    if known[name] in ("float", float):
        old = float(old)  # a config file may say 2 where 2.0 is meant
    return replace(target, **{name: _fit(text, old, key)})


def _parse(text: str) -> Any:
    simple = {"true": True, "false": False, "none": None}
    if text.lower() in simple:
        return simple[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _fit(text: str, old: Any, key: str) -> Any:
    """Read ``text`` as the type that the setting has."""
    if isinstance(old, str):
        return text
    value = _parse(text)
    if isinstance(old, tuple):
        items = value if isinstance(value, tuple | list) else [v for v in text.split(",") if v]
        kind = type(old[0]) if old else (float if key == "data_shares" else str)
        try:
            return tuple(kind(v) for v in items)
        except ValueError:
            raise ValueError(
                f"{key}='{text}' must be a list of {kind.__name__}, separated by commas"
            ) from None
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(old):
        raise ValueError(f"{key}='{text}' must be of type {type(old).__name__}")
    return value
