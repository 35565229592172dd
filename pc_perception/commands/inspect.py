# SPDX-License-Identifier: Apache-2.0
"""``pc-perception inspect``: what a model file says about itself."""

from __future__ import annotations

import json
from typing import Any

from pc_perception.inference.model_file import ModelHeader, read_model_file

from .model_card import model_card


def run(model: str, as_json: bool = False, card: bool = False) -> None:
    """Print a model file's header, or its model card; the file is checked on the way.

    Raises:
        FileNotFoundError, ValueError: as ``read_model_file``.
    """
    if card:
        print(model_card(model), end="")
        return
    header, tensors = read_model_file(model)
    n_values = sum(t.numel() for t in tensors.values())
    if as_json:
        print(json.dumps(_plain(header, n_values)))
        return
    plain = _plain(header, n_values)
    for key in ("task", "parameters", "megabytes"):
        print(f"{key}: {plain[key]}")
    for key in ("architecture", "contract", "labels", "provenance"):
        print(f"{key}:")
        for name, value in (plain[key] or {}).items():
            print(f"  {name}: {value if isinstance(value, str) else json.dumps(value)}")


def _plain(header: ModelHeader, n_values: int) -> dict[str, Any]:
    return {
        "task": header.task,
        "parameters": n_values,
        "megabytes": round(4e-6 * n_values, 2),
        "architecture": header.architecture,
        "contract": header.contract.to_json(),
        "labels": header.labels.to_json() if header.labels else None,
        "provenance": header.provenance,
    }
