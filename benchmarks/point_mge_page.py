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


def write_page(page: Path, model: Path, results: Results, how: str, scale: float) -> None:
    """Write the page from what was measured; ``how`` tells command and machine."""
    jobs.write_page(
        page,
        [
            _head(model, how),
            *_fields(_one(results, "fields")),
            *_training(results, scale),
            *_generation(results),
            *_completion(results),
            *_ratio(results, scale),
            *_time(_one(results, "time")),
        ],
    )


def _one(results: Results, kind: str, arm: str = "") -> dict[str, Any]:
    """Return the figures of the only job of a kind, empty where it was not done."""
    return next((r["figures"] for r in results if (r["kind"], r["arm"]) == (kind, arm)), {})


def _over_seeds(results: Results, kind: str, arm: str, *keys: str) -> str:
    found = [r["figures"] for r in results if (r["kind"], r["arm"]) == (kind, arm)]
    return jobs.spread(_values(found, keys))


def _head(model: Path, how: str) -> str:
    header, tensors = read_model_file(model)
    story, n = header.provenance, sum(t.numel() for t in tensors.values())
    one = story.get("tokenizer_run", {})
    return f"""# Point-MGE on procedural shapes

Command: {how}.

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


_FIGURES: dict[str, tuple[str, ...]] = {
    "IoU": ("iou",),
    "IoU near the surface": ("iou_near",),
    "Chamfer L1": ("chamfer_l1",),
    "F-score at 0.02": ("f_score",),
    "SVM on the extractor's features": ("svm",),
    "5 neighbours on them": ("knn",),
    "new shapes, MMD": ("mmd",),
    "new shapes, COV": ("cov",),
    "new shapes, 1-NNA": ("one_nna",),
    "completion, depth camera": ("views", "depth camera", "cube found"),
    "with the class told": ("views", "depth camera", "cube found, class told"),
    "nearest training shape, cube told": ("views", "depth camera", "nearest training shape, cube told"),
    "completion, LiDAR": ("views", "LiDAR", "cube found"),
    "with the class told, LiDAR": ("views", "LiDAR", "cube found, class told"),
    "nearest training shape, cube told, LiDAR": ("views", "LiDAR", "nearest training shape, cube told"),
}
"""Where the figures of a training are."""


def _training(results: Results, scale: float) -> list[str]:
    """Return the table of both stages over seeds, beside the shipped model's."""
    from benchmarks.point_mge import N_SETS, N_TEST, N_TRAIN, STEPS
    from benchmarks.point_mge_measure import VIEWS

    trained = [r["figures"] for r in results if r["kind"] == "training"]
    shipped = _one(results, "fields") | _one(results, "features")
    shipped["views"] = {view: _one(results, "completion", view) for view in VIEWS}
    made = [r["figures"]["generated"] for r in results if (r["kind"], r["arm"]) == ("generation", "by class")]
    rows = [
        [caption, jobs.spread(_values(trained, keys)), _shipped(_values([shipped, *made], keys))]
        for caption, keys in _FIGURES.items()
    ]
    steps = round(STEPS * scale)
    return [
        "## Both stages over seeds\n",
        f"Trained from random weights on {N_TRAIN} shapes, {steps} steps of 16 in either stage, classes told for nine "
        f"shapes of ten; beside it the shipped model. Fields and probes are of {N_TEST} unseen shapes, new shapes "
        f"(class told, Chamfer distance) and completions of {N_SETS}.\n",
        jobs.table(["", f"seeds, {steps} steps", "shipped"], rows),
        "",
    ]


def _shipped(values: Sequence[float]) -> str:
    """Return the one figure of the shipped model, or its spread over seeds of sampling."""
    return f"{values[0]:.3f}" if len(values) == 1 else jobs.spread(values)


def _values(each: Sequence[Any], keys: Sequence[str]) -> list[float]:
    """Return what is found under nested keys, of those that have it."""
    for key in keys:
        each = [figures[key] for figures in each if key in figures]
    return [float(value) for value in each]


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


def _ratio(results: Results, scale: float) -> list[str]:
    from benchmarks.point_mge import N_SETS, N_TEST, RATIOS, STEPS

    rows = [
        [arm, *(_over_seeds(results, "ratio", arm, k) for k in ("svm", "knn", *_SCORES))] for arm in RATIOS
    ]
    return [
        "\n## Sliding or constant masking ratio\n",
        f"Stage 2 alone, {round(STEPS * scale)} steps of 16, no labels: accuracy of probes on the extractor's features "
        f"of {N_TEST} unseen shapes, and as many new shapes of any class as {N_SETS} of them.\n",
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
