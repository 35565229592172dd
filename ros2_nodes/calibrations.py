# SPDX-License-Identifier: Apache-2.0
"""Result files of pc-calibrate as the nodes use them: one for each camera, judged. Without ROS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from calibration.judge import Limits, complaints
from calibration.result import Calibration, load_calibration


def read_calibrations(cameras: Sequence[str], files: Sequence[str]) -> dict[str, Calibration]:
    """Return the calibrations by camera; none where ``files`` are empty texts.

    Raises:
        FileNotFoundError, ValueError: a file cannot be used, or there is not one for each camera.
    """
    given = [file for file in files if file]
    if given and len(given) != len(cameras):
        raise ValueError(
            f"calibrations has {len(given)} files for {len(cameras)} cameras; give one for each, or none"
        )
    return dict(zip(cameras, map(load_calibration, given), strict=False))


def doubts(calibrations: Mapping[str, Calibration], values: Mapping[str, Any]) -> dict[str, str]:
    """Return what speaks against calibrations, by camera; ``values`` are parameters of ``tables.POLICY``.

    Raises:
        ValueError: something does, and ``calibration_policy`` is to refuse it.
    """
    limits = Limits(max_age_days=values["calibration_max_age_days"])
    found = {
        camera: "; ".join(told)
        for camera, calibration in calibrations.items()
        if (told := complaints(calibration, limits))
    }
    if found and values["calibration_policy"] == "refuse":
        raise ValueError(f"calibration_policy refuses the calibration of {sentence(found)}")
    return found


def sentence(found: Mapping[str, str]) -> str:
    """Return doubts as one text."""
    return "; ".join(f"{camera}: {why}" for camera, why in found.items())
