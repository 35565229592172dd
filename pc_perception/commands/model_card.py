# SPDX-License-Identifier: Apache-2.0
"""``pc-perception inspect MODEL --card``: a model card in Markdown, from what the model file says alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pc_perception.inference.model_file import read_model_file

_TOLD = ("method", "data", "metrics", "licence", "config", "samples")
_UNITS = {
    "height_m": "height, m",
    "range_m": "range, m",
    "intensity": "intensity",
    "points": "points a cloud",
}


def model_card(model: str) -> str:
    """Return the card of a shipped model's name or a model file.

    Raises:
        FileNotFoundError, ValueError: as ``read_model_file``.
    """
    header, tensors = read_model_file(model)
    provenance, contract = dict(header.provenance), header.contract.to_json()
    n_values = sum(t.numel() for t in tensors.values())
    name = Path(model).stem
    lines = [
        f"# Model `{name}`",
        "",
        f"Written by `pc-perception inspect {name} --card` from the model file; do not edit.",
        "",
        f"- **Task**: {header.task}",
        f"- **Network**: {header.architecture['name']}, {n_values:,} parameters, {4e-6 * n_values:.1f} MB",
        f"- **Method**: {provenance.get('method', 'not said')}",
        f"- **Trained on**: {provenance.get('data', 'not said')}",
        f"- **Licence note**: {provenance.get('licence', 'not said')}",
        *_labels(header.labels),
        *_contract(contract),
        *_metrics(provenance.get("metrics")),
        *_training(provenance),
    ]
    return "\n".join(lines) + "\n"


def _labels(labels: Any) -> list[str]:
    if labels is None:
        return []
    names = ", ".join(labels.classes)
    return [
        "",
        "## Labels",
        "",
        f"Set `{labels.name}`, ids 0 to {len(labels) - 1}: {names}. 65535 is unlabeled.",
    ]


def _contract(contract: dict[str, Any]) -> list[str]:
    lines = ["", "## Input", ""]
    lines += [f"- `{key}`: {_plain(value)}" for key, value in contract.items() if key != "seen"]
    seen = contract.get("seen") or {}
    if seen:
        lines += ["", "What training saw; the node and `segment` warn about clouds that lie outside:", ""]
        lines += ["| | lowest | median | highest |", "|---|---|---|---|"]
        lines += [
            f"| {_UNITS.get(k, k)} | " + " | ".join(f"{v:g}" for v in span) + " |" for k, span in seen.items()
        ]
    return lines


def _metrics(metrics: Any) -> list[str]:
    lines = ["", "## Measured", ""]
    if not metrics:
        return [*lines, "Nothing is recorded in the file."]
    lines += ["One model, so no spread over seeds.", ""]
    rows = {on: row for on, row in metrics.items() if isinstance(row, dict)}
    lines += [f"- {name}: {_plain(value)}" for name, value in metrics.items() if name not in rows]
    if rows:
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        lines += [f"| on | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for on, row in rows.items():
        lines.append(f"| {on} | " + " | ".join(_plain(row.get(name, "")) for name in names) + " |")
    return lines


def _training(provenance: dict[str, Any]) -> list[str]:
    rest = {k: v for k, v in provenance.items() if k not in _TOLD and v not in ("", None)}
    lines = [
        "",
        "## Training",
        "",
        *(f"- {key.replace('_', ' ')}: {_plain(value)}" for key, value in rest.items()),
    ]
    return (
        [*lines, "- the whole configuration: `pc-perception inspect` prints it"]
        if "config" in provenance
        else lines
    )


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
