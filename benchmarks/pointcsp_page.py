# SPDX-License-Identifier: Apache-2.0
"""The page and the picture of ``benchmarks.pointcsp``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import jobs
from benchmarks.machine import describe_machine
from training.settings import read_config

Results = Sequence[dict[str, Any]]


def write_page(page: Path, work_dir: Path, results: Results, command: str, minutes: float) -> None:
    """Write the page from what was measured, and the picture beside ``docs/images``."""
    from benchmarks.pointcsp import ARMS, CHOSEN, ORDERS, SEEDS, SHARES

    picture = page.parent.parent / "images" / "pointcsp_tsne.png"
    draw_features(work_dir, CHOSEN, picture)
    tunings = [r for r in results if r["kind"] == "tune"]
    pretrained = [r for r in results if r["kind"] == "pretrain"]
    by_order = {o: [r for r in pretrained if r["order"] == o] for o in ("alone", *ORDERS)}
    regular = [r for r in tunings if r["batch"] == 4 and r["csp_order"] == CHOSEN]

    def arm(name: str, share: float) -> Results:
        order, way = ARMS[name]
        return [r for r in regular if (r["order"], r["way"], r["share"]) == (order, way, share)]

    real = sorted({k for r in tunings for k in r["figures"]} & {"s3dis", "scannet"})
    blocks = [
        _head(command, minutes, len(SEEDS)),
        "## Arms\n\nmIoU on held-out scenes, one at a time, by the share of training clouds with labels.\n",
        jobs.table(
            ["arm", *(f"{s:.0%} of labels" for s in SHARES)],
            [[name, *(_spread(arm(name, s), "single") for s in SHARES)] for name in ARMS],
        ),
        "\nWith all labels: two styles of furnishing, and real rooms as a check (the classes that they have).\n",
        jobs.table(
            ["arm", "homes", "places of work", *real],
            [[n, *(_spread(arm(n, 1.0), k) for k in ("home", "work", *real))] for n in ARMS],
        ),
        "\n## One scene at a time, or in sequence\n",
        "What a model loses when its scenes come one by one instead of as one shuffled sequence of "
        "6 (mIoU, all labels).\n",
        jobs.table(
            ["arm", "in sequence", "one at a time", "difference"],
            [
                [
                    n,
                    _spread(arm(n, 1.0), "serialised"),
                    _spread(arm(n, 1.0), "single"),
                    _difference(arm(n, 1.0)),
                ]
                for n in ARMS
            ],
        ),
        "\n## Frozen encoders\n\nLinear probe: mean class accuracy of a logistic regression on voxel features. "
        "Retrieval: how often the nearest class mean of another scene is of the same class.\n",
        jobs.table(
            ["encoder", "linear probe", "retrieval"],
            [["random weights", *_frozen(by_order[CHOSEN], "random")]]
            + [[f"pre-trained, `{o}`", *_frozen(found, "trained")] for o, found in by_order.items()],
        ),
        f"\n![features of held-out scenes, by class](../images/{picture.name})\n",
        "\n## Orders and batch sizes\n\nFine-tuned with SPD from CSP with 10 % of labels, mIoU one at a time.\n",
        jobs.table(
            ["csp_order", "mIoU"],
            [[f"`{o}`", _spread(_ordered(tunings, o), "single")] for o in ORDERS],
        ),
        "\n",
        jobs.table(
            ["batch (as many samples seen)", "mIoU"],
            [[str(b), _spread(_batched(tunings, b), "single")] for b in (1, 4, 16)],
        ),
    ]
    jobs.write_page(page, blocks)


def _head(command: str, minutes: float, n_seeds: int) -> str:
    pretrain, tune = read_config("pointcsp_rooms"), read_config("rooms_small")
    views = pretrain.method.views  # type: ignore[attr-defined]
    return (
        f"# PointCSP on simulated rooms\n\nCommand: `{command}`, on {describe_machine()}; {minutes:.0f} minutes in the "
        f"last call. {n_seeds} seeds, mean ± sample standard deviation; the last step of each run.\n\n"
        f"Host: `SceneEncoder` {tune.encoder['widths']} with {tune.encoder['mixers']} sequence blocks, voxels of "
        f"{tune.contract.grid_m} m. Pre-training: {pretrain.max_steps} steps of {pretrain.batch_size} scenes with "
        f"{views.n_global} + {views.n_local} views of {views.global_points} points. Fine-tuning: "
        f"{tune.max_steps} steps of {tune.batch_size} scenes. Training scenes: {tune.n_scenes} simulated rooms, "
        f"{tune.per_scene} clouds of each; test: 15 rooms of other seeds, 2 clouds of each. Steps are few, so "
        "that all runs fit into 90 minutes on two cores: the tables compare arms, they do not show the best that "
        "those reach."
    )


def _spread(results: Results, key: str) -> str:
    return jobs.spread([r["figures"][key] for r in results if key in r["figures"]])


def _difference(results: Results) -> str:
    return jobs.spread([r["figures"]["single"] - r["figures"]["serialised"] for r in results])


def _frozen(results: Results, which: str) -> list[str]:
    return [jobs.spread([r["figures"][which][key] for r in results]) for key in ("probe", "retrieval")]


def _ordered(tunings: Results, order: str) -> Results:
    return [
        r for r in tunings
        if (r["order"], r["way"], r["csp_order"], r["share"], r["batch"]) == (order, "spd", order, 0.1, 4)
    ]  # fmt: skip


def _batched(tunings: Results, batch: int) -> Results:
    return [r for r in _all_shuffled(tunings) if r["batch"] == batch]


def _all_shuffled(tunings: Results) -> Results:
    wanted = ("shuffle_all", "spd", "shuffle_all", 0.1)
    return [r for r in tunings if (r["order"], r["way"], r["csp_order"], r["share"]) == wanted]


def draw_features(work_dir: Path, order: str, picture: Path) -> None:
    """Draw t-SNE of held-out voxel features, before and after pre-training of seed 0, coloured by class."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from sklearn.manifold import TSNE

    from benchmarks.pointcsp_measure import LABELS, encoders_of, features_of, test_clouds
    from pc_perception.labels import load_label_set

    encoders = encoders_of(work_dir / f"pretrain-{order}-0" / "model.safetensors")
    labels, data = load_label_set(LABELS), test_clouds()
    clouds = [data[i] for i in range(0, 16, 2)]
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.2))
    titles = {"random": "random weights", "trained": "after pre-training"}
    for axis, (name, (encoder, contract)) in zip(axes, encoders.items(), strict=True):
        parts = features_of(encoder, contract, clouds, 60)
        x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
        x = (x - x.mean(0)) / (x.std(0) + 1e-6)
        place = TSNE(random_state=0, perplexity=30, init="pca").fit_transform(x)
        axis.scatter(*place.T, s=4, c=np.asarray(labels.colors)[y] / 255)
        axis.set(title=titles[name], xticks=[], yticks=[])
    dots = [
        plt.Line2D([], [], marker="o", ls="", color=np.asarray(color) / 255, label=name)
        for name, color in zip(labels.classes, labels.colors, strict=True)
    ]
    figure.legend(handles=dots, loc="lower center", ncols=len(dots), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
