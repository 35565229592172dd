# SPDX-License-Identifier: Apache-2.0
"""The page of ``benchmarks.cmcr``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from benchmarks.cmcr_data import DRIVES, KEYFRAMES, N_KNOWN
from benchmarks.jobs import spread, table, write_page
from benchmarks.machine import describe_machine

Results = Sequence[dict[str, Any]]


def write(
    page: Path,
    results: Results,
    costs: Mapping[str, Mapping[str, float]],
    steps: Mapping[str, int],
    command: str,
) -> list[str]:
    """Write the page from what was measured; return the names of runs that are missing."""
    from benchmarks.cmcr import ARMS, CONTROL, EVERY, FULL, N_LABELLED, SEEDS, Job, stages

    tuned = [r for r in results if r["kind"] == "tune" and not r["spd"] and not r["keyframes"]]
    frozen = [r for r in results if r["kind"] == "pretrain"]

    def miou(arm: str, every: int, key: str = "miou") -> str:
        found = [r["figures"] for r in tuned if (r["arm"], r["every"]) == (arm, every)]
        return spread([f[key] for f in found if key in f])

    def probe(arm: str, place: str = "") -> str:
        # Random weights are measured beside a pre-trained encoder of the same seed.
        start, of = ("random", "contrast") if arm == "random weights" else ("probe", arm)
        found = [r["figures"].get(f"{start} {place}".strip()) for r in frozen if r["arm"] == of]
        return spread([value for value in found if value is not None])

    def on_keyframes(arm: str, n: int) -> str:
        return spread([r["figures"]["miou"] for r in results if (r["arm"], r["keyframes"]) == (arm, n)])

    spd = [r["figures"]["miou"] for r in results if r["kind"] == "tune" and r["spd"]]
    real = sorted({k for r in tuned for k in r["figures"]} - {"miou"})
    done = {tuple(r[f.name] for f in fields(Job)) for r in results}
    jobs = [job for stage in stages() for job in stage]
    missing = [j.name for j in jobs if astuple(j) not in done]
    blocks = [
        "# CMCR on simulated drives\n",
        f"Command: {command}, on {describe_machine()}. {len(SEEDS)} seeds, mean ± sample standard deviation; the last "
        f"step of each run.\n\n{_setting(steps)}\n",
        "## Arms\n\nmIoU over all points of held-out drives: a linear head on frozen features, and fine-tuning by the "
        "share of scenes with labels. Each arm adds to the one above it.\n",
        table(
            ["pre-training", "linear probe", *EVERY],
            [[arm, probe(arm), *(miou(arm, every) for every in EVERY.values())] for arm in ARMS]
            + [[f"{FULL}, SPD around the fine-tuning", "", "", spread(spd), ""]]
            + [[CONTROL, probe(CONTROL), "", miou(CONTROL, 10), ""]],
        ),
        f"\n## Labels of {KEYFRAMES}\n\nThe same encoders with labels of a real drive: a linear head on frozen "
        f"features that is fitted to {N_KNOWN} keyframes, and fine-tuning on 1 or {N_KNOWN} of them; mIoU on the later "
        "ones of the same street.\n",
        table(
            ["pre-training", "linear probe", *(f"{n} labelled" for n in N_LABELLED)],
            [[arm, probe(arm, KEYFRAMES), *(on_keyframes(arm, n) for n in N_LABELLED)] for arm in ARMS],
        ),
        "\n## From simulated to real clouds\n\nThe segmenters of simulated drives on clouds that nothing was trained "
        "on (mIoU over the classes that they have).\n",
        table(
            ["pre-training", *(f"{key}, {share}" for key in real for share in EVERY)],
            [[arm, *(miou(arm, e, key) for key in real for e in EVERY.values())] for arm in ARMS],
        ),
        "\n## Cost of the terms\n\nOne step of one sweep with six pictures of 112x208 on one thread, without preparing "
        "the batch; CPU time; peak memory of the whole process.\n",
        table(
            ["pre-training", "ms a step", "MB"],
            [[arm, f"{c['ms']:.0f}", f"{c['mb']:.0f}"] for arm, c in costs.items()],
        ),
        f"\n## Not run\n\n{', '.join(f'`{name}`' for name in missing) or 'Everything ran.'}\n",
    ]
    write_page(page, blocks)
    return missing


def _setting(steps: Mapping[str, int]) -> str:
    return (
        "Encoder: the small sparse U-Net of `cmcr_pretrain`, voxels of 0.2 m. "
        f"Pre-training: {steps['pretrain']} steps of one sweep with six pictures of 112x208, from a picture trunk that "
        f"{steps['trunk']} steps of self-supervision made. Fine-tuning: {steps['tune']} steps of two sweeps. Training "
        f"drives: {DRIVES['train'][1]} simulated streets, a sweep of each; test: {DRIVES['test'][1]} streets of other "
        "seeds. Steps are few: the tables compare arms, they do not show the best that those reach."
    )
