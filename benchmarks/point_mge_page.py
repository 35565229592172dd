# SPDX-License-Identifier: Apache-2.0
"""The page of ``benchmarks.point_mge``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import jobs
from pc_perception.inference.model_file import read_model_file
from training.evaluate.generation import N_EMD

Results = Sequence[dict[str, Any]]
SETS = ("generated", "copies of training shapes", "noise")
COMPLETIONS = (
    "cube found",
    "cube found, class told",
    "heading told",
    "nearest training shape, cube told",
    "what was seen",
)


def write_page(page: Path, model: Path, results: Results, machine: str, scale: float) -> None:
    """Write the page from what was measured."""
    jobs.write_page(
        page,
        [
            _head(model, machine, scale),
            *_fields(_one(results, "fields")),
            *_generation(results),
            *_completion(results),
            *_ratio(results),
            *_time(_one(results, "time")),
        ],
    )


def _one(results: Results, kind: str, arm: str = "") -> dict[str, Any]:
    """Return the figures of the only job of a kind, empty where it was not done."""
    return next((r["figures"] for r in results if (r["kind"], r["arm"]) == (kind, arm)), {})


def _over_seeds(results: Results, kind: str, arm: str, *keys: str) -> str:
    values = []
    for r in results:
        if (r["kind"], r["arm"]) == (kind, arm):
            value = r["figures"]
            for key in keys:
                value = value[key]
            values.append(float(value))
    return jobs.spread(values)


def _head(model: Path, machine: str, scale: float) -> str:
    header, tensors = read_model_file(model)
    story, n = header.provenance, sum(t.numel() for t in tensors.values())
    one = story.get("tokenizer_run", {})
    return f"""# Point-MGE on procedural shapes

Written by `python -m benchmarks.point_mge{"" if scale == 1 else f" --scale {scale:g}"}`; {machine}.

The `shapes` model: {n / 1e6:.2f} million parameters, {model.stat().st_size / 1e6:.1f} MB, classes
{", ".join(header.labels.classes) if header.labels else "none"}. Stage 1: {one.get("steps", "?")} steps in
{one.get("minutes", "?")} minutes, stage 2: {story.get("steps", "?")} steps in {story.get("minutes", "?")} minutes, one
seed; the configs name the machines. All shapes are made by the simulator; test shapes have seeds of their own and
classes that were trained on. Lengths are in half edges of the cube that a shape fills.
"""


def _fields(f: dict[str, Any]) -> list[str]:
    title = "## Stage 1: fields of unseen shapes from 64 tokens\n"
    if not f:
        return [title, jobs.MISSING]
    classes = jobs.table(
        ["class", *f["iou_by_class"]], [["IoU", *(f"{v:.2f}" for v in f["iou_by_class"].values())]]
    )
    return [
        title,
        f"{f['n']} shapes: IoU {f['iou']:.3f} of places in the cube, {f['iou_near']:.3f} near the surface; Chamfer L1"
        f" {f['chamfer_l1']:.4f}, F-score at 0.02 {f['f_score']:.3f}, {f['empty']} shapes empty.\n",
        classes,
        f"\nTwo samplings of one shape have {f['same_shape']:.0%} of their codes in common at nearest centres, two"
        f" shapes {f['other_shape']:.0%}.\n",
    ]


def _generation(results: Results) -> list[str]:
    rows = []
    for arm, caption in (("by class", "generated, class told"), ("any", "generated, any class")):
        rows.append([caption, *_scores(results, arm, "generated")])
    for name in SETS[1:]:
        rows.append([name, *_scores(results, "by class", name)])
    n = _one(results, "generation", "by class").get("n", 0)
    return [
        "## New shapes\n",
        f"As many as test shapes ({n}); Chamfer distance (CD) of 1,024 points each, EMD of {N_EMD}. MMD: small is good;"
        " COV: much is good; 1-NNA: 0.5 is best, 1 is worst. Seeds are those of sampling.\n",
        jobs.table(
            ["set", *(f"{name}, {of}" for of in ("CD", "EMD") for name in ("MMD", "COV", "1-NNA"))], rows
        ),
    ]


_SCORES = ("mmd", "cov", "one_nna")


def _scores(results: Results, arm: str, name: str) -> list[str]:
    """Return the cells of one set under both distances."""
    cd = [_over_seeds(results, "generation", arm, name, k) for k in _SCORES]
    return cd + [_over_seeds(results, "generation", arm, name, "emd", k) for k in _SCORES]


def _completion(results: Results) -> list[str]:
    from benchmarks.point_mge_measure import VIEWS

    found = [_one(results, "completion", view) for view in VIEWS]
    n = next((f["n"] for f in found if f), 0)
    rows = [[row, *(f"{f[row]:.3f}" if f else jobs.MISSING for f in found)] for row in COMPLETIONS]
    return [
        "\n## Completion of one view\n",
        f"Chamfer L1 of the completed surface from the true one, {n} unseen shapes seen from a random side.\n",
        jobs.table(["", *VIEWS], rows),
    ]


def _ratio(results: Results) -> list[str]:
    from benchmarks.point_mge import RATIOS

    rows = [
        [arm, *(_over_seeds(results, "ratio", arm, k) for k in ("svm", "knn", *_SCORES))] for arm in RATIOS
    ]
    return [
        "\n## Sliding or constant masking ratio\n",
        "Stage 2 alone, 600 steps times the scale, no labels: accuracy of probes on the extractor's features, and new"
        " shapes of any class.\n",
        jobs.table(["ratio", "SVM", "5 neighbours", "MMD", "COV", "1-NNA"], rows),
    ]


def _time(f: dict[str, Any]) -> list[str]:
    if not f:
        return ["\n## Time\n", jobs.MISSING]
    return [
        "\n## Time\n",
        f"Sixteen shapes meshed at 64^3: {f['sixteen_s']:.1f} s; one completion: {f['completion_s']:.2f} s;"
        f" {f['threads']} threads.",
    ]
