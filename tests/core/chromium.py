# SPDX-License-Identifier: Apache-2.0
"""A page in a real browser, for tests: headless Chromium, told what to do through its debugging pipe.

The pipe needs no package and no port, and Chromium ends with it. Printing the page from the command line
(``--dump-dom``) was given up: it waits on a virtual clock, which at times stood still for good.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BINARY = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-pipe",
)


class Refused(Exception):
    """The browser answered a command with an error."""


class Page:
    """One tab of the browser whose debugging pipe is read from ``answers`` and written to ``commands``.

    Every method raises TimeoutError when the browser does not answer in ``patience_s``.
    """

    def __init__(self, answers: int, commands: int, patience_s: float = 60.0) -> None:
        self._answers, self._commands, self._patience_s = answers, commands, patience_s
        self._received = b""
        self._number = 0
        self._session: dict[str, str] = {}
        target = self._do("Target.createTarget", url="about:blank")["targetId"]
        attached = self._do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def open(self, url: str) -> None:
        """Go to an address; does not wait for the page."""
        self._do("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression, or the promise that it gives, comes to."""
        found = self._do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait_until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true, also across pages that load one another."""

        def is_true() -> bool:
            try:
                return bool(self.value(condition))
            except Refused:  # asked of a page that was just left
                return False

        end = time.monotonic() + self._patience_s
        while not is_true():
            if time.monotonic() > end:
                raise TimeoutError(f"not in {self._patience_s:g} s: {condition}")
            time.sleep(0.05)

    def screenshot(self, path: Path) -> None:
        """Save the next drawn picture of the page as PNG."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        path.write_bytes(base64.b64decode(self._do("Page.captureScreenshot", format="png")["data"]))

    def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        end = time.monotonic() + self._patience_s
        while True:
            answer = self._next_message(method, end)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise Refused(f"{method}: {answer['error']}")
                return answer["result"]

    def _next_message(self, method: str, end: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            if not select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the browser has not answered {method} in {self._patience_s:g} s")
            data = os.read(self._answers, 1 << 16)
            assert data, f"the browser ended before it answered {method}"
            self._received += data
        message, self._received = self._received.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def page(profile: Path, width: int, height: int) -> Iterator[Page]:
    """Start Chromium with an empty profile folder and yield its page; no process of it is left behind."""
    assert BINARY, "no Chromium"
    answers, their_end = os.pipe()
    their_start, commands = os.pipe()
    redirect = f'exec "$@" 3<&{their_start} 4>&{their_end}'  # the descriptors that the flag speaks through
    size = f"--window-size={width},{height}"
    command = ["bash", "-c", redirect, "bash", BINARY, *_FLAGS, size, f"--user-data-dir={profile}"]
    silent = subprocess.DEVNULL
    process = subprocess.Popen(
        command,
        stdin=silent,
        stdout=silent,
        stderr=silent,
        pass_fds=(their_start, their_end),
        start_new_session=True,
    )
    os.close(their_start)
    os.close(their_end)
    try:
        yield Page(answers, commands)
    finally:
        os.close(commands)
        os.close(answers)
        os.killpg(process.pid, signal.SIGKILL)  # a session of its own: its helpers go with it
        process.wait()
