# SPDX-License-Identifier: Apache-2.0
"""Calibrations as the nodes use them: result files, camera_info and calibrate_node's word, judged. Without ROS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from calibration.camera import CameraModel
from calibration.judge import Limits, complaints, info_complaints
from calibration.result import Calibration, load_calibration

from .camera_feed import info_key
from .runtime import ERROR, OK, WARN, Report


class Trust:
    """What speaks against the calibrations of a node's cameras, and what ``calibration_policy`` makes of it.

    Attributes:
        files: the result files' content by camera; cameras without a file are not in it.
        values: the node's parameters, ``parameter_groups.POLICY`` among them; the newest.
    """

    def __init__(self, named: Mapping[str, str], values: dict[str, Any], warn: Callable[[str], None]) -> None:
        """Read and judge the result files.

        Args:
            named: each camera's result file, an empty text where it has none.
            warn: logs a sentence.

        Raises:
            FileNotFoundError, ValueError: as ``read_calibrations`` and ``doubts``.
        """
        self.values, self._named, self._warn = values, named, warn
        self.files: dict[str, Calibration] = {}
        self._by_file: dict[str, str] = {}
        self._by_info: dict[str, str] = {}
        self._by_status: dict[str, str] = {}
        self._judged: dict[str, tuple[Any, ...]] = {}
        self.read()

    def read(self) -> None:
        """Read the result files again; where that raises, all stays as it was."""
        files = read_calibrations(self._named)
        self._by_file = doubts(files, self.values)
        self.files = files
        self._judged.clear()
        if self._by_file:
            self._say(f"doubtful calibration of {sentence(self._by_file)}")

    def note_info(self, camera: str, info: Any) -> None:
        """Judge a CameraInfo that has changed, by itself and against the camera's result file."""
        key = info_key(info)
        if self._judged.get(camera) == key:
            return
        self._judged[camera] = key
        try:
            found = info_complaints(CameraModel.from_info(info), self.files.get(camera))
        except ValueError as error:
            found = [str(error)]
        self._note(self._by_info, camera, "; ".join(found))

    def note_status(self, camera: str, holds: bool, told: str) -> None:
        """Remember what calibrate_node says about a camera."""
        self._note(self._by_status, camera, "" if holds else told)

    def check(self, camera: str) -> None:
        """Raise where the camera is not to be used.

        Raises:
            ValueError: something came up since the start, and ``calibration_policy`` is to refuse it.
        """
        why = [found[camera] for found in (self._by_info, self._by_status) if camera in found]
        if why and self.values["calibration_policy"] == "refuse":
            raise ValueError(f"calibration_policy refuses camera '{camera}': {'; '.join(why)}")

    def report(self) -> Report:
        """Return what the diagnostics say: WARN where something is told, ERROR where it is refused."""
        all_found = (self._by_file, self._by_info, self._by_status)
        found = {
            camera: "; ".join(f[camera] for f in all_found if camera in f)
            for camera in self._named
            if any(camera in f for f in all_found)
        }
        level = {"ignore": OK, "warn": WARN, "refuse": ERROR}[self.values["calibration_policy"]]
        return Report(level if found else OK, sentence(found) or "nothing against it", {})

    def _note(self, found: dict[str, str], camera: str, told: str) -> None:
        if not told:
            found.pop(camera, None)
        elif found.get(camera) != told:
            found[camera] = told
            self._say(f"calibration of camera '{camera}': {told}")

    def _say(self, told: str) -> None:
        if self.values["calibration_policy"] != "ignore":
            self._warn(told)


def by_camera(cameras: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    """Return each camera's result file, an empty text where there is none.

    Raises:
        ValueError: there is not one for each camera, and not none.
    """
    given = [file for file in files if file] or [""] * len(cameras)
    if len(given) != len(cameras):
        raise ValueError(
            f"calibrations has {len(given)} files for {len(cameras)} cameras; give one for each, or none"
        )
    return dict(zip(cameras, given, strict=True))


def read_calibrations(files: Mapping[str, str]) -> dict[str, Calibration]:
    """Return the calibrations by camera, of those that have a file.

    Raises:
        FileNotFoundError, ValueError: a file cannot be used.
    """
    return {camera: load_calibration(file) for camera, file in files.items() if file}


def doubts(calibrations: Mapping[str, Calibration], values: Mapping[str, Any]) -> dict[str, str]:
    """Return what speaks against calibrations, by camera; ``values`` are parameters of ``parameter_groups.POLICY``.

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
