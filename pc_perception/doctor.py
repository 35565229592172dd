# SPDX-License-Identifier: Apache-2.0
"""Say what is installed, what that makes possible, and the line to type for what is missing."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from . import doctor_probes as probes
from .doctor_probes import Finding
from .packages import PACKAGES

__all__ = ["Finding", "diagnose", "format_json", "format_table", "run", "warm_up"]


def run(*, warm: bool = False, as_json: bool = False) -> None:
    """Print the report; with ``warm`` compile the CPU kernels first."""
    seconds = warm_up() if warm else None
    findings = diagnose()
    if as_json:
        print(format_json(findings))
        return
    print(format_table(findings))
    if seconds is not None:
        print(f"CPU kernels compiled or loaded from the cache in {seconds:.1f} s")


def diagnose() -> list[Finding]:
    """Return all findings, the ones that everything else needs first; takes a few seconds."""
    facts = probes.torch_facts()
    return [
        probes.python(),
        *probes.torch(facts),
        probes.numba(),
        *probes.sparse(facts),
        *probes.open3d(),
        *(probes.package(package) for package in PACKAGES),
        *probes.ros(),
        probes.shipped_models(),
    ]


def warm_up() -> float:
    """Compile every Numba kernel, so that the first sweep is not slow; return the seconds it took."""
    from .ops import backend

    start = time.perf_counter()
    backend.warm_up_all()
    return time.perf_counter() - start


def format_table(findings: list[Finding]) -> str:
    """Return the findings as text, one line each, with the line to type below."""
    marks = {"ok": "ok", "missing": "--", "broken": "!!", "note": "i "}
    width = max(len(f.name) for f in findings)
    found_width = min(44, max(len(f.found) for f in findings))
    lines = []
    for f in findings:
        lines.append(
            f" {marks[f.verdict]}  {f.name:<{width}}  {f.found:<{found_width}}  {f.enables}".rstrip()
        )
        if f.install:
            lines.append(f"     {'':<{width}}  > {f.install}")
    broken = [f.name for f in findings if f.verdict == "broken"]
    lines.append(f"\nbroken: {', '.join(broken)}" if broken else "\nnothing is broken; -- is optional")
    return "\n".join(lines)


def format_json(findings: list[Finding]) -> str:
    """Return the findings as one JSON object on one line."""
    return json.dumps({"findings": [asdict(f) for f in findings]})
