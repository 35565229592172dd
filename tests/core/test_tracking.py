# SPDX-License-Identifier: Apache-2.0
"""Tracks against motions that are known, and against clocks that misbehave."""

import numpy as np
import pytest

from pc_perception.inference.tracking import MAX_GAP_S, Tracker, TrackingOptions

PERIOD_NS = 100_000_000
START_NS = 1_700_000_000_000_000_000


def sure(*classes: int) -> np.ndarray:
    """(K, 3) scores of detections that look like ``classes``."""
    return np.eye(3, dtype=np.float32)[list(classes)] * 0.7 + 0.1


def drive(
    tracker: Tracker, velocity: np.ndarray, n: int, rng: np.random.Generator, start: np.ndarray
) -> list:
    """Feed ``n`` sweeps of objects that move steadily, in changing order; return (tracks, order) of each."""
    out = []
    for i in range(n):
        order = rng.permutation(len(start))
        centers = start + velocity * i * PERIOD_NS * 1e-9 + rng.normal(0, 0.1, start.shape)
        scores = sure(*(k % 3 for k in range(len(start))))
        out.append((tracker(START_NS + i * PERIOD_NS, centers[order], scores[order]), order))
    return out


def test_identity_and_velocity_of_crossing_objects() -> None:
    rng = np.random.default_rng(0)
    start = np.array([[0.0, -5.0], [0.0, 5.0], [20.0, 0.0], [-10.0, 0.0]])
    velocity = np.array([[0.0, 4.0], [0.0, -4.0], [-12.0, 0.0], [0.0, 0.0]])
    start[1, 0] = 3.0  # they pass each other 3 m apart
    seen = drive(Tracker(3), velocity, 30, rng, start)
    ids = np.array([tracks.ids[np.argsort(order)] for tracks, order in seen])
    assert (ids == ids[0]).all()
    assert len(set(ids[0].tolist())) == 4
    last, order = seen[-1]
    assert last.velocities[np.argsort(order)] == pytest.approx(velocity, abs=0.5)
    assert last.scores[np.argsort(order)].argmax(1).tolist() == [0, 1, 2, 0]


def test_birth_and_death() -> None:
    tracker = Tracker(3, TrackingOptions(confirm_after=3, lost_after_s=0.35))
    here, nothing = np.zeros((1, 2)), np.zeros((0, 2))
    confirmed, ids = [], []
    for i in range(4):
        tracks = tracker(START_NS + i * PERIOD_NS, here, sure(1))
        confirmed += tracks.confirmed.tolist()
        ids += tracks.ids.tolist()
        assert np.isnan(tracks.velocities).all() == (i < 2)
    assert (confirmed, set(ids)) == ([False, False, True, True], {1})
    for i in range(4, 7):  # hidden for 0.3 s
        assert len(tracker(START_NS + i * PERIOD_NS, nothing, sure()).ids) == 0
    assert tracker(START_NS + 7 * PERIOD_NS, here, sure(1)).ids.tolist() == [1]
    for i in range(8, 12):  # hidden for too long
        tracker(START_NS + i * PERIOD_NS, nothing, sure())
    assert len(tracker) == 0
    again = tracker(START_NS + 12 * PERIOD_NS, here, sure(1))
    assert (again.ids.tolist(), again.confirmed.tolist()) == ([2], [False])
    tracker(START_NS + 13 * PERIOD_NS, nothing, sure())
    assert len(tracker) == 0  # one that was never confirmed ends with the first sweep without it


def test_nothing_beyond_the_gate_is_taken_for_the_same() -> None:
    tracker = Tracker(3)
    for i in range(10):
        tracker(START_NS + i * PERIOD_NS, np.zeros((1, 2)), sure(0))
    jumped = tracker(START_NS + 10 * PERIOD_NS, np.array([[4.0, 0.0]]), sure(0))
    assert jumped.ids.tolist() == [2]


def test_points_measured_late_in_the_sweep() -> None:
    """Centres that lag by the time within the sweep give the same velocity when the lag is told."""
    tracker, rng = Tracker(3), np.random.default_rng(1)
    for i in range(30):
        late = rng.uniform(0, 0.1, 1)
        centers = np.array([[10.0 * (i * 0.1 + late[0]), 0.0]])
        tracks = tracker(START_NS + i * PERIOD_NS, centers, sure(0), late)
    assert tracks.velocities[0] == pytest.approx([10.0, 0.0], abs=0.02)


def test_classes_add_up_and_can_be_unlearned() -> None:
    tracker = Tracker(3)
    stamps = iter(range(START_NS, START_NS + 100 * PERIOD_NS, PERIOD_NS))

    def told(*classes: int) -> int:
        for k in classes:
            tracks = tracker(next(stamps), np.zeros((1, 2)), sure(k))
        return int(tracks.scores[0].argmax())

    assert told(1, 1, 1, 2) == 1  # one sweep does not turn it over
    assert told(*[2] * 20) == 2
    silent = tracker(next(stamps), np.zeros((1, 2)), np.zeros((1, 3)))
    assert int(silent.scores[0].argmax()) == 2  # a sweep that says nothing changes nothing
    nothing = Tracker(3)(START_NS, np.zeros((1, 2)), np.zeros((1, 3)))
    assert nothing.scores.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("step_ns", [-PERIOD_NS, int((MAX_GAP_S + 1) * 1e9)])
def test_a_clock_that_jumps_ends_all_tracks(step_ns: int) -> None:
    tracker = Tracker(3)
    for i in range(5):
        tracker(START_NS + i * PERIOD_NS, np.zeros((1, 2)), sure(0))
    after = tracker(START_NS + 4 * PERIOD_NS + step_ns, np.zeros((1, 2)), sure(0))
    assert (after.ids.tolist(), after.confirmed.tolist()) == ([2], [False])


def test_stamps_of_zero_keep_identity_but_give_no_velocity() -> None:
    tracker = Tracker(3)
    for i in range(10):
        tracks = tracker(0, np.array([[0.5 * i, 0.0]]), sure(0))
        assert np.isnan(tracks.velocities).all()
        assert tracks.ids.tolist() == [1]
    assert tracks.confirmed.all()
    assert tracker(START_NS, np.array([[5.0, 0.0]]), sure(0)).ids.tolist() == [2]


def test_the_same_stamp_twice() -> None:
    tracker = Tracker(3)
    for _ in range(5):
        tracks = tracker(START_NS, np.zeros((1, 2)), sure(0))
    assert tracks.ids.tolist() == [1]
    assert np.isfinite(tracks.velocities).all()


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        TrackingOptions(gate=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        TrackingOptions(confirm_after=0)
