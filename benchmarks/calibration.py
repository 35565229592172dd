# SPDX-License-Identifier: Apache-2.0
"""Errors of calibrations on simulated rigs with known truth: ``python -m benchmarks.calibration KIND --seeds 0 1 2``.

``board``: 10 poses of a checkerboard, LiDAR of 64 beams with 15 mm range noise, 5 turns a pose. ``fisheye``: the same
with a fisheye camera. ``street``: no target, 8 street scenes, guess 2 degrees and 10 cm off. Every seed draws another
mount. Results are appended to a file, so that a long list of seeds can be done in parts; the table is of all in it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from calibration.simulated import FISHEYE, PINHOLE, Rig, disturbed, simulate_shots, simulate_street_frames
from calibration.target import calibrate_with_target
from calibration.targetless import calibrate_without_target
from calibration.twist import difference


def run(kind: str, seed: int) -> dict:
    """Calibrate one simulated rig; return its errors and what the calibration says of itself."""
    rng = np.random.default_rng(seed)
    if kind == "street":
        frames, camera, truth = simulate_street_frames(seed)
        start = time.process_time()
        found = calibrate_without_target(frames, camera, disturbed(truth, rng))
    else:
        rig = Rig.draw(rng, FISHEYE if kind == "fisheye" else PINHOLE)
        truth, frames = rig.T_camera_lidar, [s.frame for s in simulate_shots(rig, rng)]
        start = time.process_time()
        found = calibrate_with_target(frames, rig.camera, rig.board)
    seconds = time.process_time() - start
    deg, mm = difference(found.extrinsics.T_camera_lidar, truth)
    q = found.quality
    return {
        "kind": kind,
        "seed": seed,
        "deg": deg,
        "mm": mm,
        "spread_deg": q.spread_deg,
        "spread_mm": q.spread_mm,
        "held_out_px": q.held_out_reprojection_px,
        "used": q.n_used,
        "cpu_s": seconds,
    }


def table(rows: list[dict]) -> str:
    """Return a Markdown table: mean and worst over the seeds of each kind."""
    lines = [
        "| rig | seeds | angle, deg: mean / worst | distance, mm: mean / worst | own spread, deg / mm | CPU s |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for kind in sorted({r["kind"] for r in rows}):
        mine = [r for r in rows if r["kind"] == kind]
        deg, mm = np.array([r["deg"] for r in mine]), np.array([r["mm"] for r in mine])
        own = np.mean([[r["spread_deg"], r["spread_mm"]] for r in mine], axis=0)
        lines.append(
            f"| {kind} | {len(mine)} | {deg.mean():.3f} / {deg.max():.3f} | {mm.mean():.1f} / {mm.max():.1f} | "
            f"{own[0]:.3f} / {own[1]:.1f} | {np.mean([r['cpu_s'] for r in mine]):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the seeds asked for, print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("board", "fisheye", "street"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(20)))
    parser.add_argument("--results", type=Path, default=Path("work_dirs/calibration.jsonl"))
    a = parser.parse_args()
    a.results.parent.mkdir(parents=True, exist_ok=True)
    for seed in a.seeds:
        row = run(a.kind, seed)
        with a.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
    rows = [json.loads(line) for line in a.results.read_text().splitlines()]
    print(f"On {describe_machine()}.\n\n{table(rows)}")


if __name__ == "__main__":
    main()
