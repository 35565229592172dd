# SPDX-License-Identifier: Apache-2.0
"""The newest messages of one camera of a rig: pictures, label images, intrinsics. Without ROS."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from calibration.camera import CameraModel
from calibration.result import Calibration
from pc_perception.inference.vitals import SILENCE_S
from pc_perception.io.pointcloud2 import header_of

KEPT = 8
"""Pictures that wait for a cloud of their time."""


class CameraFeed:
    """Keeps a camera's last pictures; its callbacks run on the executor's thread, ``nearest`` on the worker's.

    Attributes:
        name: of the camera.
        calibration: the result file's content; None takes intrinsics from camera_info and the mount from TF.
        info: the newest camera_info, if any.
    """

    def __init__(self, name: str, calibration: Calibration | None = None) -> None:
        self.name, self.calibration = name, calibration
        self._pictures: deque[tuple[int, Any]] = deque(maxlen=KEPT)
        self._labels: deque[tuple[int, Any]] = deque(maxlen=KEPT)
        self._came, self._heard_at = threading.Condition(), time.monotonic()
        self.info: Any = None
        self._model: tuple[Any, CameraModel] | None = None

    def take_picture(self, msg: Any) -> None:
        """Keep an Image or CompressedImage."""
        with self._came:
            self._pictures.append((header_of(msg)[1], msg))
            self._heard_at = time.monotonic()
            self._came.notify_all()

    def take_labels(self, msg: Any) -> None:
        """Keep a label image."""
        self._labels.append((header_of(msg)[1], msg))

    def take_info(self, msg: Any) -> None:
        """Keep the newest CameraInfo."""
        self.info = msg

    def model(self) -> CameraModel:
        """Return the intrinsics: the calibration's, else those of the newest camera_info.

        Raises:
            ValueError: there are none, or they are zeros.
        """
        if self.calibration is not None:
            return self.calibration.camera
        info = self.info
        if info is None:
            raise ValueError(f"camera '{self.name}' has no camera_info yet, and no calibration file")
        key = info_key(info)
        if self._model is None or self._model[0] != key:
            self._model = (key, CameraModel.from_info(info))
        return self._model[1]

    def nearest(self, stamp_ns: int, slop_s: float, until: float = float("-inf")) -> tuple[Any, Any | None]:
        """Return the picture nearest in time to a stamp, and the label image of that picture's time if there is one.

        Args:
            until: ``monotonic`` second up to which a picture that is still on its way is waited for; from a camera
                that has been silent for ``SILENCE_S`` none is.

        Raises:
            ValueError: there is no picture within ``slop_s`` seconds.
        """
        with self._came:
            now = time.monotonic()
            wait_s = max(until - now, 0.0) if now - self._heard_at < SILENCE_S else 0.0
            self._came.wait_for(lambda: self._has_one(stamp_ns, slop_s), wait_s)
        found = _nearest(self._pictures, stamp_ns)
        if found is None:
            raise ValueError(f"camera '{self.name}' has sent no picture yet")
        if abs(found[0] - stamp_ns) > slop_s * 1e9:
            off_s = (found[0] - stamp_ns) / 1e9
            raise ValueError(
                f"the nearest picture of camera '{self.name}' is {off_s:+.2f} s off, allowed {slop_s:g}"
            )
        labels = _nearest(self._labels, found[0])
        return found[1], labels[1] if labels and abs(labels[0] - found[0]) <= slop_s * 1e9 else None

    def _has_one(self, stamp_ns: int, slop_s: float) -> bool:
        return any(abs(taken_ns - stamp_ns) <= slop_s * 1e9 for taken_ns, _ in self._pictures)


def info_key(info: Any) -> tuple[Any, ...]:
    """Return what tells one camera_info from another: size and intrinsics, without the header."""
    return (info.width, info.height, info.distortion_model, *info.k, *info.d)


def _nearest(kept: deque[tuple[int, Any]], stamp_ns: int) -> tuple[int, Any] | None:
    # A copy is taken in one step, while the executor may append. Of equal stamps the newest counts.
    return min(reversed(list(kept)), key=lambda pair: abs(pair[0] - stamp_ns), default=None)
