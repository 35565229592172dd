# SPDX-License-Identifier: Apache-2.0
"""SLIC on pictures whose segments are known."""

import numpy as np
import pytest
from scipy.ndimage import label

from training.data.superpixels import lab_of, slic


def picture() -> np.ndarray:
    """Two colours with a slanted border, and noise."""
    y, x = np.mgrid[0:120, 0:200]
    rgb = np.where((x > 80 + y // 3)[..., None], [200, 60, 40], [40, 90, 180])
    return (rgb + np.random.default_rng(0).normal(0, 4, rgb.shape)).clip(0, 255).astype(np.uint8)


def test_segments_are_connected_even_and_stop_at_borders() -> None:
    rgb = picture()
    found = slic(rgb, 60, 6.0, 1.0)
    assert found.shape == rgb.shape[:2]
    assert found.dtype == np.uint8
    n = int(found.max()) + 1
    assert sorted(np.unique(found)) == list(range(n))
    assert 40 <= n <= 80
    assert all(label(found == s)[1] == 1 for s in range(n))
    red = rgb[..., 0] > 120
    share = np.array([red[found == s].mean() for s in range(n)])
    assert (np.minimum(share, 1 - share) < 0.1).mean() > 0.95
    size = np.bincount(found.ravel())
    assert size.max() < 6 * size.mean()


def test_one_colour_gives_a_grid() -> None:
    found = slic(np.full((60, 90, 3), 99, np.uint8), 24, 6.0, 1.0)
    assert found.max() + 1 == 24
    assert np.ptp(np.bincount(found.ravel())) < 120


def test_lab() -> None:
    """White is (100, 0, 0); red as colour science has it."""
    np.testing.assert_allclose(lab_of(np.array([255.0, 255, 255], np.float32)), [100, 0, 0], atol=0.05)
    np.testing.assert_allclose(lab_of(np.array([255.0, 0, 0], np.float32)), [53.24, 80.09, 67.20], atol=0.1)
    with pytest.raises(ValueError, match="n_segments"):
        slic(picture(), 300, 6.0, 1.0)
