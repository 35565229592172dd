# SPDX-License-Identifier: Apache-2.0
"""Sweep after sweep in the same memory, and no more than that takes."""

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
faults = []
for _ in range(11):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    sweep()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[5])  # the median: a machine short of memory takes pages back now and then
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these switches")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50  # of 8,000 without it


LOAD = """
import sys, torch
from pc_perception.inference.architectures import build_network
from pc_perception.inference.contract import InputContract
from pc_perception.inference.loading import load_model
for model in ("street", "room", "objects"):
    load_model(model, "cpu")
with torch.device("meta"):
    build_network("SparseUNetSegmenter", {}, InputContract(0.1, ("offset",)), 5)
print("torch._dynamo" in sys.modules)
"""


def test_loading_a_model_does_not_import_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"  # True costs a node 140 MB and a second


GIVE_BACK = """
import psutil, torch
from pc_perception.inference.memory import give_back_memory, keep_freed_memory
keep_freed_memory()
rss = psutil.Process().memory_info
before = rss().rss
tensors = [torch.ones(1_000_000) for _ in range(50)]
last = torch.ones(10)  # above them, where memory cannot simply be cut off
del tensors
kept = rss().rss - before
give_back_memory()
print(kept // 2**20, (rss().rss - before) // 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these switches")
def test_what_a_reload_took_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", GIVE_BACK], capture_output=True, text=True, check=True)
    kept_mb, left_mb = map(int, done.stdout.split())
    assert kept_mb > 180
    assert left_mb < 20
