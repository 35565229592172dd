# SPDX-License-Identifier: Apache-2.0
"""The one result file: a camera's intrinsics, T_camera_lidar, how good they are and what they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from calibration.camera import CameraModel
from pc_perception.io.whole_files import whole_file

FORMAT = 1


@dataclass(frozen=True)
class Extrinsics:
    """How a LiDAR is mounted to a camera.

    Attributes:
        T_camera_lidar: (4, 4), metres; camera is the optical frame (z forward, x right, y down).
        covariance: (6, 6) of a rotation vector (rad, camera's axes, about the LiDAR's origin) and of the LiDAR's
            origin (m, in the camera's frame); zeros where it is not known.
        camera_frame, lidar_frame: names, as in the messages' headers.

    Raises:
        ValueError: the matrix is not a rigid transform or the covariance not one.
    """

    T_camera_lidar: NDArray[np.float64]
    covariance: NDArray[np.float64] = field(default_factory=lambda: np.zeros((6, 6)))
    camera_frame: str = "camera"
    lidar_frame: str = "lidar"

    def __post_init__(self) -> None:
        T = np.asarray(self.T_camera_lidar, np.float64)
        R = T[:3, :3]
        rigid = T.shape == (4, 4) and np.isfinite(T).all() and np.allclose(R @ R.T, np.eye(3), atol=1e-4)
        if not rigid or np.linalg.det(R) < 0 or not np.allclose(T[3], [0, 0, 0, 1]):
            raise ValueError(f"T_camera_lidar is not a rigid transform: {T.tolist()}")
        covariance = np.asarray(self.covariance, np.float64)
        if covariance.shape != (6, 6) or not np.isfinite(covariance).all() or (np.diag(covariance) < 0).any():
            raise ValueError("the covariance must be 6 x 6, finite, with no negative variance")
        object.__setattr__(self, "T_camera_lidar", T)
        object.__setattr__(self, "covariance", covariance)


@dataclass(frozen=True)
class Quality:
    """Quality as numbers; None where a method does not give one.

    Attributes:
        method: how it was found.
        n_used, n_offered: poses, images or frames.
        reprojection_px: rms over what the fit saw.
        held_out_reprojection_px: rms over what it did not see (each pose or image left out in turn).
        held_out_plane_mm: rms distance of a left-out board's LiDAR points from its plane in the image.
        spread_deg, spread_mm: standard deviation over bootstrap resamples of the poses, or over parts of the
            surroundings and frames.
        warnings: sentences; what the data does not constrain is among them.
    """

    method: str
    n_used: int
    n_offered: int
    reprojection_px: float | None = None
    held_out_reprojection_px: float | None = None
    held_out_plane_mm: float | None = None
    spread_deg: float | None = None
    spread_mm: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """All that one run of ``pc-calibrate`` leaves.

    Attributes:
        camera: intrinsics.
        extrinsics: None after ``intrinsics``.
        intrinsic_quality, extrinsic_quality: None where that part was taken over from elsewhere.
        inputs: file name -> SHA-256 of every input.
        created: ISO 8601, UTC.
    """

    camera: CameraModel
    extrinsics: Extrinsics | None = None
    intrinsic_quality: Quality | None = None
    extrinsic_quality: Quality | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    def save(self, path: str | Path) -> Path:
        """Write the YAML file; return its path."""
        path = Path(path)
        text = yaml.safe_dump(_plain(self), sort_keys=False, width=110, default_flow_style=None)
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
        return path


def load_calibration(path: str | Path) -> Calibration:
    """Read a result file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not a result file, or its values are impossible; the sentence names the place.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not YAML: {error}") from error
    if not isinstance(tree, dict) or "camera" not in tree:
        raise ValueError(f"'{path}' has no 'camera'; it is not a result of pc-calibrate")
    if tree.get("format") != FORMAT:
        raise ValueError(f"'{path}' has format {tree.get('format')}, this version reads {FORMAT}")
    try:
        extrinsics = tree.get("extrinsics")
        return Calibration(
            camera_from_plain(tree["camera"]),
            extrinsics and _extrinsics(extrinsics),
            _quality(tree.get("intrinsic_quality")),
            _quality(tree.get("extrinsic_quality")),
            dict(tree.get("inputs") or {}),
            str(tree.get("created", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{path}' cannot be used: {_reason(error)}") from error


def load_camera(path: str | Path) -> CameraModel:
    """Read intrinsics from a result file, or from the YAML that ROS's camera_calibration writes.

    Raises:
        FileNotFoundError, ValueError: as ``load_calibration``.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("it is no YAML of names and values")
        return camera_from_plain(tree.get("camera", tree))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"'{path}' holds no camera: {_reason(error)}") from error


def camera_from_plain(tree: Mapping[str, Any]) -> CameraModel:
    """Make a camera of plain values named as in CameraInfo (K, D, ...) or as in ROS's camera files."""

    def get(*names: str) -> Any:
        value = next((tree[name] for name in names if name in tree), None)
        return value["data"] if isinstance(value, dict) else value

    K = get("K", "camera_matrix")
    if K is None:
        raise KeyError("K")
    R, P = get("R", "rectification_matrix"), get("P", "projection_matrix")
    return CameraModel(
        int(get("width", "image_width") or 0),
        int(get("height", "image_height") or 0),
        K,
        np.asarray(get("D", "distortion_coefficients") or [], np.float64),
        str(get("distortion_model") or ""),
        np.eye(3) if R is None else R,
        P,
    )


def hash_inputs(paths: Iterable[Path]) -> dict[str, str]:
    """Return folder/name -> SHA-256 of files; a folder counts by each file in it."""
    files = sorted({f for p in paths for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()})
    return {f"{file.absolute().parent.name}/{file.name}": _sha256(file) for file in files}


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _plain(result: Calibration) -> dict[str, Any]:
    camera, extrinsics = result.camera, result.extrinsics
    assert camera.P is not None  # filled in by the class
    tree: dict[str, Any] = {
        "format": FORMAT,
        "created": result.created,
        "camera": {
            "width": camera.width,
            "height": camera.height,
            "distortion_model": camera.distortion_model,
            "K": camera.K.ravel().tolist(),
            "D": camera.D.tolist(),
            "R": camera.R.ravel().tolist(),
            "P": camera.P.ravel().tolist(),
        },
    }
    if extrinsics is not None:
        tree["extrinsics"] = {
            "camera_frame": extrinsics.camera_frame,
            "lidar_frame": extrinsics.lidar_frame,
            "T_camera_lidar": extrinsics.T_camera_lidar.tolist(),
            "covariance_rad_m": extrinsics.covariance.tolist(),
        }
    for name in ("intrinsic_quality", "extrinsic_quality"):
        quality = getattr(result, name)
        if quality is not None:
            tree[name] = {f.name: _rounded(getattr(quality, f.name)) for f in fields(quality)}
    tree["inputs"] = dict(result.inputs)
    return tree


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    return list(value) if isinstance(value, tuple) else value


def _extrinsics(tree: Mapping[str, Any]) -> Extrinsics:
    return Extrinsics(
        np.asarray(tree["T_camera_lidar"], np.float64),
        np.asarray(tree["covariance_rad_m"], np.float64),
        str(tree["camera_frame"]),
        str(tree["lidar_frame"]),
    )


def _quality(tree: Mapping[str, Any] | None) -> Quality | None:
    return None if tree is None else Quality(**{**tree, "warnings": tuple(tree["warnings"])})


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
