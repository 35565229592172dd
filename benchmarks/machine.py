# SPDX-License-Identifier: Apache-2.0
"""What every table says about where it was measured, and a neighbour that keeps a core busy."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def describe_machine() -> str:
    """Return one line: processor, cores, Python, torch, load."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    return (
        f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )


@contextmanager
def busy_core(wanted: bool = True) -> Iterator[None]:
    """Keep one core busy with another process while the block runs."""
    if not wanted:
        yield
        return
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()
