# SPDX-License-Identifier: Apache-2.0
"""The range image against a loop in float64, and its two backends against each other."""

from concurrent.futures import ThreadPoolExecutor
from math import pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops.parallel import team
from pc_perception.ops.range_image import RangeImage, range_image

BACKENDS = ["torch", "numba"]
LIMITS = (-0.5, 0.3)


def _sweep(n: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    azimuth = torch.rand(n, generator=g) * 2 * pi - pi
    elevation = torch.rand(n, generator=g) * 1.2 - 0.6
    radius = torch.randint(1, 6, (n,), generator=g)
    return radius[:, None] * torch.stack(
        [elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], 1
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 300), st.integers(1, 9), st.integers(1, 40), st.integers(0, 99), st.booleans())
def test_backends_agree_exactly(n: int, height: int, width: int, seed: int, by_ring: bool) -> None:
    xyz = _sweep(n, seed)
    ring = torch.randint(0, height, (n,), generator=torch.Generator().manual_seed(seed)) if by_ring else None
    a, b = (range_image(xyz, (height, width), LIMITS, ring, backend) for backend in BACKENDS)
    assert torch.equal(a.index, b.index)
    assert torch.equal(a.range, b.range)


@pytest.mark.parametrize("backend", BACKENDS)
def test_matches_a_loop(backend: str) -> None:
    xyz, (height, width) = _sweep(2000, 1), (16, 64)
    x, y, z = xyz.double().numpy().T
    row = (LIMITS[1] - np.arctan2(z, np.hypot(x, y))) / (LIMITS[1] - LIMITS[0]) * height
    column = (pi - np.arctan2(y, x)) / (2 * pi) * width
    clear = (np.abs(row - row.round()) > 1e-4) & (np.abs(column - column.round()) > 1e-4)
    radius = np.linalg.norm(xyz.double().numpy(), axis=1).astype(np.float32)
    expected = np.full((height, width), -1)
    for i in np.flatnonzero(clear & (row >= 0) & (row <= height)):
        pixel = int(row[i]), int(column[i])
        if expected[pixel] < 0 or radius[i] < radius[expected[pixel]] - 1e-5:
            expected[pixel] = i
    image = range_image(xyz[torch.from_numpy(clear)], (height, width), LIMITS, backend=backend)
    kept = np.append(np.flatnonzero(clear), -1)
    found = kept[image.index.numpy()]
    assert np.array_equal(found >= 0, expected >= 0)
    np.testing.assert_allclose(np.append(radius, 0)[found], np.append(radius, 0)[expected], atol=1e-5)
    np.testing.assert_allclose(image.range.numpy(), np.append(radius, 0)[found], atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_directions_ties_and_points_without_direction(backend: str) -> None:
    left, right, ahead = [0.0, 5.0, 0.0], [0.0, -5.0, 0.0], [5.0, 0.0, 0.0]
    nothing = [[torch.nan, 0.0, 0.0], [torch.inf, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 9.0]]
    xyz = torch.tensor(
        [*nothing, [9.0, 0.1, 0.0], ahead, ahead, left, right, [-5.0, 0.0, 0.0], [-4.0, -0.0, 0.0]]
    )
    image = range_image(xyz, (1, 4), LIMITS, backend=backend)
    # Backwards at the left edge; -pi and +pi are one direction.
    assert image.index.tolist() == [[10, 7, 5, 8]]
    assert image.range.tolist() == [[4.0, 5.0, 5.0, 5.0]]
    ring = torch.tensor([0, 1] * 5 + [1], dtype=torch.uint8)
    by_ring = range_image(xyz.double(), (2, 4), ring=ring, backend=backend)
    assert by_ring.index.tolist() == [[-1, 4, 6, 8], [10, 7, 5, -1]]
    empty = range_image(xyz[:0], (2, 3), backend=backend)
    assert bool((empty.index == -1).all() & (empty.range == 0).all())


def test_refuses_what_does_not_fit() -> None:
    xyz = torch.ones(2, 3)
    with pytest.raises(ValueError, match="must be \\(N, 3\\)"):
        range_image(xyz[:, :2], (2, 2))
    with pytest.raises(ValueError, match="elevations must rise"):
        range_image(xyz, (2, 2), (0.3, -0.5))
    with pytest.raises(ValueError, match=r"rings must be in 0 \.\. 1"):
        range_image(xyz, (2, 2), ring=torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="integers"):
        range_image(xyz, (2, 2), ring=torch.tensor([0.0, 1.0]))


def test_concurrent_calls_in_teams() -> None:
    xyz = _sweep(5000, 2)
    expected = range_image(xyz, (16, 90), LIMITS, backend="torch")

    def call(_: int) -> torch.Tensor:
        with team():
            return range_image(xyz, (16, 90), LIMITS).index

    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(index, expected.index) for index in pool.map(call, range(16)))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_given_image_takes_the_result(backend: str) -> None:
    xyz = torch.randn(3000, 3, generator=torch.Generator().manual_seed(5))
    fresh = range_image(xyz, (8, 64), backend=backend)
    given_image = RangeImage(torch.full((8, 64), 7), torch.full((8, 64), torch.nan))
    assert range_image(xyz, (8, 64), backend=backend, out=given_image) is given_image
    assert torch.equal(given_image.index, fresh.index)
    assert torch.equal(given_image.range, fresh.range)
    with pytest.raises(ValueError, match="out must be"):
        range_image(xyz, (8, 65), backend=backend, out=given_image)
