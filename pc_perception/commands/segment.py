# SPDX-License-Identifier: Apache-2.0
"""``pc-perception segment``: label a file, a folder of clouds or a recording."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.inference.sensor_check import mismatches
from pc_perception.inference.stream import SweepOptions, SweepSegmenter
from pc_perception.inference.windows import WindowedSegmenter, Windows
from pc_perception.io.arrays import Columns
from pc_perception.io.bags import BagTruncated
from pc_perception.ops.backend import warm_up
from pc_perception.refusals import refuse_unwritable
from pc_perception.visualization.live import LiveView

from .sinks import Sink, open_sink, refuse_picture
from .sources import LeftOut, Source, Tally, open_source, suitable_model

MAX_PICTURED = 40
"""Clouds kept in memory for the picture and the page; of a longer source the first ones are shown."""


@dataclass
class Report(Tally):
    """What a run did, for the table and for ``--json``.

    Attributes:
        cut_off: the recording broke off.
        left_out: how many damaged files or messages.
    """

    seconds: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    cut_off: bool = False
    left_out: int = 0

    def add(self, cloud: PointCloud, result: SegmentationResult) -> None:
        """Count one result."""
        self.count(cloud)
        self.labels.update(result.label_set.count(result.labels))

    def as_json(self, sweeps: SweepSegmenter | None, model: str) -> dict[str, Any]:
        """Return the object that ``--json`` prints; what went wrong is in it only where something did."""
        wrong = {"cut_off": self.cut_off, "left_out": self.left_out, "empty": self.empty}
        timing = sweeps.timing if sweeps and self.clouds else None
        latency = {f"p{q}": round(timing.percentile("total", q), 3) if timing else None for q in (50, 99)}
        return {
            "clouds": self.clouds,
            "points": self.points,
            "seconds": round(self.seconds, 3),
            "latency_ms": latency,
            "labels": dict(self.labels),
            "model": model,
            "device": str(sweeps.model.device) if sweeps else "",
            **{name: value for name, value in wrong.items() if value},
        }


def run(
    path: Path,
    *,
    model: str | None = None,
    device: str = "auto",
    topic: str | None = None,
    columns: Columns = None,
    out: Path | None = None,
    picture: Path | None = None,
    html: Path | None = None,
    as_json: bool = False,
    options: SweepOptions | None = None,
    windows: Windows | None = None,
    view: int | None = None,
) -> None:
    """Label every cloud of ``path``; see the command's help for the arguments.

    With ``view``, a port of loopback (0: any), a page shows every cloud as it is labelled, and the last one
    until an interrupt.

    Raises:
        FileNotFoundError, ValueError: with one sentence. What was labelled before is on disk.
    """
    keep_freed_memory()
    source = open_source(path, topic, columns, out)
    # Outputs are checked before hours of work; a model that was named loads before reading.
    refuse_picture(picture)
    if html is not None:
        refuse_unwritable(html)
    sink: Any = open_sink(out, source) if out else nullcontext()
    with ExitStack() as stack:
        page = None if view is None else stack.enter_context(LiveView(path.name, view))
        if page is not None:
            print(f"live picture: {page.url}", file=sys.stderr)
        run_state = _Run(model, device, options, windows, bool(picture or html), page)
        start = time.perf_counter()
        try:
            with sink as writer:
                run_state.consume(source, writer, show_progress=not as_json)
        except BagTruncated:
            run_state.report.cut_off = True
            raise
        except LeftOut as error:
            run_state.report.left_out = error.n
            raise
        finally:
            run_state.report.seconds = time.perf_counter() - start
            if run_state.report.clouds:
                _print(run_state, out, as_json)
                for drawn in _pictures(run_state, picture, html, title=path.name):
                    print(f"drawn: {drawn}", file=sys.stderr)
        run_state.report.refuse_nothing(path)
        if page is not None:
            print("the page stays until Ctrl-C", file=sys.stderr)
            threading.Event().wait()


class _Run:
    """The loop over clouds and what it leaves behind."""

    def __init__(
        self,
        name: str | None,
        device: str,
        options: SweepOptions | None,
        windows: Windows | None,
        keep: bool,
        page: LiveView | None,
    ) -> None:
        self.report, self.name, self.device, self.options = Report(), name or "", device, options
        self.windows, self.keep, self.page = windows, keep, page
        self.sweeps = self._load() if name else None
        self.kept: list[tuple[str, PointCloud, SegmentationResult]] = []

    def consume(self, source: Source, writer: Sink | None, show_progress: bool) -> None:
        """Label all clouds; a folder's damaged files are reported at the end, the others are labelled."""
        total = None if source.is_bag else len(source.files)
        bar = tqdm(total=total, unit="cloud", disable=None if show_progress and total != 1 else True)
        with bar:
            for item in source.clouds():
                sweeps = self._sweeps_for(source, item.cloud)
                result = sweeps(item.cloud)
                if writer is not None:
                    writer.write(item.name, item.cloud, result)
                self.report.add(item.cloud, result)
                if self.page is not None:
                    self.page.show(item.cloud, result, f"{item.name} · {result.total_ms:.0f} ms")
                if self.keep and len(self.kept) < MAX_PICTURED:
                    self.kept.append((item.name, item.cloud, result))
                bar.update()

    def _load(self) -> SweepSegmenter:
        model = load_segmenter(self.name, self.device)
        return SweepSegmenter(WindowedSegmenter(model, self.windows) if self.windows else model, self.options)

    def _sweeps_for(self, source: Source, cloud: PointCloud) -> SweepSegmenter:
        if self.sweeps is None:
            self.name = suitable_model(source, cloud)
            self.sweeps = self._load()
        if not self.report.clouds:
            warm_up()  # else the first cloud's time is that of loading kernels
            telling = source.telling(cloud)
            if telling.finite().any():
                contract = self.sweeps.model.contract
                for sentence in mismatches(telling, contract.seen, contract.features):
                    print(f"unlike the training data: {sentence}", file=sys.stderr)
        return self.sweeps


def _pictures(run_state: _Run, picture: Path | None, html: Path | None, title: str) -> Iterator[Path]:
    """Draw what was kept and yield each file as it is there."""
    if not run_state.kept:
        return
    _, clouds, results = zip(*run_state.kept, strict=True)
    label_set = results[0].label_set
    if picture:
        from pc_perception.visualization.png import render_png

        yield render_png(picture, list(clouds), [r.labels for r in results], label_set, title=title)
    if html:
        from pc_perception.visualization.html import Frame, write_html

        frames = [Frame(c, r.labels, r.confidence, caption=n) for n, c, r in run_state.kept]
        yield write_html(html, frames, label_set, title=title)


def _print(run_state: _Run, out: Path | None, as_json: bool) -> None:
    report, sweeps = run_state.report, run_state.sweeps
    if as_json:
        print(json.dumps(report.as_json(sweeps, run_state.name)))
        return
    assert sweeps is not None
    width = max(map(len, report.labels), default=5)
    for name, count in report.labels.most_common():
        print(f"  {name:<{width}}  {count:>12,}  {100 * count / max(report.points, 1):5.1f} %")
    p50, p99 = (sweeps.timing.percentile("total", q) for q in (50, 99))
    where = f", written to {out}" if out else " (labels not written: --out names a file or folder)"
    print(
        f"{report.clouds} cloud(s), {report.points:,} points in {report.seconds:.1f} s; "
        f"per cloud p50 {p50:.0f} ms, p99 {p99:.0f} ms on {sweeps.model.device}{where}"
    )
