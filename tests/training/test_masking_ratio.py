# SPDX-License-Identifier: Apache-2.0
"""The share of tokens that is hidden: published values, distribution, counts."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

from training.methods.masking_ratio import KINDS, MaskingRatio, n_hidden


def test_beta_power_has_the_reproductions_values() -> None:
    ratio = MaskingRatio("beta-power")
    found = [float(ratio.at(e / 299, 0.3)) for e in (0, 75, 149, 225, 299)]
    assert found == pytest.approx([0.5, 0.5, 0.5, 0.648, 0.75], abs=5e-4)


@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_the_sliding_ratio_is_a_truncated_normal(fraction: float) -> None:
    ratio = MaskingRatio()
    drawn = ratio.at(fraction, np.random.default_rng(0).random(4000))
    mean = 0.55 + 0.45 * fraction
    reference = truncnorm((0.5 - mean) / 0.25, (1 - mean) / 0.25, loc=mean, scale=0.25)
    assert kstest(drawn, reference.cdf).pvalue > 0.01
    if not fraction:  # MAGE's: mean 0.694, median 0.676, a tenth below 0.534 and above 0.884
        assert drawn.mean() == pytest.approx(0.694, abs=0.01)
        assert np.quantile(drawn, [0.1, 0.5, 0.9]) == pytest.approx([0.534, 0.676, 0.884], abs=0.015)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_never_falls(kind: str) -> None:
    u = (np.arange(500) + 0.5) / 500
    means = [MaskingRatio(kind).at(t, u).mean() for t in np.linspace(0, 1, 21)]
    assert all(b >= a - 1e-12 for a, b in pairwise(means))
    assert (means[-1] > means[0] + 0.1) == (kind != "constant")
    assert min(means) >= 0.5
    assert max(means) <= 1


def test_counts_are_rounded_up() -> None:
    for ratio in np.linspace(0.01, 1, 300):
        assert n_hidden(float(ratio), 64) == math.ceil(round(ratio * 64, 9))
    assert n_hidden(0.75, 64) == 48
    assert n_hidden(1.0, 64) == 64


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in ({"kind": "cosine"}, {"start": 0.0}, {"least": 1.0}, {"deviation": 0.0}):
        with pytest.raises(ValueError, match="ratio"):
            MaskingRatio(**wrong).validate()
