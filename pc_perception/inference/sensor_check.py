# SPDX-License-Identifier: Apache-2.0
"""Compare a live cloud with what the model was trained on, in numbers a person can act on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud

from .features import FEATURES

PERCENTILES = (1.0, 5.0, 50.0, 95.0, 99.0)
OWN_SCALE = frozenset({"intensity_255", "intensity_raw"})
"""Features that read intensity as it is; ``intensity`` compares it inside one cloud, so that scale does not matter."""
STEPS = np.linspace(0, 1, 21)
"""Quantiles at which intensities are looked at; the last but one is what "bright" means, as in ``features``."""
ALIKE, MAX_ALIKE = 0.05, 0.7
"""Intensities are alike that differ by less than this part of the bright ones. Of real sweeps of seven sensors
10 to 25 % are, of simulated ones 5 to 50 %."""


def describe(cloud: PointCloud) -> dict[str, tuple[float, ...]]:
    """Return the ``PERCENTILES`` of height z and horizontal range (m), intensity, and the point count.

    Non-finite points are left out; an empty cloud gives only ``points`` = (0,).
    """
    kept = cloud.finite()
    xyz = cloud.xyz[kept]
    summary: dict[str, tuple[float, ...]] = {"points": (float(len(xyz)),)}
    if not len(xyz):
        return summary
    columns = {"height_m": xyz[:, 2], "range_m": np.linalg.norm(xyz[:, :2], axis=1)}
    if (intensity := _intensities(cloud)) is not None:
        columns["intensity"] = intensity
    for name, values in columns.items():
        summary[name] = tuple(round(float(p), 3) for p in np.percentile(values, PERCENTILES))
    return summary


def _intensities(cloud: PointCloud) -> NDArray[np.float32] | None:
    """Return the intensities of the finite points as features read them; None where there are none."""
    values = np.asarray(cloud.fields.get("intensity", ()))
    if "intensity" not in cloud.fields or values.ndim != 1:
        return None
    return np.nan_to_num(np.asarray(values, np.float32)[cloud.finite()], posinf=0.0, neginf=0.0)


def pool(summaries: Sequence[Mapping[str, tuple[float, ...]]]) -> dict[str, tuple[float, ...]]:
    """Merge the summaries of training clouds: the lowest low end and the highest high end seen.

    Of each quantity the result holds (lowest 5th percentile, median of medians, highest 95th); of
    ``points`` the (lowest, median, highest) count.
    """
    names = {name for s in summaries for name in s}
    merged: dict[str, tuple[float, ...]] = {}
    for name in sorted(names):
        rows = np.array([s[name] for s in summaries if name in s])
        low, middle, high = (0, 0, 0) if name == "points" else (1, 2, 3)
        merged[name] = tuple(
            round(float(v), 3) for v in (rows[:, low].min(), np.median(rows[:, middle]), rows[:, high].max())
        )
    return merged


def mismatches(
    cloud: PointCloud, seen: Mapping[str, tuple[float, ...]], features: Collection[str] = ("intensity",)
) -> list[str]:
    """Say, one sentence each, where ``cloud`` lies outside of what training saw; arguments as of ``findings``."""
    return list(findings(cloud, seen, features).values())


def findings(
    cloud: PointCloud, seen: Mapping[str, tuple[float, ...]], features: Collection[str] = ("intensity",)
) -> dict[str, str]:
    """Say, one sentence for each quantity by name, where ``cloud`` lies outside of what training saw.

    Args:
        seen: the ``seen`` of a model's contract (``pool``'s result); quantities absent are not compared.
        features: the contract's: they say whether intensity matters, and whether its scale does.

    Returns:
        Nothing where the cloud fits, or has no finite point and is not expected to.
    """
    live = describe(cloud)
    found = {}
    n_points = live["points"][0]
    if "points" in seen and n_points < seen["points"][0] / 2:
        found["points"] = (
            f"{n_points:.0f} finite points, training clouds had at least {seen['points'][0]:.0f}"
        )
    if "height_m" in seen and "height_m" in live:
        low, _, high = seen["height_m"]
        if live["height_m"][1] < low - 1.0 or live["height_m"][2] > high:
            found["height_m"] = (
                f"heights run from {live['height_m'][1]:.1f} m (5 %) over {live['height_m'][2]:.1f} m (median), "
                f"in training from {low:.1f} m to {high:.1f} m (95 %): check axes and mounting height"
            )
    if "range_m" in seen and "range_m" in live:
        _, middle, high = seen["range_m"]
        if live["range_m"][2] > high or live["range_m"][3] < middle / 3:
            found["range_m"] = (
                f"ranges reach {live['range_m'][3]:.1f} m (95 %), in training a median of {middle:.1f} m and "
                f"{high:.1f} m (95 %): check the unit"
            )
    read = any(FEATURES[name].field == "intensity" for name in features)
    if read and "intensity" in seen and n_points:
        told = _intensity(cloud, seen["intensity"], OWN_SCALE.isdisjoint(features))
        found.update({"intensity": told} if told else {})
    return found


def _intensity(cloud: PointCloud, seen: tuple[float, ...], is_relative: bool) -> str:
    """Say what is wrong with a cloud's intensity: none, hardly any differences, or, unless relative, its scale."""
    values = _intensities(cloud)
    if values is None:
        return "the cloud has no intensity, the model was trained with it: expect lower accuracy"
    steps = np.quantile(values, STEPS)
    bright = float(steps[-2])
    if bright <= 0:
        return "the intensity is zero or less, the model was trained with it: expect lower accuracy"
    low, middle, high = seen
    ran = f"from {steps[1]:.3g} (5 %) over {steps[len(steps) // 2]:.3g} (median) to {bright:.3g} (95 %)"
    trained = f"in training from {low:.3g} over {middle:.3g} to {high:.3g}"
    alike = np.searchsorted(steps, steps + ALIKE * bright, "right") - 1 - np.arange(len(steps))
    share = alike.max() / (len(steps) - 1)
    if share > MAX_ALIKE:
        return (
            f"{share:.0%} of the intensities are alike, they run {ran}, {trained}: they tell surfaces apart no more; "
            "check what the driver sends"
        )
    if not is_relative and (steps[len(steps) // 2] > high or bright < middle / 3):
        return f"intensities run {ran}, {trained}: the model reads them as they are; check their scale"
    return ""
