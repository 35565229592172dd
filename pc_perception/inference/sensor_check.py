# SPDX-License-Identifier: Apache-2.0
"""Compare a live cloud with what the model was trained on, in numbers a person can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pc_perception.cloud import PointCloud

PERCENTILES = (1.0, 5.0, 50.0, 95.0, 99.0)
NO_INTENSITY = (0.0,) * len(PERCENTILES)


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
    if "intensity" in cloud.fields and np.asarray(cloud.fields["intensity"]).ndim == 1:
        columns["intensity"] = np.nan_to_num(np.asarray(cloud.fields["intensity"], np.float32)[kept])
    for name, values in columns.items():
        summary[name] = tuple(round(float(p), 3) for p in np.percentile(values, PERCENTILES))
    return summary


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


def mismatches(cloud: PointCloud, seen: Mapping[str, tuple[float, ...]]) -> list[str]:
    """Say, one sentence each, where ``cloud`` lies outside of what training saw; empty when it fits.

    Args:
        seen: the ``seen`` of a model's contract (``pool``'s result); quantities absent are not compared.
            Of intensity only its presence is checked, since the contract makes it relative.
    """
    live = describe(cloud)
    found = []
    n_points = live["points"][0]
    if "points" in seen and n_points < seen["points"][0] / 2:
        found.append(f"{n_points:.0f} finite points, training clouds had at least {seen['points'][0]:.0f}")
    if "height_m" in seen and "height_m" in live:
        low, _, high = seen["height_m"]
        if live["height_m"][1] < low - 1.0 or live["height_m"][2] > high:
            found.append(
                f"heights run from {live['height_m'][1]:.1f} m (5 %) over {live['height_m'][2]:.1f} m (median), "
                f"in training from {low:.1f} m to {high:.1f} m (95 %): check axes and mounting height"
            )
    if "range_m" in seen and "range_m" in live:
        _, middle, high = seen["range_m"]
        if live["range_m"][2] > high or live["range_m"][3] < middle / 3:
            found.append(
                f"ranges reach {live['range_m'][3]:.1f} m (95 %), in training a median of {middle:.1f} m and "
                f"{high:.1f} m (95 %): check the unit"
            )
    if "intensity" in seen and n_points and not live.get("intensity", NO_INTENSITY)[3] > 0:
        what = "intensity is zero" if "intensity" in live else "cloud has no intensity"
        found.append(f"the {what}, the model was trained with it: expect lower accuracy")
    return found
