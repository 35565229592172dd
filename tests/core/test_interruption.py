# SPDX-License-Identifier: Apache-2.0
"""What is left of an output when the process that writes it is ended in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import numba
import numpy as np
import pytest

from pc_perception.cli import main
from pc_perception.io.bags import BagReader, BagTruncated

from .test_fleet import wait, write_bag

RECORDER = """
import sys, time
import numpy as np
from pc_perception.cloud import PointCloud
from pc_perception.io.bags import BagWriter
with BagWriter(sys.argv[1]) as bag:
    while True:
        bag.write_cloud("/points", PointCloud(np.zeros((5, 3), np.float32), {}, "lidar", time.time_ns()))
        print("written", flush=True)
        time.sleep(0.05)
"""


def test_sigkill_leaves_a_recording_readable_up_to_its_last_second(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    process = subprocess.Popen([sys.executable, "-c", RECORDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    start = time.monotonic()
    while time.monotonic() - start < 2.5:
        process.stdout.readline()
    killed_ns = time.time_ns()
    process.kill()
    process.communicate()
    stamps: list[int] = []
    with BagReader(path) as reader, pytest.raises(BagTruncated):
        stamps.extend(stamp_ns for stamp_ns, _ in reader.clouds())
    assert len(stamps) > 10
    assert killed_ns - stamps[-1] < 1e9


def test_an_interrupt_within_compiled_code_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Met while numba makes its result Python's, an interrupt comes out as a SystemError, or as one of another."""
    kernel = numba.njit(lambda n: np.zeros(n))

    def strike(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "_numba_unpickle":
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGTERM)

    def compute(*_: object, **__: object) -> None:
        kernel(3)
        sys.setprofile(strike)
        try:
            kernel(3)
        finally:
            assert sys.getprofile() is None, "numba no longer unpickles there: strike elsewhere"

    monkeypatch.setattr("pc_perception.commands.inspect.run", compute)
    assert main(["inspect", "street"]) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_an_import_renames_is_one(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def load(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None  # as pybind11 has it

    monkeypatch.setattr("pc_perception.commands.inspect.run", load)
    own = signal.signal(number, signal.default_int_handler)  # background jobs begin with SIGINT ignored
    try:
        assert main(["inspect", "street"]) == 130
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, own)


def test_sigterm_leaves_a_complete_bag(tmp_path: Path, model_path: Path) -> None:
    bag, out = write_bag(tmp_path / "in.mcap", 1, count=2000, n=500), tmp_path / "out.mcap"

    def end_it() -> None:
        wait(lambda: out.is_file() and out.stat().st_size > 30_000, "the output's beginning")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_it).start()
    arguments = ["--model", str(model_path), "--device", "cpu", "--out", str(out)]
    assert main(["segment", str(bag), *arguments]) == 130
    with BagReader(out) as reader:  # whole: nothing is raised at its end
        clouds = list(reader.clouds("/segmentation"))
    assert 0 < len(clouds) < 2000


def test_an_interrupted_simulation_leaves_no_part_of_a_bag(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    command = [sys.executable, "-m", "pc_perception.cli", "simulate", "street", str(path), "--count", "500"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait(lambda: any(part.stat().st_size > 100_000 for part in tmp_path.iterdir()), "a part of the bag")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    path.touch()
    assert main(["simulate", "street", str(path), "--count", "1"]) == 1
