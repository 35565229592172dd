# SPDX-License-Identifier: Apache-2.0
"""Show labelled clouds while they are made: a page on loopback that any browser opens, also offline.

The page is the one of ``html.write_html``, which needs nothing from a network. It asks for the next cloud
when it has drawn the last, over plain HTTP: the newest cloud is packed when it is asked for, so that
nothing queues up before a slow browser and nothing is computed where no page is open. A viewer library
would bring a queue to bound, megabytes of packages, and no legend.
"""

from __future__ import annotations

import json
import struct
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.labels import LabelSet

from .html import Frame, columns_of, describe, pack, render_page

MAX_POINTS = 250_000
"""Larger clouds are thinned at random for the page."""
WAIT_S = 5.0
_WAITING = (
    '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="1"><title>waiting</title>'
    "<body style='background:#12141a;color:#e8eaf0;font:16px system-ui'>waiting for the first cloud"
)


class _Shown(NamedTuple):
    number: int
    frame: Frame
    label_set: LabelSet


class LiveView:
    """A server of one page, on this machine alone; a context manager.

    Args:
        title: of the page.
        port: 0 takes a free one; ``url`` says which.

    Raises:
        OSError: the port is taken, or is none.
    """

    def __init__(self, title: str, port: int = 0) -> None:
        self._title = title
        self._newest: _Shown | None = None
        self._described: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._closed = False
        try:
            self._server = _Server(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise OSError(f"port {port} cannot be used ({error}); choose another, or 0 for any") from error
        self._server.view = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, name="live view", daemon=True).start()

    def show(self, cloud: PointCloud, result: SegmentationResult, caption: str = "") -> None:
        """Make a labelled cloud the newest; never blocks. The arrays must not change afterwards."""
        frame = Frame(cloud, result.labels, result.confidence, caption=caption)
        with self._changed:
            number = self._newest.number + 1 if self._newest else 0
            self._newest = _Shown(number, frame, result.label_set)
            self._changed.notify_all()

    def close(self) -> None:
        """End the server; open pages say so."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def page(self) -> str:
        """Return the page with the newest cloud's description, or one that waits for the first."""
        shown = self._newest
        if shown is None:
            return _WAITING
        columns = columns_of([shown.frame])
        meta = describe(shown.frame, MAX_POINTS, shown.label_set, columns, self._title)
        limits = pack(shown.frame, MAX_POINTS, columns, len(shown.label_set)).meta
        self._described = meta
        empty = {**limits, "n": 0, "number": -1}  # the page fetches the points
        count = {"frames": [0, 0], "points": [0, 0]}
        return render_page({**meta, "live": True, "frames": [empty], "shown": count})

    def next_frame(self, after: int) -> tuple[HTTPStatus, bytes]:
        """Wait for a cloud newer than number ``after``; return 204 where none comes, 205 where the page is old."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._is_newer(after), WAIT_S)
            shown = self._newest
            if self._closed or shown is None or not self._is_newer(after):
                return HTTPStatus.NO_CONTENT, b""
        columns, classes = columns_of([shown.frame]), [*shown.label_set.classes, "unlabeled"]
        if (columns, classes) != (self._described.get("columns"), self._described.get("classes")):
            return HTTPStatus.RESET_CONTENT, b""
        packed = pack(shown.frame, MAX_POINTS, columns, len(shown.label_set))
        text = json.dumps({**packed.meta, "number": shown.number}).encode()
        return HTTPStatus.OK, struct.pack("<I", len(text)) + text + packed.data

    def _is_newer(self, after: int) -> bool:
        return self._newest is not None and self._newest.number > after


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    view: LiveView


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Answer a page's request."""
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):  # another site's name that was pointed at this machine
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"only as 127.0.0.1 or localhost")
            return
        where = urlsplit(self.path)
        if where.path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.view.page().encode())
        elif where.path == "/frame":
            after = parse_qs(where.query).get("after", [""])[0]
            number = int(after) if after.removeprefix("-").isdecimal() else -1
            status, data = self.server.view.next_frame(number)
            self._answer(status, "application/octet-stream", data)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is / alone")

    def _answer(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if status is not HTTPStatus.NO_CONTENT:
                self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:
            self.close_connection = True  # the page was closed meanwhile

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: stdout and stderr are the command's."""
