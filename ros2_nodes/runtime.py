# SPDX-License-Identifier: Apache-2.0
"""How a node's process starts and ends, and what it keeps about itself (``inference.vitals``). Without ROS."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pc_perception.inference.vitals import ERROR, OK, WARN, RateLimiter, Report, Stopwatch, Vitals, Words

__all__ = [
    "ERROR",
    "OK",
    "WARN",
    "RateLimiter",
    "Report",
    "Stopwatch",
    "Vitals",
    "Words",
    "interrupts",
    "limit_threads",
    "run_node",
    "run_nodes",
]

interrupts: list[int] = []
"""Signals that have told this process to end."""


def limit_threads(threads: int) -> None:
    """Set the thread count of torch and Numba, idle threads waiting without burning a core.

    The environment is read when these libraries are loaded, so this comes before their import; a torch
    that is already loaded is told as well. ``threads`` 0 leaves their own choice.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if threads > 0:
        for library, variable in (("torch", "OMP_NUM_THREADS"), ("numba", "NUMBA_NUM_THREADS")):
            if library not in sys.modules:
                os.environ[variable] = str(threads)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)


def run_node(name: str, make: Callable[[], Any], args: list[str] | None = None) -> None:
    """Run a node until it is interrupted; exit 1 with one sentence where its parameters are wrong."""
    run_nodes(name, [make], args)


def run_nodes(name: str, makers: Sequence[Callable[[], Any]], args: list[str] | None = None) -> None:
    """Run nodes in one process, with one executor, as ``run_node`` does."""
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    def interrupt(number: int, _: object) -> None:
        # Ctrl-C comes from the terminal and again from launch; the second must not cut the end short. Only
        # SIG_IGN outlives the interpreter's own end.
        signal.signal(number, signal.SIG_IGN)
        interrupts.append(number)
        raise KeyboardInterrupt

    def ignored(what: sys.UnraisableHookArgs) -> None:
        # LLVM calls back while numba compiles. What is raised there, the interrupt too, is lost and printed.
        if not interrupts:
            sys.__unraisablehook__(what)

    sys.unraisablehook = ignored
    # Not rclpy's handlers: those take the context away under a sweep or a configure that goes on. These
    # end either at once, with publishers that still work.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    nodes: list[Any] = []
    try:
        executor = SingleThreadedExecutor()
        try:
            for make in makers:
                nodes.append(make())
                executor.add_node(nodes[-1])
        except ValueError as error:
            rclpy.logging.get_logger(name).fatal(str(error))
            sys.exit(1)
        while rclpy.ok() and not interrupts:
            executor.spin_once(timeout_sec=0.5)  # interrupts are seen between two of these
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (RuntimeError, SystemError):
        # An interrupt while rclpy or numba convert something comes out as another error of the conversion's.
        if not interrupts:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
