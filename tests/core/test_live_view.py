# SPDX-License-Identifier: Apache-2.0
"""The live page: what its server answers, and what a real browser makes of it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.commands import segment
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.io.files import write_cloud
from pc_perception.labels import UNLABELED, load_label_set
from pc_perception.visualization import live
from pc_perception.visualization.live import LiveView

from . import chromium
from .conftest import make_cloud
from .test_visualization import street

STREET = load_label_set("street8")
ROOM = load_label_set("room9")


@pytest.fixture
def view() -> Iterator[LiveView]:
    with LiveView("street on /points") as made:
        yield made


def labelled(n: int = 4000, label_set=STREET):  # type: ignore[no-untyped-def]
    cloud, labels = street(n)
    labels[:7] = UNLABELED
    return cloud, SegmentationResult(labels, np.full(n, 0.9, np.float32), label_set, {"network": 12.0})


def get(url: str, path: str, host: str | None = None) -> tuple[int, bytes]:
    with closing(
        http.client.HTTPConnection(url.removeprefix("http://").strip("/"), timeout=20)
    ) as connection:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_the_page_waits_for_the_first_cloud_and_then_describes_it(view: LiveView) -> None:
    status, page = get(view.url, "/")
    assert (status, b"waiting for the first cloud" in page) == (200, True)
    view.show(*labelled())
    _, page = get(view.url, "/")
    meta = json.loads(re.search(rb'id="meta">(.*?)</script>', page)[1])  # type: ignore[index]
    assert meta["live"] is True
    assert meta["classes"] == [*STREET.classes, "unlabeled"]
    assert b"http://" not in page.replace(b"http://www.w3.org", b"")  # nothing from a network
    assert b"https://" not in page


def test_the_newest_cloud_is_sent_and_older_ones_left_out(view: LiveView) -> None:
    for caption in "abc":
        view.show(*labelled(), caption=caption)
    get(view.url, "/")
    status, data = get(view.url, "/frame?after=-1")
    assert status == 200
    size = struct.unpack("<I", data[:4])[0]
    info = json.loads(data[4 : 4 + size])
    assert (info["number"], info["caption"], info["n"]) == (2, "c", 4000)
    columns = data[4 + size :]
    xyz = np.frombuffer(columns[: 6 * 4000], "<u2").reshape(-1, 3)
    cloud, result = labelled()
    found = np.array(info["low"]) + xyz / 65535 * np.array(info["span"])
    assert np.abs(found - cloud.xyz).max() < 1e-3 * max(info["span"])
    labels = np.frombuffer(columns[6 * 4000 : 7 * 4000], np.uint8)
    assert np.array_equal(labels, np.where(result.labels == UNLABELED, len(STREET), result.labels))


def test_a_page_of_other_classes_is_told_to_load_again(
    view: LiveView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WAIT_S", 0.05)
    view.show(*labelled())
    get(view.url, "/")
    assert get(view.url, "/frame?after=0") == (204, b"")
    view.show(*labelled(label_set=ROOM))
    assert get(view.url, "/frame?after=0") == (205, b"")
    get(view.url, "/")
    assert get(view.url, "/frame?after=0")[0] == 200


def test_only_this_machine_by_its_own_name(view: LiveView) -> None:
    assert view.url.startswith("http://127.0.0.1:")
    assert get(view.url, "/", host="attacker.example:80")[0] == 403
    assert get(view.url, "/etc/passwd")[0] == 404


def test_large_clouds_are_thinned_and_empty_ones_shown(
    view: LiveView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_POINTS", 100)
    view.show(*labelled())
    get(view.url, "/")
    data = get(view.url, "/frame?after=-1")[1]
    assert json.loads(data[4 : 4 + struct.unpack("<I", data[:4])[0]])["n"] == 100
    nothing = PointCloud(np.empty((0, 3), np.float32), {"intensity": np.empty(0, np.float32)})
    empty = SegmentationResult(np.empty(0, np.uint16), np.empty(0, np.float32), STREET, {})
    view.show(nothing, empty)
    assert get(view.url, "/frame?after=0")[0] == 200
    assert get(view.url, "/")[0] == 200


def test_segment_shows_what_it_labels_until_interrupted(
    tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    class Recorded(LiveView):
        """The same page, and a browser that ends the command once it has seen it."""

        def show(self, *arguments: Any) -> None:
            super().show(*arguments)
            seen.append(get(self.url, "/")[1])
            threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGTERM]).start()

    monkeypatch.setattr(segment, "LiveView", Recorded)
    write_cloud(tmp_path / "sweep.pcd", make_cloud(0))
    arguments = ["--view", "--model", str(model_path), "--device", "cpu"]
    assert main(["segment", str(tmp_path / "sweep.pcd"), *arguments]) == 130
    assert b'"live":true' in seen[0]


@pytest.mark.slow
@pytest.mark.skipif(not chromium.BINARY, reason="no Chromium: apt-get install chromium-headless-shell")
def test_a_browser_shows_cloud_legend_and_latency(view: LiveView, tmp_path: Path) -> None:
    cloud, result = labelled()
    with chromium.page(tmp_path / "profile", 640, 400) as page:
        page.open(view.url)
        page.wait_until("document.title == 'waiting'")
        view.show(cloud, result, "85 ms old")
        page.wait_until("document.body?.innerHTML.includes(' · 85 ms old')")
        page.screenshot(tmp_path / "page.png")
        dom = page.value("document.documentElement.outerHTML")
    lines = dict(re.findall(r"</i>([^<]+)<span>([\d,]+)</span>", dom))
    counts = result.label_set.count(result.labels)
    assert {name: int(lines[name].replace(",", "")) for name in counts} == counts
    assert re.search(r'id="where">\d+ · 85 ms old<', dom)
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    left_of_the_legend = pixels[:, :350].reshape(-1, 3)
    for name in ("road", "building"):  # shading darkens a colour and keeps its hue
        color = np.array(STREET.colors[STREET.classes.index(name)], float)
        scale = left_of_the_legend @ color / (color @ color)
        near = np.abs(left_of_the_legend - scale[:, None] * color).max(1) < 12
        assert (near & (scale > 0.3) & (scale < 1.05)).sum() > 300, name
