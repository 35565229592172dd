# SPDX-License-Identifier: Apache-2.0
"""The arguments of ``pc-perception`` and its subcommands; importing this costs nothing."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pc_perception.refusals import finite

_EXIT_CODES = (
    "Exit code 1: refused; or damaged files or messages were left out, a recording breaks off, or not one cloud has a "
    "finite point. What was labelled is kept. Empty clouds among others are counted and told."
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses names the subcommand as ``command``."""
    parser = argparse.ArgumentParser(
        prog="pc-perception", description="Label clouds, simulate, look into model files and installations."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_segment(
        commands.add_parser("segment", help="label a file, a folder of clouds or a bag", epilog=_EXIT_CODES)
    )
    _add_classify(
        commands.add_parser(
            "classify", help="name single objects, or the objects of scenes", epilog=_EXIT_CODES
        )
    )
    _add_complete(commands.add_parser("complete", help="draw the whole of an object seen from one side"))
    _add_generate(commands.add_parser("generate", help="make new shapes of a class"))
    _add_serve(commands.add_parser("serve", help="label a robot's live clouds, with no ROS installed"))
    _add_demo(commands.add_parser("demo", help="simulate a short drive, label it, leave pictures"))
    _add_simulate(commands.add_parser("simulate", help="write simulated labelled data"))
    _add_pick(commands.add_parser("pick", help="pick the clouds of a recording to label by hand"))
    inspect = commands.add_parser("inspect", help="print what a model file says about itself")
    inspect.add_argument("model", help="a model file or the name of a shipped model")
    form = inspect.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")
    form.add_argument("--card", action="store_true", help="print a model card in Markdown")
    doctor = commands.add_parser("doctor", help="say what is installed and what that enables")
    doctor.add_argument("--warm", action="store_true", help="compile the CPU kernels now")
    doctor.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")
    return parser


def _add_model(parser: argparse.ArgumentParser, default: str = "street") -> None:
    told = f"a model file or a shipped model's name, street or room (default: {default})"
    parser.add_argument("--model", help=told)
    _add_device(parser)


def _add_threshold(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--confidence-threshold",
        type=finite,
        default=0.0,
        metavar="C",
        help="points less sure than this, 0 .. 1, stay unlabeled (default: 0)",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def _add_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--columns",
        type=_columns,
        metavar="N|NAMES",
        help="columns of a .bin, .npy, .npz or text table: 3 to 6, or names such as x,y,z,_,intensity (_: left out)",
    )


def _columns(text: str) -> int | tuple[str, ...]:
    return int(text) if text.lstrip("-").isdigit() else _names(text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"'{text}' names nothing; separate names by commas")
    return names


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port; give 0 (any) to 65535")
    return int(text)


def _add_view(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--view",
        type=_port,
        nargs="?",
        const=0,
        metavar="PORT",
        help="show a live picture to a browser on this machine (default port: any free one)",
    )


def _add_segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="cloud file, folder of clouds, S3DIS room or bag")
    _add_model(parser, "by the look of the first cloud")
    parser.add_argument("--topic", help="PointCloud2 topic of a bag (default: its only one)")
    _add_columns(parser)
    parser.add_argument("--out", type=Path, help="labelled cloud, .label file, folder, or .mcap for a bag")
    parser.add_argument("--picture", type=Path, metavar="P.png", help="draw the labelled clouds")
    parser.add_argument("--html", type=Path, metavar="H.html", help="write an interactive page")
    _add_view(parser)
    parser.add_argument(
        "--json", action="store_true", dest="as_json", help="last line: one JSON object (docs/deployment.md)"
    )
    _add_threshold(parser)
    parser.add_argument(
        "--window", type=finite, default=0.0, metavar="M", help="cut large scenes into squares of M metres"
    )
    parser.add_argument(
        "--overlap", type=finite, metavar="M", help="metres that --window's squares share (default: 2)"
    )
    many = parser.add_argument_group("many bags", "label all below a folder; finished ones are skipped")
    many.add_argument("--jobs", type=int, metavar="N", help="bags at a time, each in a process of its own")
    many.add_argument("--cluster", metavar="ADDRESS", help="of a Dask scheduler whose workers do it")
    many.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)


