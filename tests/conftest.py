# SPDX-License-Identifier: Apache-2.0
"""The whole suite ends: a run that hangs says where, instead of waiting for somebody to stop it.

A single test's limit is pytest's own (``faulthandler_timeout`` in pyproject.toml); this is the limit of what
comes after the last test, where Python waits for every thread that a test left running.
"""

from __future__ import annotations

import faulthandler

LEAVE_S = 120


def pytest_unconfigure() -> None:
    """Show every thread's place and end the process, if it has not ended by itself in time."""
    faulthandler.dump_traceback_later(LEAVE_S, exit=True)
