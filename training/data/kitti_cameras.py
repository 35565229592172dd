# SPDX-License-Identifier: Apache-2.0
"""Pictures beside KITTI odometry's scans: ``sequences/XX/image_2`` with ``calib.txt``, as SemanticKITTI is laid out.

Scan and picture of one number belong together: the sweep turns through the front as the picture is taken, and KITTI
publishes one time for both (``times.txt``), so that there is no distance in time to check.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.geometry import pose

from .cameras import Camera

PICTURES = ("image_2", "image_3")
"""The colour cameras, left and right, and the projections P2 and P3 that go with them."""


def read_cameras(scan: Path, cache: Path) -> tuple[Camera, ...]:
    """Return the colour cameras of a scan, those whose folder the sequence has.

    Args:
        scan: ``.../XX/velodyne/NNNNNN.bin``.
        cache: see ``Camera``.

    Raises:
        ValueError: there is no picture, or no calibration that could be one of it; the message names the scan.
    """
    sequence = scan.parent.parent
    sample = f"{sequence.name}/{scan.stem}"
    folders = [name for name in PICTURES if (sequence / name).is_dir()]
    if not folders:
        raise ValueError(f"sample {sample}: there is no folder '{PICTURES[0]}' beside 'velodyne'")
    try:
        rows = _calibration(sequence / "calib.txt")
        return tuple(_camera(sequence / name, scan.stem, sample, rows, cache) for name in folders)
    except ValueError as error:
        raise ValueError(f"sample {sample}: {error}") from None


def _camera(folder: Path, stem: str, sample: str, rows: dict[str, NDArray], cache: Path) -> Camera:
    file = next((f for suffix in (".png", ".jpg") if (f := folder / (stem + suffix)).is_file()), None)
    if file is None:
        raise ValueError(f"the picture '{folder.name}/{stem}.png' is missing")
    K, T = camera_of(rows, f"P{folder.name[-1]}")
    size = _size(file)
    if not (0 < K[0, 2] < size[0] and 0 < K[1, 2] < size[1]):
        raise ValueError(
            f"calib.txt is not of '{folder.name}': its principal point ({K[0, 2]:.0f}, {K[1, 2]:.0f}) lies "
            f"outside the picture's {size[0]} x {size[1]} pixels"
        )
    return Camera(folder.name, file, size, K, T, sample, cache)


def camera_of(rows: dict[str, NDArray], name: str) -> tuple[NDArray, NDArray]:
    """Return (3, 3) intrinsics and (4, 4) T_camera_lidar of a rectified camera.

    Args:
        rows: ``P0`` ... and ``Tr`` of calib.txt, (3, 4): P maps the first camera's rectified frame to pixels, Tr the
            LiDAR's frame to that one.
        name: ``P2``, ``P3``.

    Raises:
        ValueError: one of both is missing, or P is no projection by a pinhole.
    """
    missing = [key for key in (name, "Tr") if key not in rows]
    if missing:
        raise ValueError(
            f"calib.txt has no {missing[0]}; copy it again from KITTI odometry's calibration files"
        )
    K = rows[name][:, :3]
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0 and np.allclose(K[2], (0, 0, 1))):
        raise ValueError(f"calib.txt's {name} is no projection of a rectified camera")
    shift = pose(np.linalg.solve(K, rows[name][:, 3]))
    return K, shift @ np.vstack([rows["Tr"], (0, 0, 0, 1)])


@lru_cache(64)
def _calibration(file: Path) -> dict[str, NDArray]:
    if not file.is_file():
        raise ValueError("there is no calib.txt beside 'velodyne'")
    rows = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, values = line.partition(":")
        try:
            numbers = np.array(values.split(), float)
        except ValueError:
            raise ValueError(f"calib.txt's {name} does not hold numbers") from None
        if len(numbers) == 12:
            rows[name.strip()] = numbers.reshape(3, 4)
    return rows


def _size(file: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"the picture '{file.parent.name}/{file.name}' cannot be used ({error})") from None
