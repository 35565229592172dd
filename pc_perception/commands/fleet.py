# SPDX-License-Identifier: Apache-2.0
"""``pc-perception segment FOLDER --jobs N``: label every recording below a folder.

Each bag is labelled by a process of its own, which is ``pc-perception segment BAG --json``: what kills it is
that bag's end alone. Bags go to threads that wait for these processes, here or, with an address, in the
workers of a Dask cluster. ``manifest.json`` beside the outputs remembers what is finished.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import IO, Any

from tqdm import tqdm

from pc_perception.refusals import refuse_unwritable

from .fleet_job import Job, Outcome, label_bag
from .fleet_plan import Manifest, Plan, find_bags, make_jobs

LOCK = ".lock"


def run(
    folder: Path, out: Path | None, plan: Plan, n_jobs: int, cluster: str | None = None, as_json: bool = False
) -> None:
    """Label all bags below ``folder`` into ``out``; what is finished there is skipped.

    Raises:
        FileNotFoundError, ValueError: nothing can be begun; or, at the end, bags failed, are cut off or have gaps.
    """
    if out is None:
        raise ValueError("many bags need --out FOLDER for the labelled ones")
    if n_jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {n_jobs}")
    jobs = make_jobs(folder, find_bags(folder, out), out, plan, n_jobs)
    refuse_unwritable(out, is_folder=True)
    out.mkdir(parents=True, exist_ok=True)
    with _only_one(out):
        manifest = Manifest(out)
        todo = [job for job in jobs if not manifest.is_finished(job)]
        skipped = len(jobs) - len(todo)
        print(f"{len(jobs)} bags, {skipped} finished before, {n_jobs} at a time", file=sys.stderr)
        for job, outcome in _outcomes(todo, n_jobs, cluster, show=not as_json):
            manifest.record(job, outcome)
        outcomes = {job.name: manifest.outcome(job) for job in jobs}
    if as_json:
        print(json.dumps({name: outcome.__dict__ for name, outcome in outcomes.items()}))
    else:
        _print_table(outcomes)
    bad = [name for name, outcome in outcomes.items() if outcome.status != "done"]
    if bad:
        raise ValueError(f"{len(bad)} of {len(jobs)} bags were not labelled whole: {', '.join(bad)}")


def _outcomes(jobs: list[Job], n_jobs: int, cluster: str | None, show: bool) -> Iterator[tuple[Job, Outcome]]:
    """Run the jobs; yield each as it ends. An interrupt ends those that run here."""
    stop = Event()
    with _executor(n_jobs, cluster) as executor, tqdm(total=len(jobs), unit="bag", disable=not show) as bar:
        work = label_bag if cluster else partial(label_bag, stop=stop)
        futures: dict[Future[Outcome], Job] = {executor.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                job = futures[future]
                try:
                    outcome = future.result()
                except Exception as error:  # the cluster lost the job's worker, again and again
                    outcome = Outcome("failed", error=f"{type(error).__name__}: {error}")
                if outcome.error:
                    bar.write(f"{job.name}: {outcome.error}", file=sys.stderr)
                bar.update()
                yield job, outcome
        finally:
            stop.set()
            for future in futures:
                future.cancel()


@contextmanager
def _executor(n_jobs: int, cluster: str | None) -> Iterator[Executor]:
    """Threads that wait for local processes, or the workers of a Dask cluster; one interface.

    Raises:
        ImportError, OSError: there is no Dask, or no scheduler at the address.
    """
    if cluster is None:
        with ThreadPoolExecutor(n_jobs, thread_name_prefix="bag") as threads:
            yield threads
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("--cluster needs Dask: pip install 'pc_perception[cluster]'") from error
    with Client(cluster, timeout="20s") as client, client.get_executor(pure=False) as workers:
        yield workers


@contextmanager
def _only_one(out: Path) -> Iterator[IO[str]]:
    """Hold the folder for this run.

    Raises:
        ValueError: another run writes there.
    """
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"another run writes to '{out}'; wait for it or choose another --out") from error
        yield file


def _print_table(outcomes: dict[str, Outcome]) -> None:
    width = max(map(len, outcomes), default=3)
    print(f"{'bag':<{width}}  {'status':<7}{'clouds':>8}{'points':>14}{'seconds':>9}  model")
    for name, o in outcomes.items():
        print(f"{name:<{width}}  {o.status:<7}{o.clouds:>8,}{o.points:>14,}{o.seconds:>9.1f}  {o.model}")
    counts: dict[str, int] = {}
    for outcome in outcomes.values():
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    total: dict[str, Any] = {k: sum(getattr(o, k) for o in outcomes.values()) for k in ("clouds", "points")}
    told = ", ".join(f"{n} {status}" for status, n in counts.items())
    print(f"{told}; {total['clouds']:,} clouds, {total['points']:,} points")
    for name, outcome in outcomes.items():
        if outcome.error:
            print(f"{name}: {outcome.error}")
