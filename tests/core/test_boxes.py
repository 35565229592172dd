# SPDX-License-Identifier: Apache-2.0
"""Boxes around points against boxes that are known; completion against the object behind what is seen."""

import numpy as np
import pytest
import torch

from pc_perception.inference.boxes import TYPICAL_SIZES, complete_boxes, half_turn
from pc_perception.ops.boxes import level_boxes

BACKENDS = ["torch", "numba"]


def corner(heading: float, at: tuple[float, float], size: tuple[float, float], seed: int = 0) -> np.ndarray:
    """(n, 3) points with 2 cm noise on the two faces of a box that the origin sees."""
    rng = np.random.default_rng(seed)
    c, s = np.cos(heading), np.sin(heading)
    center, axes = np.array(at), np.array([[c, s], [-s, c]])
    signs = -np.sign(axes @ center)
    along = rng.uniform(-0.5, 0.5, (120, 2)) * size
    along[:60, 0] = signs[0] * size[0] / 2
    along[60:, 1] = signs[1] * size[1] / 2
    xy = center + (along + rng.normal(0, 0.02, along.shape)) @ axes
    return np.column_stack([xy, rng.uniform(-1.5, 0, 120)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_faces_give_the_box(backend: str) -> None:
    poses = [(0.3, (10.0, 4.0)), (-1.1, (-6.0, 9.0)), (1.5, (3.0, -12.0)), (0.0, (-15.0, -1.5))]
    points = [corner(heading, at, (4.5, 1.8), seed) for seed, (heading, at) in enumerate(poses)]
    xyz = torch.from_numpy(np.concatenate(points))
    group = torch.arange(4).repeat_interleave(120)
    shuffled = torch.randperm(480, generator=torch.Generator().manual_seed(0))
    boxes = level_boxes(xyz[shuffled], group[shuffled], 4, backend=backend).numpy()
    for (heading, at), box in zip(poses, boxes, strict=True):
        assert np.linalg.norm(box[:2] - at) < 0.12
        assert box[3:5] == pytest.approx([4.5, 1.8], abs=0.2)
        assert box[5] == pytest.approx(1.5, abs=0.05)
        assert abs(half_turn(np.array(box[6] - heading))) < np.radians(2.5)


def test_backends_agree_and_points_lie_in_their_boxes() -> None:
    g = torch.Generator().manual_seed(1)
    xyz, group = torch.randn(2000, 3, generator=g), torch.randint(-1, 40, (2000,), generator=g)
    a, b = (level_boxes(xyz, group, 41, backend=backend) for backend in BACKENDS)
    torch.testing.assert_close(a, b, equal_nan=True)
    assert bool(a[40].isnan().all())
    own = a[group[group >= 0]]
    inside = xyz[group >= 0].double() - own[:, :3]
    c, s = own[:, 6].cos(), own[:, 6].sin()
    along, across = inside[:, 0] * c + inside[:, 1] * s, inside[:, 1] * c - inside[:, 0] * s
    within = torch.stack([along, across, inside[:, 2]], 1).abs() <= own[:, 3:6] / 2 + 1e-9
    assert bool(within.all())
    assert bool((own[:, 3] >= own[:, 4]).all())
    assert bool((own[:, 6] > -torch.pi / 2).all() and (own[:, 6] <= torch.pi / 2).all())


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_point_lines_and_nothing(backend: str) -> None:
    one = level_boxes(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0]), 1, backend=backend)
    assert one[0, :6].tolist() == [1, 2, 3, 0, 0, 0]
    steps = torch.arange(11.0)[:, None]
    line = level_boxes(steps * torch.tensor([0.6, 0.8, 0.0]), torch.zeros(11).long(), 1, 90, backend)
    assert line[0, 3:6].tolist() == pytest.approx([10, 0, 0], abs=0.1)
    assert float(line[0, 6]) == pytest.approx(np.arctan2(0.8, 0.6), abs=0.01)
    assert level_boxes(torch.zeros(0, 3), torch.zeros(0).long(), 0, backend=backend).shape == (0, 7)
    with pytest.raises(ValueError, match="outside -1"):
        level_boxes(torch.zeros(1, 3), torch.tensor([1]), 1, backend=backend)
    with pytest.raises(ValueError, match="needs \\(N, 3\\)"):
        level_boxes(torch.zeros(1, 2), torch.tensor([0]), 1, backend=backend)


def test_what_is_hidden_lies_behind_what_is_seen() -> None:
    length, width, height = TYPICAL_SIZES["car"]
    # The rear of a car that drives ahead: 1.8 m wide, 0.3 m deep; then its flank on the left; then the same unknown.
    rear = [10.0, 0.0, -1.2, 1.8, 0.3, 1.0, np.pi / 2]
    flank = [2.0, 6.0, -1.0, 4.4, 0.4, 1.4, 0.0]
    boxes = complete_boxes(np.array([rear, flank, flank]), ["car", "car", "unknown"])
    assert boxes[0, 3:6] == pytest.approx([length, width, height])
    assert abs(half_turn(boxes[0, 6])) < 1e-9
    assert boxes[0, 0] - length / 2 == pytest.approx(10 - 0.15)  # the rear stays where it is
    assert boxes[0, 2] - height / 2 == pytest.approx(-1.2 - 0.5)  # and so does the ground
    assert boxes[1, 3:6] == pytest.approx([length, width, height])
    assert boxes[1, 1] - width / 2 == pytest.approx(6 - 0.2)
    assert boxes[1, 0] == pytest.approx(2.0)  # right beside the sensor: either end may be cut off
    assert boxes[2].tolist() == flank
    assert complete_boxes(np.zeros((0, 7)), []).shape == (0, 7)
