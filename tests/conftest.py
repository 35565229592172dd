# SPDX-License-Identifier: Apache-2.0
"""The whole suite ends: a run that hangs says where, instead of waiting for somebody to stop it.

pytest has such a limit for single tests, but ends the run by it only since version 9; and none for what comes after
the last test, where Python waits for every thread that a test left running.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from functools import cache

import pytest

TEST_S, LEAVE_S = 900, 120
"""The slowest test takes half a minute on two quiet cores."""


@cache
def _stderr() -> int:
    """Return the process's stderr as it is between tests; within them pytest captures it."""
    return os.dup(2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Show every thread's place and end the process, if a test does not end."""
    faulthandler.dump_traceback_later(TEST_S, exit=True, file=_stderr())
    yield
    faulthandler.cancel_dump_traceback_later()


def pytest_unconfigure() -> None:
    """Do the same if the process does not end."""
    faulthandler.dump_traceback_later(LEAVE_S, exit=True, file=_stderr())
