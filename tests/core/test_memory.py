# SPDX-License-Identifier: Apache-2.0
"""Sweep after sweep in the same memory."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, torch
from pc_perception.inference.memory import keep_freed_memory
assert keep_freed_memory()
def sweep():
    tensors = [torch.zeros(1_000_000) + 1 for _ in range(4)]
for _ in range(3):
    sweep()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    sweep()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these switches")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 500  # of 8,000 without it
