# SPDX-License-Identifier: Apache-2.0
"""``pc-perception``: label clouds, simulate, look into model files and installations."""

from __future__ import annotations

import os

# Before torch is imported: with a busy neighbour on one core, threads that spin while waiting made a
# network 14 times slower; waiting passively costs a few per cent alone.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pc_perception.interrupts import interruptible


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit code (0 done, 1 refused with one sentence, 130 interrupted)."""
    arguments = _parser().parse_args(argv)
    try:
        with interruptible():
            arguments.run(arguments)
    except BrokenPipeError:
        # The reader of our output (head, less) is gone; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, MemoryError, ImportError) as error:
        print(f"pc-perception: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pc-perception: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    return 0


def _sentence(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"the cloud does not fit into memory ({error or 'out of memory'}); crop or thin it first"
    return " ".join(str(error).split()) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pc-perception", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_segment(commands.add_parser("segment", help="label a file, a folder of clouds or a bag"))
    _add_classify(commands.add_parser("classify", help="name single objects, or the objects of scenes"))
    _add_complete(commands.add_parser("complete", help="draw the whole of an object seen from one side"))
    _add_generate(commands.add_parser("generate", help="make new shapes of a class"))
    _add_serve(commands.add_parser("serve", help="label a robot's live clouds, with no ROS installed"))
    _add_demo(commands.add_parser("demo", help="simulate a short drive, label it, leave pictures"))
    _add_simulate(commands.add_parser("simulate", help="write simulated labelled data"))
    inspect = commands.add_parser("inspect", help="print what a model file says about itself")
    inspect.add_argument("model", help="a model file or the name of a shipped model")
    inspect.add_argument("--json", action="store_true", dest="as_json")
    inspect.add_argument("--card", action="store_true", help="print a model card in Markdown")
    inspect.set_defaults(run=_inspect)
    doctor = commands.add_parser("doctor", help="say what is installed and what that enables")
    doctor.add_argument("--warm", action="store_true", help="compile the CPU kernels now")
    doctor.add_argument("--json", action="store_true", dest="as_json")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="a model file or a shipped model's name (street, room)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def _add_view(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--view",
        type=int,
        nargs="?",
        const=0,
        metavar="PORT",
        help="show a live picture to a browser on this machine (default port: any free one)",
    )


def _add_segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="cloud file, folder of clouds, S3DIS room or bag")
    _add_model(parser)
    parser.add_argument("--topic", help="PointCloud2 topic of a bag (default: its only one)")
    parser.add_argument("--columns", type=int, help="columns of a .bin, .npy or text table")
    parser.add_argument("--out", type=Path, help="labelled cloud, .label file, folder, or .mcap for a bag")
    parser.add_argument("--picture", type=Path, metavar="P.png", help="draw the labelled clouds")
    parser.add_argument("--html", type=Path, metavar="H.html", help="write an interactive page")
    _add_view(parser)
    parser.add_argument("--json", action="store_true", dest="as_json", help="last line: one JSON object")
    parser.add_argument("--confidence-threshold", type=float, default=0.0, metavar="C")
    parser.add_argument(
        "--window", type=float, default=0.0, metavar="M", help="cut large scenes into squares of M metres"
    )
    parser.add_argument("--overlap", type=float, default=2.0, metavar="M", help="of windows (default: 2)")
    many = parser.add_argument_group("many bags", "label all below a folder; finished ones are skipped")
    many.add_argument("--jobs", type=int, metavar="N", help="bags at a time, each in a process of its own")
    many.add_argument("--cluster", metavar="ADDRESS", help="of a Dask scheduler whose workers do it")
    many.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=_segment)


def _add_classify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="file, folder or bag of clouds, each one object")
    parser.add_argument(
        "--model", default="objects", help="a model file for classification (default: objects)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--among", help="the only classes that are possible, such as car,truck,pedestrian")
    parser.add_argument("--topic", help="PointCloud2 topic of a bag (default: its only one)")
    parser.add_argument("--columns", type=int, help="columns of a .bin, .npy or text table")
    parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON object a line")
    scene = parser.add_argument_group(
        "whole scenes", "clouds with many objects; through a bag they are tracked"
    )
    scene.add_argument("--scene", action="store_true", help="find the objects of every cloud first")
    scene.add_argument(
        "--segmenter",
        default="auto",
        metavar="MODEL",
        help="model whose things are told apart; none: all above the ground; auto: street or room (default)",
    )
    scene.add_argument("--fixed-frame", metavar="FRAME", help="to track in (default: the root of a bag's tf)")
    scene.add_argument("--out", type=Path, help=".mcap for a bag, else a cloud file or folder")
    scene.add_argument(
        "--score-threshold", type=float, metavar="S", help="less sure objects are unknown (default: 0.4)"
    )
    parser.set_defaults(run=_classify)


def _add_complete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, help="file with the cloud of one object, upright, seen from its origin"
    )
    _add_shapes(parser)
    parser.add_argument("--out", type=Path, required=True, help="mesh to write, .ply or .obj")
    parser.add_argument("--picture", type=Path, metavar="P.png", help="draw the cloud and the whole shape")
    parser.add_argument("--columns", type=int, help="columns of a .bin, .npy or text table")
    parser.set_defaults(run=_complete)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    _add_shapes(parser)
    parser.add_argument("-n", type=int, default=16, help="how many (default: 16)")
    parser.add_argument("--out", type=Path, required=True, help="folder for meshes and a picture of them")
    parser.add_argument("--guidance", type=float, default=1.0, help="to the class, 0 or more (default: 1)")
    parser.set_defaults(run=_generate)


def _add_shapes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="shapes", help="a model file of shapes (default: the shipped one)")
    parser.add_argument(
        "--class", dest="class_name", help="what it is to be, chair for example (default: any)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", default="/points", help="PointCloud2 topic, full name (default: /points)")
    parser.add_argument("--output", default="/segmentation", help="labelled clouds (default: /segmentation)")
    parser.add_argument(
        "--domain",
        type=int,
        default=int(os.environ.get("ROS_DOMAIN_ID") or 0),
        help="ROS_DOMAIN_ID of the robot (default: this environment's, else 0)",
    )
    _add_model(parser)
    parser.add_argument(
        "--reliable", action="store_true", help="have lost parts of clouds sent again, by reliable publishers"
    )
    parser.add_argument("--max-rate", type=float, default=0.0, metavar="HZ", help="label at most so many")
    parser.add_argument("--confidence-threshold", type=float, default=0.0, metavar="C")
    _add_view(parser)
    parser.add_argument(
        "--period", type=float, default=5.0, metavar="S", help="between two lines (default: 5)"
    )
    parser.set_defaults(run=_serve)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder (default: out)")
    parser.add_argument("--sweeps", type=int, default=40, help="length of the drive (default: 40)")
    parser.add_argument("--seed", type=int, default=20_001, help="which street (default: 20001)")
    _add_model(parser)
    parser.set_defaults(run=_demo)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("street", "room"))
    parser.add_argument("out", type=Path, help=".mcap file or folder")
    parser.add_argument(
        "--format",
        choices=("bag", "folder", "nuscenes", "scannet"),
        default="bag",
        help="bag (mcap), folder of .npz clouds, nuScenes-format (street) or ScanNet-format (room)",
    )
    parser.add_argument("--count", type=int, default=20, help="sweeps, views or rooms (default: 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cameras", action="store_true", help="add a ring of cameras (street)")
    parser.set_defaults(run=_simulate)


def _segment_many(a: argparse.Namespace) -> None:
    from pc_perception.commands import fleet
    from pc_perception.commands.fleet_plan import Plan

    for name in ("columns", "picture", "html", "view"):
        if getattr(a, name) is not None:
            raise ValueError(f"--{name} shows or reads single clouds; it does not go with --jobs")
    plan = Plan(a.model, a.device, a.topic, a.confidence_threshold, a.window, a.overlap)
    fleet.run(a.path, a.out, plan, 1 if a.jobs is None else a.jobs, a.cluster, a.as_json)


def _segment(a: argparse.Namespace) -> None:
    if a.jobs is not None or a.cluster:
        _segment_many(a)
        return
    if a.end_with_stdin:
        from pc_perception.commands.fleet_job import end_with_stdin

        end_with_stdin()
    from pc_perception.commands import segment
    from pc_perception.inference.stream import SweepOptions
    from pc_perception.inference.windows import Windows

    segment.run(
        a.path,
        model=a.model,
        device=a.device,
        topic=a.topic,
        columns=a.columns,
        out=a.out,
        picture=a.picture,
        html=a.html,
        as_json=a.as_json,
        options=SweepOptions(confidence_threshold=a.confidence_threshold),
        windows=Windows(a.window, a.overlap) if a.window else None,
        view=a.view,
    )


def _serve(a: argparse.Namespace) -> None:
    from pc_perception.commands import serve
    from pc_perception.io.dds import BEST_EFFORT, RELIABLE

    options = serve.ServeOptions(
        input=a.input,
        output=a.output,
        domain=a.domain,
        qos=RELIABLE if a.reliable else BEST_EFFORT,
        model=a.model or "street",
        device=a.device,
        max_rate_hz=a.max_rate,
        confidence_threshold=a.confidence_threshold,
        period_s=a.period,
    )
    serve.run(options, a.view)


def _classify(a: argparse.Namespace) -> None:
    common = {
        "model": a.model,
        "device": a.device,
        "topic": a.topic,
        "columns": a.columns,
        "as_json": a.as_json,
        "among": tuple(name for name in (a.among or "").split(",") if name),
    }
    of_scenes = {"out": a.out, "fixed_frame": a.fixed_frame, "score_threshold": a.score_threshold}
    given = {name: value for name, value in of_scenes.items() if value is not None}
    if a.scene:
        from pc_perception.commands import scene_objects

        scene_objects.run(a.path, **common, segmenter=a.segmenter, **given)
        return
    if given:
        raise ValueError(f"--{next(iter(given)).replace('_', '-')} belongs to --scene")
    from pc_perception.commands import classify

    classify.run(a.path, **common)


def _complete(a: argparse.Namespace) -> None:
    from pc_perception.commands import complete

    complete.run(
        a.path,
        model=a.model,
        out=a.out,
        picture=a.picture,
        class_name=a.class_name,
        seed=a.seed,
        device=a.device,
        columns=a.columns,
    )


def _generate(a: argparse.Namespace) -> None:
    from pc_perception.commands import generate

    generate.run(
        a.out,
        model=a.model,
        class_name=a.class_name,
        n=a.n,
        seed=a.seed,
        guidance=a.guidance,
        device=a.device,
    )


def _demo(a: argparse.Namespace) -> None:
    from pc_perception.commands import demo

    demo.run(a.out, model=a.model or "street", device=a.device, n_sweeps=a.sweeps, seed=a.seed)


def _simulate(a: argparse.Namespace) -> None:
    from pc_perception.commands import simulate

    simulate.run(a.kind, a.out, form=a.format, count=a.count, seed=a.seed, cameras=a.cameras)


def _inspect(a: argparse.Namespace) -> None:
    from pc_perception.commands import inspect

    inspect.run(a.model, as_json=a.as_json, card=a.card)


def _doctor(a: argparse.Namespace) -> None:
    from pc_perception import doctor

    doctor.run(warm=a.warm, as_json=a.as_json)


if __name__ == "__main__":
    raise SystemExit(main())
