# SPDX-License-Identifier: Apache-2.0
"""The figures of objects on sightings whose figures can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.instances import by_class, table
from benchmarks.instances_measure import Score, Truth
from pc_perception.inference.object_results import ObjectsResult
from pc_perception.labels import UNLABELED, load_label_set

LABELS = load_label_set("objects16")


def found(
    centers: list[tuple[float, float]], names: list[str], ids: list[int], n_points: int = 40
) -> ObjectsResult:
    """Objects of 4 x 2 x 1.5 m that face x, 20 points each."""
    T = np.tile(np.eye(4), (len(centers), 1, 1))
    T[:, :2, 3] = np.array(centers).reshape(-1, 2)
    labels = [LABELS.classes.index(n) if n != "unknown" else UNLABELED for n in names]
    return ObjectsResult(
        index=np.minimum(np.arange(n_points) // 20, len(centers) - 1),
        T_cloud_box=T,
        sizes=np.tile([4.0, 2.0, 1.5], (len(centers), 1)),
        labels=np.array(labels, np.uint16),
        scores=np.ones((len(centers), len(LABELS)), np.float32),
        track_ids=np.array(ids),
        confirmed=np.ones(len(centers), bool),
        velocities=np.tile([1.0, 0.0, 0.0], (len(centers), 1)),
        label_set=LABELS,
        milliseconds={},
    )


def truth(track: int, at: tuple[float, float], name: str = "car", points: tuple[int, int] = (0, 20)) -> Truth:
    rows = np.arange(*points)
    size, velocity = np.array([4.5, 1.8, 1.5]), np.array([1.0, 2.0, 0.0])
    return Truth(track, name, np.array([*at, 0.0]), size, np.pi, velocity, rows, len(rows))


def test_one_found_one_missed_one_invented() -> None:
    score = Score(gate_m=1.0)
    truths = [truth(1, (10.0, 0.6)), truth(2, (0.0, 20.0), "pedestrian", (20, 36))]
    score.add(found([(10.0, 0.0), (5.0, 5.0)], ["truck", "car"], [7, 8]), truths)
    figures = score.figures()
    assert (figures["asked"], figures["recall"], figures["precision"]) == (2, 0.5, 0.5)
    assert figures["mask_recall"] == 1.0  # 16 of 20 points are the pedestrian's: overlap 0.8
    assert (figures["class"], figures["unknown"]) == (0.0, 0.0)
    assert figures["center_m"] == pytest.approx(0.6)
    assert (figures["length_m"], figures["width_m"]) == (pytest.approx(0.5), pytest.approx(0.2))
    assert figures["heading_deg"] == pytest.approx(0.0, abs=1e-9)  # from behind as well as from the front
    assert figures["moving_m_s"] == pytest.approx(2.0)
    assert "standing_m_s" not in figures
    assert Score(gate_m=0.5).figures()["recall"] == 0.0


def test_changes_of_id_are_counted_over_gaps() -> None:
    score = Score()
    for number in (7, 7, None, 9, 9):
        seen = (
            found([(10.0, 0.0)], ["car"], [number], 20) if number else found([(25.0, 0.0)], ["car"], [1], 20)
        )
        score.add(seen, [truth(1, (10.0, 0.0))])
    assert score.switches == 1
    assert score.figures()["switches_100"] == 25.0


def test_what_is_not_asked_for_is_not_held_against_us() -> None:
    score = Score(range_m=30.0, least_points=10)
    far = truth(1, (40.0, 0.0))
    few = truth(2, (10.0, 0.0), "car", (0, 5))
    score.add(found([(40.0, 0.0), (10.0, 0.0)], ["car", "car"], [1, 2]), [far, few])
    figures = score.figures()
    assert (figures["asked"], figures["precision"]) == (0, 1.0)  # near, of few points, and right
    score.add(found([(10.0, 10.0)], ["pole"], [3], 20), [])
    assert score.figures()["precision"] == 1.0  # poles are no movable class


def test_nearest_pairs_are_taken_once() -> None:
    score = Score()
    score.add(found([(10.0, 0.0), (10.5, 0.0)], ["car", "car"], [1, 2]), [truth(1, (10.1, 0.0))])
    assert score.figures()["center_m"] == pytest.approx(0.1)
    assert score.figures()["precision"] == 0.5


def test_tables() -> None:
    scores = [Score(), Score()]
    scores[0].add(found([(10.0, 0.0)], ["car"], [1], 20), [truth(1, (10.0, 0.0))])
    scores[1].add(replace(found([(20.0, 0.0)], ["car"], [1], 20)), [truth(1, (10.0, 0.0))])
    lines = list(table({"way": scores}))
    assert "| objects asked for | 2 |" in lines
    assert "| found | 0.500 ± 0.707 |" in lines
    assert "| centre, m | 0.000 |" in lines  # known from one drive only: no spread
    assert list(by_class({"way": scores}))[2:] == ["| car | 0.50 (1 of 2) |"]