def _add_classify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, help="file, folder or bag of clouds, each one object; with --scene each a scene"
    )
    parser.add_argument(
        "--model", default="objects", help="a model file for classification (default: objects)"
    )
    _add_device(parser)
    parser.add_argument(
        "--among",
        type=_names,
        default=(),
        metavar="NAME,...",
        help="the only classes that are possible, such as car,truck,pedestrian",
    )
    parser.add_argument("--topic", help="PointCloud2 topic of a bag (default: its only one)")
    _add_columns(parser)
    parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON object a line")
    scene = parser.add_argument_group(
        "whole scenes", "clouds with many objects; through a bag they are tracked"
    )
    scene.add_argument("--scene", action="store_true", help="find the objects of every cloud first")
    scene.add_argument(
        "--segmenter",
        metavar="MODEL",
        help="model whose things are told apart; none: all above the ground; auto: street or room (default)",
    )
    scene.add_argument("--fixed-frame", metavar="FRAME", help="to track in (default: the root of a bag's tf)")
    scene.add_argument("--out", type=Path, help=".mcap for a bag, else a cloud file or folder")
    scene.add_argument(
        "--score-threshold", type=finite, metavar="S", help="less sure objects are unknown (default: 0.4)"
    )


def _add_complete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, help="file with the cloud of one object, upright, seen from its origin"
    )
    _add_shapes(parser)
    parser.add_argument("--out", type=Path, required=True, help="mesh to write, .ply or .obj")
    parser.add_argument("--picture", type=Path, metavar="P.png", help="draw the cloud and the whole shape")
    _add_columns(parser)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    _add_shapes(parser)
    parser.add_argument("-n", type=int, default=16, help="how many (default: 16)")
    parser.add_argument("--out", type=Path, required=True, help="folder for meshes and a picture of them")
    parser.add_argument(
        "--guidance", type=finite, default=1.0, help="pull of the class, 0 or more (default: 1)"
    )


def _add_shapes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="shapes", help="a model file of shapes (default: the shipped one)")
    parser.add_argument(
        "--class", dest="class_name", help="what it is to be, chair for example (default: any)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another one draws other shapes (default: 0)")
    _add_device(parser)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", default="/points", help="PointCloud2 topic, full name (default: /points)")
    parser.add_argument("--output", default="/segmentation", help="labelled clouds (default: /segmentation)")
    parser.add_argument(
        "--domain",
        type=int,
        default=os.environ.get("ROS_DOMAIN_ID") or "0",  # text, so that argparse checks it where it is used
        help="ROS_DOMAIN_ID of the robot (default: this environment's, else 0)",
    )
    _add_model(parser)
    parser.add_argument(
        "--reliable", action="store_true", help="have lost parts of clouds sent again, by reliable publishers"
    )
    parser.add_argument(
        "--max-rate",
        type=finite,
        default=0.0,
        metavar="HZ",
        help="clouds a second at most (default: 0, all)",
    )
    _add_threshold(parser)
    _add_view(parser)
    parser.add_argument(
        "--period",
        type=finite,
        default=5.0,
        metavar="S",
        help="seconds between two lines of figures (default: 5)",
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder (default: out)")
    parser.add_argument("--sweeps", type=int, default=40, help="length of the drive (default: 40)")
    parser.add_argument("--seed", type=int, default=20_001, help="which street (default: 20001)")
    _add_model(parser)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("street", "room"), help="a LiDAR's drive, or views of rooms")
    parser.add_argument("out", type=Path, help=".mcap file or folder")
    parser.add_argument(
        "--format",
        choices=("bag", "folder", "nuscenes", "scannet"),
        default="bag",
        help="bag (mcap), folder of .npz clouds, nuScenes-format (street) or ScanNet-format (room)",
    )
    parser.add_argument("--count", type=int, default=20, help="sweeps, views or rooms (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which street or rooms (default: 0)")
    parser.add_argument("--cameras", action="store_true", help="add a ring of cameras (street)")


def _add_pick(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="bag or folder of clouds")
    parser.add_argument("--out", type=Path, required=True, help="folder for them, and for the ids of classes")
    parser.add_argument("-n", type=int, default=10, help="how many (default: 10)")
    _add_model(parser, "by the look of the first cloud")
    parser.add_argument(
        "--format",
        choices=("pcd", "ply", "npz"),
        default="pcd",
        dest="form",
        help="of the files (default: pcd)",
    )
    parser.add_argument("--topic", help="PointCloud2 topic of a bag (default: its only one)")
    _add_columns(parser)
