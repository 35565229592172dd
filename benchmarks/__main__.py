# SPDX-License-Identifier: Apache-2.0
"""Measure speed and memory: ``python -m benchmarks ops|stream|objects|train|growth|gpu|soak [--rows A6 A7]``."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin beside a busy neighbour slow both

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Row, run


def main(argv: Sequence[str] | None = None) -> None:
    """Run one table from the command line."""
    arguments = _parser().parse_args(argv)
    if arguments.table == "soak":
        from benchmarks import soak

        soak.run(arguments)
        return
    import torch

    torch.set_num_threads(arguments.threads)
    rows = [row for row in _rows(arguments) if not arguments.rows or row.row in arguments.rows]
    if not rows:
        raise SystemExit(f"benchmarks {arguments.table}: no row is called {' or '.join(arguments.rows)}")
    run(rows, arguments.rounds, arguments.seed, arguments.busy, arguments.json, arguments.markdown)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    tables = parser.add_subparsers(dest="table", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--rounds", type=int, default=15)
    common.add_argument("--rows", nargs="*", help="rows to run; all without it")
    common.add_argument("--threads", type=int, default=2)
    common.add_argument("--seed", type=int, default=0)
    common.add_argument(
        "--busy", action="store_true", help="run every row again with the other core kept busy"
    )
    common.add_argument("--json", type=Path, help="also write the records to this file, after every row")
    common.add_argument("--markdown", type=Path, help="also write the table to this file, after every row")
    tables.add_parser(
        "ops", parents=[common], help="point operations on the CPU: A4 to A10, A13, A14; Open3D"
    )
    tables.add_parser(
        "stream", parents=[common], help="messages and the live path: A1 to A3, A11, A12, A15; C3; R1"
    )
    tables.add_parser("objects", parents=[common], help="single objects, classified on the CPU: O1 to O4")
    tables.add_parser("train", parents=[common], help="steps of training on the CPU: C1, C2")
    tables.add_parser("growth", parents=[common], help="growth of time from 8k to 512k points")
    soak = tables.add_parser("soak", help="a server or node fed for long, with everything that goes wrong")
    from benchmarks.soak import add_arguments

    add_arguments(soak)
    gpu = tables.add_parser("gpu", parents=[common], help="one GPU: B5, B7 to B15, and the live path")
    gpu.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    gpu.add_argument("--backend", help="force a backend, such as triton")
    gpu.add_argument("--tiny", action="store_true", help="few points: runs the rows' code, gives no figures")
    return parser


def _rows(arguments: argparse.Namespace) -> list[Row]:
    if arguments.table == "ops":
        from benchmarks import dense, open3d_rows, points, sequences, sparse

        return [*dense.CASES, *points.CASES, *sparse.CASES, *sequences.CASES, *open3d_rows.CASES]
    if arguments.table == "stream":
        from benchmarks import live, live_objects, messages, rclpy_path, runtimes, sparse_unet

        return [
            *messages.CASES,
            *rclpy_path.ROWS,
            *live.ROWS,
            *live_objects.ROWS,
            *sparse_unet.ROWS,
            *runtimes.CASES,
        ]
    if arguments.table == "objects":
        from benchmarks import single_objects

        return list(single_objects.ROWS)
    if arguments.table == "train":
        from benchmarks import training_steps

        return list(training_steps.ROWS)
    if arguments.table == "growth":
        from benchmarks import growth

        return list(growth.ROWS)
    from benchmarks import gpu_frames, gpu_live, gpu_rows, gpu_training
    from benchmarks.gpu import Place

    place = Place(arguments.device, arguments.backend, arguments.tiny)
    modules = (gpu_rows, gpu_training, gpu_frames, gpu_live)
    return [row for module in modules for row in module.rows(place)]


if __name__ == "__main__":
    main()
