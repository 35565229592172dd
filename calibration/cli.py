# SPDX-License-Identifier: Apache-2.0
"""``pc-calibrate``: camera intrinsics, LiDAR-camera extrinsics, and whether a calibration still holds."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from calibration.board import Board
from pc_perception.refusals import finite, refuse_unwritable, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        0 good, 1 refused with one sentence, 2 measured and past a limit, 130 interrupted.
    """
    logging.basicConfig(level=logging.WARNING, format="pc-calibrate: %(message)s", stream=sys.stderr)
    arguments = build_parser().parse_args(argv)

    def run() -> int:
        if "out" in arguments:
            refuse_unwritable(arguments.out)
        return arguments.run(arguments)

    return run_command("pc-calibrate", run)


def parse_board(text: str) -> Board:
    """Read a board from text such as ``7x5:0.095``, ``5x7:0.095:0.61x0.85`` or ``charuco:8x6:0.1:0.075``.

    Inner corners along x times those along y, the square's side in metres, then for a ChArUco board the marker's
    side, then the plate's outline along x and y in metres, and its pattern's shift (``+0.002,0``) if not centred.

    Raises:
        ValueError: the text does not say a board.
    """
    kind, _, rest = text.rpartition("charuco:")
    parts = rest.split(":")
    try:
        columns, rows = (int(n) for n in parts[0].lower().split("x"))
        square = float(parts[1])
        marker = float(parts.pop(2)) if kind or text.startswith("charuco:") else 0.0
        outline, _, shift = (parts[2] if len(parts) > 2 else "").partition("+")
        width, height = (float(n) for n in outline.lower().split("x")) if outline else (0.0, 0.0)
        dx, dy = (float(n) for n in shift.split(",")) if shift else (0.0, 0.0)
    except (IndexError, ValueError) as error:
        raise ValueError(
            f"'{text}' is not a board; write inner corners and square in metres as 7x5:0.095, with the plate's size "
            "as 7x5:0.095:0.85x0.61, or charuco:7x5:0.1:0.075"
        ) from error
    return Board(columns, rows, square, width, height, (dx, dy), marker)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses has the subcommand as ``run``."""
    parser = argparse.ArgumentParser(
        prog="pc-calibrate",
        description="Camera intrinsics, LiDAR-camera extrinsics, and whether a calibration still holds.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_intrinsics(commands.add_parser("intrinsics", help="camera matrix and distortion from a board"))
    _add_lidar_camera(
        commands.add_parser("lidar-camera", help="T_camera_lidar, with a board or without (--guess)")
    )
    _add_check(commands.add_parser("check", help="measure a calibration against frames or a recording"))
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", help="folder of pictures, or a pattern")
    parser.add_argument("--clouds", help="folder of clouds named as the pictures, or a pattern")
    parser.add_argument("--bag", type=Path, help="recording with images and clouds")
    parser.add_argument("--image-topic", help="of the bag (default: its only one)")
    parser.add_argument("--cloud-topic", help="of the bag (default: its only one)")
    parser.add_argument(
        "--fixed-frame", help="frame of /tf in which a moving vehicle's clouds are carried over"
    )
    parser.add_argument(
        "--no-undistort",
        action="store_true",
        help="with --fixed-frame: the driver has put the motion within a turn right already",
    )
    parser.add_argument(
        "--every",
        type=finite,
        default=0.5,
        metavar="S",
        help="seconds between frames of a bag (default: 0.5)",
    )
    parser.add_argument("--nuscenes", type=Path, help="folder of nuScenes-format data (with a v1.0-* folder)")
    parser.add_argument("--camera-name", default="CAM_FRONT", help="of --nuscenes (default: CAM_FRONT)")
    parser.add_argument("--camera", type=Path, help="intrinsics: a result file or ROS's camera YAML")


def _add_intrinsics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", help="folder of pictures, or a pattern")
    parser.add_argument("--bag", type=Path, help="recording with an image topic")
    parser.add_argument("--image-topic", help="of the bag (default: its only one)")
    parser.add_argument(
        "--every", type=finite, default=1.0, metavar="S", help="seconds between images of a bag (default: 1)"
    )
    parser.add_argument(
        "--board", required=True, help="inner corners and square, as 7x5:0.095 or charuco:7x5:0.1:0.075"
    )
    parser.add_argument(
        "--model",
        default="plumb_bob",
        choices=("plumb_bob", "rational_polynomial", "equidistant"),
        help="of the distortion, as ROS names it (default: plumb_bob)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("camera.yaml"), help="result file (default: camera.yaml)"
    )
    parser.add_argument("--pictures", type=Path, help="folder for the coverage map")
    parser.add_argument(
        "--max-px", type=finite, default=0.5, help="limit of the held-out error in pixels (default: 0.5)"
    )
    parser.set_defaults(run=_intrinsics)


def _add_lidar_camera(parser: argparse.ArgumentParser) -> None:
    _add_sources(parser)
    parser.add_argument("--board", help="use a board: corners, square and outline, as 5x7:0.095:0.61x0.85")
    parser.add_argument(
        "--guess", help="without a board: a result file to start from, or 'source' for the data's own"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("calibration.yaml"), help="result file (default: calibration.yaml)"
    )
    parser.add_argument("--pictures", type=Path, help="folder for overlays")
    parser.add_argument(
        "--max-px", type=finite, default=8.0, help="limit of the held-out error in pixels (default: 8)"
    )
    parser.add_argument(
        "--max-deg", type=finite, default=0.3, help="limit of the spread in degrees (default: 0.3)"
    )
    parser.add_argument(
        "--max-mm", type=finite, default=30.0, help="limit of the spread in millimetres (default: 30)"
    )
    parser.set_defaults(run=_lidar_camera)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("calibration", type=Path, help="result file")
    _add_sources(parser)
    parser.add_argument("--pictures", type=Path, help="folder for overlays")
    parser.add_argument("--max-deg", type=finite, default=0.5, help="largest drift in degrees (default: 0.5)")
    parser.add_argument(
        "--max-mm", type=finite, default=150.0, help="largest drift in millimetres (default: 150)"
    )
    parser.set_defaults(run=_check)


def _intrinsics(a: argparse.Namespace) -> int:
    from calibration.commands import intrinsics

    return intrinsics(a, parse_board(a.board))


def _lidar_camera(a: argparse.Namespace) -> int:
    from calibration.commands import with_target, without_target

    if (a.board is None) == (a.guess is None):
        raise ValueError("say --board (poses of a board) or --guess (no target, start from a calibration)")
    return without_target(a) if a.board is None else with_target(a, parse_board(a.board))


def _check(a: argparse.Namespace) -> int:
    from calibration.commands import check

    return check(a)


if __name__ == "__main__":
    raise SystemExit(main())
