# SPDX-License-Identifier: Apache-2.0
"""What ``pc-evaluate`` does with its arguments whatever the models' task is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pc_perception.inference.model_file import build, read_model_file, save_model
from pc_perception.labels import LabelSet
from training.data.specs import DataOptions
from training.export import without_places


def words(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated text."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def data_options(args: argparse.Namespace, label_set: LabelSet) -> DataOptions:
    """Return how to open ``--data`` for models with ``label_set``."""
    return DataOptions(
        label_set=label_set,
        version=args.version,
        split=args.split,
        label_source=args.label_source,
        label_field=args.label_field,
        sequences=words(args.sequences),
        areas=words(args.areas),
        topic=args.topic,
        variant=args.variant,
        y_up=words(args.y_up),
        n_scenes=args.n_scenes,
        per_scene=args.per_scene,
        seed=args.seed,
        cache_dir=args.cache_dir,
    )


def described(args: argparse.Namespace) -> str:
    """Name the data and its split without a machine's folders."""
    return without_places(args.data) + (f" {Path(args.split).name}" if args.split else "")


def record(model: str | Path, data: str, figures: Mapping[str, float]) -> None:
    """Add what was measured, and on what, to a model file's provenance (the tensors stay as they are).

    Raises:
        FileNotFoundError, ValueError: as ``read_model_file``.
    """
    header, tensors = read_model_file(model)
    network = build(header)
    network.load_state_dict(tensors, assign=True)
    rounded = {key: round(value, 4) for key, value in figures.items()}
    metrics = {**header.provenance.get("metrics", {}), data: rounded}
    save_model(model, network, replace(header, provenance={**header.provenance, "metrics": metrics}))
