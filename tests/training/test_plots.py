# SPDX-License-Identifier: Apache-2.0
"""The figures of PointACL's log come out as a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from shapes import SMALL, object_run, write_objects

from training.methods.point_acl import PointAcl
from training.plots import draw, main, read_curves
from training.run import train

SVG = "{http://www.w3.org/2000/svg}"


def test_the_monitors_of_a_run_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_objects(tmp_path / "objects", [0])
    method = PointAcl(monitor=2)
    run = object_run(
        folder,
        tmp_path / "run",
        method=method,
        label_set="",
        encoder=SMALL,
        max_steps=8,
        cycles=2,
        log_steps=2,
        batch_size=4,
    )
    train(run)
    curves = read_curves(tmp_path / "run")
    figures = ("scores_entropy", "scores_drift", "masks_overlap", "gradient_chamfer", "gradient_contrast")
    for name in figures:
        assert any(name in found for found in curves), name
    assert main([str(tmp_path / "run"), "--names", "scores,masks,gradient"]) == 0
    out = Path(capsys.readouterr().out.splitlines()[-1])
    panels = ElementTree.parse(out).getroot().findall(f"{SVG}g")
    titles = [panel.findall(f"{SVG}text")[0].text or "" for panel in panels]
    assert len(titles) >= len(figures)
    assert not any("loss" in title for title in titles)
    assert main([str(tmp_path / "run"), "--names", "speed"]) == 1
    assert main([str(folder)]) == 1
    assert "no TensorBoard file" in capsys.readouterr().err


def test_a_curve_by_hand() -> None:
    curve = (np.array([0, 10, 20]), np.array([1.0, np.nan, 3.0]))
    panel = ElementTree.fromstring(draw({"a<b": curve})).findall(f"{SVG}g")[0]
    assert panel.findall(f"{SVG}polyline")[0].attrib["points"] == "44.0,176.0 408.0,24.0"
    assert [t.text for t in panel.findall(f"{SVG}text")] == ["a<b", "3", "1", "0", "20"]
