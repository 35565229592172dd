# SPDX-License-Identifier: Apache-2.0
"""Errors of calibrations against known mounts: ``python -m benchmarks.calibration KIND --seeds 0 1 2``.

Simulated rigs, another mount with every seed: ``board``: 10 poses of a checkerboard, LiDAR of 64 beams with 15 mm range
noise, 5 turns a pose. ``fisheye``: the same with a fisheye camera. ``street``: no target, 8 street scenes, guess 2
degrees and 10 cm off. Real pictures: ``drive``: the key frames of a drive in nuScenes format (``--nuscenes``), no
target; seeds take the cameras in turn, their mount in the tables is the truth, the guess as far off.

Each seed's result is appended to a file; seeds that are in it already are not done again, so that a long list can be
done in parts (``--minutes``). The table is of all in the file, and counts the seeds that were refused.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from calibration.camera import CameraModel
from calibration.frames import Frame
from calibration.nuscenes_format import from_nuscenes
from calibration.simulated import FISHEYE, PINHOLE, Rig, disturbed, simulate_shots, simulate_street_frames
from calibration.target import calibrate_with_target
from calibration.targetless import TargetlessResult, calibrate_without_target
from calibration.twist import difference

CAMERAS = tuple(
    f"CAM_{side}" for side in ("FRONT", "FRONT_RIGHT", "BACK_RIGHT", "BACK", "BACK_LEFT", "FRONT_LEFT")
)


def run(kind: str, seed: int, drive: Path) -> dict:
    """Calibrate one rig; return its errors and what the calibration says of itself, or its refusal."""
    rng = np.random.default_rng(seed)
    if kind in ("street", "drive"):
        frames, camera, truth = simulate_street_frames(seed) if kind == "street" else real_frames(drive, seed)
        calibrate = partial(calibrate_without_target, frames, camera, disturbed(truth, rng))
    else:
        rig = Rig.draw(rng, FISHEYE if kind == "fisheye" else PINHOLE)
        truth = rig.T_camera_lidar
        frames = [s.frame for s in simulate_shots(rig, rng)]
        calibrate = partial(calibrate_with_target, frames, rig.camera, rig.board)
    start = time.process_time()
    try:
        found = calibrate()
    except ValueError as error:
        return {"kind": kind, "seed": seed, "refused": str(error)}
    deg, mm = difference(found.extrinsics.T_camera_lidar, truth)
    q = found.quality
    row = {
        "kind": kind,
        "seed": seed,
        "deg": deg,
        "mm": mm,
        "spread_deg": q.spread_deg,
        "spread_mm": q.spread_mm,
        "held_out_px": q.held_out_reprojection_px,
        "warnings": q.warnings,
        "used": q.n_used,
        "offered": q.n_offered,
        "cpu_s": time.process_time() - start,
    }
    if isinstance(found, TargetlessResult):  # how well outlines lie on image edges, in standard deviations
        row["edges"] = found.score.edge_score(found.extrinsics.T_camera_lidar)
        row["edges_at_truth"] = found.score.edge_score(truth)
    return row


def real_frames(drive: Path, seed: int) -> tuple[Sequence[Frame], CameraModel, np.ndarray]:
    """Return the frames of one camera of a drive, its intrinsics and its mount, by the drive's tables."""
    found = from_nuscenes(drive, CAMERAS[seed % len(CAMERAS)])
    assert found.camera is not None
    assert found.T_camera_lidar is not None
    return found.frames, found.camera, found.T_camera_lidar


def table(rows: list[dict]) -> str:
    """Return a Markdown table: mean and worst over the seeds of each kind that gave a result."""
    lines = [
        "| rig | seeds | refused | frames used | angle, deg: mean / worst | distance, mm: mean / worst | "
        "own spread, deg / mm | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in sorted({r["kind"] for r in rows}):
        mine = [r for r in rows if r["kind"] == kind]
        good = [r for r in mine if "refused" not in r]
        if not good:
            lines.append(f"| {kind} | {len(mine)} | {len(mine)} | | | | | |")
            continue
        deg, mm = np.array([r["deg"] for r in good]), np.array([r["mm"] for r in good])
        own = np.mean([[r["spread_deg"], r["spread_mm"]] for r in good], axis=0)
        lines.append(
            f"| {kind} | {len(mine)} | {len(mine) - len(good)} | "
            f"{sum(r['used'] for r in good)} of {sum(r['offered'] for r in good)} | "
            f"{deg.mean():.3f} / {deg.max():.3f} | {mm.mean():.1f} / {mm.max():.1f} | "
            f"{own[0]:.3f} / {own[1]:.1f} | {np.mean([r['cpu_s'] for r in good]):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the seeds asked for that are not in the file yet, print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("board", "fisheye", "street", "drive"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(20)))
    parser.add_argument("--minutes", type=float, default=np.inf, help="start no other seed after so long")
    parser.add_argument("--results", type=Path, default=Path("work_dirs/calibration.jsonl"))
    data = Path(os.environ.get("PC_PERCEPTION_DATA", "data"))
    parser.add_argument("--nuscenes", type=Path, default=data / "nuscenes" / "pandaset002_nusc_dev")
    a = parser.parse_args()
    a.results.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in a.results.read_text().splitlines()] if a.results.exists() else []
    done = {(r["kind"], r["seed"]) for r in rows}
    end = time.monotonic() + 60 * a.minutes
    for seed in a.seeds:
        if (a.kind, seed) in done or time.monotonic() > end:
            continue
        rows.append(run(a.kind, seed, a.nuscenes))
        with a.results.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps(rows[-1]), flush=True)
    print(f"\nOn {describe_machine()}.\n\n{table(rows)}")


if __name__ == "__main__":
    main()
