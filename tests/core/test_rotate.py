# SPDX-License-Identifier: Apache-2.0
"""Turning a cloud: the matrix product's result, whatever the rows hold and however many threads share them."""

import numpy as np
import pytest
import torch

from pc_perception.geometry import rotation_x, rotation_z
from pc_perception.ops.parallel import team
from pc_perception.ops.rotate import rotate

R = rotation_z(0.4) @ rotation_x(-1.2)


@pytest.mark.parametrize("n", [0, 1, 100_000])
def test_equals_the_product(n: int) -> None:
    points = np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32)[:, ::2]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with team():
            turned = rotate(points, R)
    finally:
        torch.set_num_threads(threads)
    assert turned.dtype == np.float32
    np.testing.assert_allclose(turned, points @ R.T, atol=1e-6)


def test_rows_that_are_no_point_stay_none() -> None:
    points = np.array([[np.nan, 0, 0], [1, 2, 3], [np.inf, 1, 1]], np.float32)
    assert np.isfinite(rotate(points, R)).all(1).tolist() == [False, True, False]
