# SPDX-License-Identifier: Apache-2.0
"""``python -m training.plots WORK_DIR``: the figures that a run logged, drawn as one SVG file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.refusals import run_command

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Steps and values."""

WIDTH, HEIGHT, MARGIN = 420, 200, 44
"""Of a panel, pixels; room for its labels."""
COLUMNS = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; problems are told in one line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.plots", description="Draw the figures that a run logged as one SVG file."
    )
    parser.add_argument("work_dir", type=Path, help="of a run")
    parser.add_argument(
        "--names", default="", help="only those that contain one of these, such as scores,masks"
    )
    parser.add_argument("--out", type=Path, help="default: curves.svg in work_dir")
    args = parser.parse_args(argv)
    return run_command("training.plots", lambda: _plot(args))


def _plot(args: argparse.Namespace) -> None:
    curves = read_curves(args.work_dir)
    wanted = [part for part in args.names.split(",") if part]
    chosen = {k: v for k, v in curves.items() if not wanted or any(part in k for part in wanted)}
    if not chosen:
        raise ValueError(f"none of {', '.join(sorted(curves))} contains one of '{args.names}'")
    out = args.out or args.work_dir / "curves.svg"
    out.write_text(draw(chosen), encoding="utf-8")
    print(out)


def read_curves(work_dir: Path) -> dict[str, Curve]:
    """Read the scalars of a run's TensorBoard files; those of a resumed run follow each other.

    Raises:
        ValueError: there are none.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[int, float]] = {}
    for file in sorted(work_dir.rglob("events.out.tfevents.*"), key=lambda f: f.stat().st_mtime):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, {}).update((e.step, e.value) for e in events.Scalars(name))
    if not found:
        raise ValueError(f"'{work_dir}' holds no TensorBoard file with figures; name the work_dir of a run")
    return {
        name: (np.array(sorted(points)), np.array([points[s] for s in sorted(points)]))
        for name, points in sorted(found.items())
    }


def draw(curves: Mapping[str, Curve]) -> str:
    """Return an SVG document with a panel for each curve; what is not finite leaves a gap of one point."""
    rows = -(-len(curves) // COLUMNS)
    size = f'width="{COLUMNS * WIDTH}" height="{rows * HEIGHT}"'
    panels = [
        f'<g transform="translate({i % COLUMNS * WIDTH} {i // COLUMNS * HEIGHT})">{_panel(name, curve)}</g>'
        for i, (name, curve) in enumerate(curves.items())
    ]
    style = 'font-family="sans-serif" font-size="11" fill="#333"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(panels) + "\n</svg>\n"


def _panel(name: str, curve: Curve) -> str:
    steps, values = (axis[np.isfinite(curve[1])] for axis in curve)
    title = f'<text x="{MARGIN}" y="14" font-weight="bold">{escape(name)}</text>'
    if not len(values):
        return title
    low, high = float(values.min()), float(values.max())
    x = MARGIN + (WIDTH - MARGIN - 12) * (steps - steps[0]) / max(steps[-1] - steps[0], 1)
    y = HEIGHT - 24 - (HEIGHT - 48) * (values - low) / ((high - low) or 1)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    right = WIDTH - 12
    return (
        f'{title}<rect x="{MARGIN}" y="24" width="{right - MARGIN}" height="{HEIGHT - 48}" fill="none" '
        f'stroke="#ccc"/><polyline points="{points}" fill="none" stroke="#2060a0" stroke-width="1.5"/>'
        f'<text x="2" y="32">{high:.3g}</text><text x="2" y="{HEIGHT - 24}">{low:.3g}</text>'
        f'<text x="{MARGIN}" y="{HEIGHT - 10}">{steps[0]}</text>'
        f'<text x="{right}" y="{HEIGHT - 10}" text-anchor="end">{steps[-1]}</text>'
    )


if __name__ == "__main__":
    sys.exit(main())
