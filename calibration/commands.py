# SPDX-License-Identifier: Apache-2.0
"""What each subcommand of ``pc-calibrate`` does with its arguments."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import asdict, replace
from glob import glob
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board
from calibration.camera import CameraModel
from calibration.frames import Recording, from_bag, from_folders, image_files, images_of_bag, read_image
from calibration.pictures import draw_coverage, draw_overlay
from calibration.result import Calibration, Quality, hash_inputs, load_calibration, load_camera

EXIT_BAD = 2
"""A result was written, but its quality is past a limit; or ``check`` found that the calibration does not hold."""

_MAX_OVERLAYS = 12


def intrinsics(a: argparse.Namespace, board: Board) -> int:
    """Calibrate a camera from pictures or a recording and write the result file."""
    from calibration.intrinsics import calibrate_intrinsics

    if (a.images is None) == (a.bag is None):
        raise ValueError("say --images (a folder or pattern) or --bag")
    if a.images is not None:
        sources = image_files(a.images)
        found = calibrate_intrinsics(((p.name, read_image(p)) for p in sources), board, a.model)
    else:
        sources = [a.bag]
        found = calibrate_intrinsics(images_of_bag(a.bag, a.image_topic, a.every), board, a.model)
    for name, error in found.errors_px.items():
        print(f"{name}: {error:.3f} px, held out {found.held_out_px[name]:.3f} px")
    _print_skipped(found.skipped)
    _print_quality(found.quality)
    result = Calibration(found.camera, intrinsic_quality=found.quality, inputs=hash_inputs(sources))
    print(f"wrote {result.save(a.out)}")
    if a.pictures is not None:
        size = (found.camera.width, found.camera.height)
        path = draw_coverage(
            a.pictures / "coverage.png", size, found.views.values(), found.errors_px.values()
        )
        print(f"wrote {path}")
    return _judge((("held-out reprojection", found.quality.held_out_reprojection_px, a.max_px, "px"),))


def with_target(a: argparse.Namespace, board: Board) -> int:
    """Calibrate T_camera_lidar from poses of a board and write the result file."""
    from calibration.still_poses import still_poses
    from calibration.target import calibrate_with_target

    recording, camera, known = _sources(a)
    if a.bag is not None:
        recording = replace(recording, frames=still_poses(recording.frames, board))
    found = calibrate_with_target(recording.frames, camera, board)
    for pose in found.held_out:
        print(
            f"{pose.name}: held out {pose.corners_px:.2f} px at the corners, {pose.plane_mm:.1f} mm from the plane"
        )
    _print_skipped(found.skipped)
    result = replace(known, extrinsics=found.extrinsics, extrinsic_quality=found.quality, inputs=_hashes(a))
    _finish(a, result, recording)
    if a.pictures is not None:
        images = {f.name: f for f in recording.frames}
        T = found.extrinsics.T_camera_lidar
        for pair in found.pairs[:_MAX_OVERLAYS]:
            f = images[pair.name]
            path = a.pictures / f"{pair.name}.png"
            draw_overlay(path, f.image, f.cloud, camera, T, board, pair.image.T_camera_board)
    q = found.quality
    return _judge(
        (
            ("held-out reprojection", q.held_out_reprojection_px, a.max_px, "px"),
            ("bootstrap spread", q.spread_deg, a.max_deg, "deg"),
            ("bootstrap spread", q.spread_mm, a.max_mm, "mm"),
        )
    )


def without_target(a: argparse.Namespace) -> int:
    """Refine T_camera_lidar on natural scenes and write the result file."""
    from calibration.targetless import calibrate_without_target
    from calibration.twist import difference

    recording, camera, known = _sources(a)
    T_guess = _guess(a.guess, recording)
    found = calibrate_without_target(recording.frames, camera, T_guess)
    moved_deg, moved_mm = difference(found.extrinsics.T_camera_lidar, T_guess)
    print(f"moved by {moved_deg:.3f} deg and {moved_mm:.0f} mm from the guess")
    result = replace(known, extrinsics=found.extrinsics, extrinsic_quality=found.quality, inputs=_hashes(a))
    _finish(a, result, recording)
    q = found.quality
    return _judge(
        (
            ("spread over the surroundings", q.spread_deg, a.max_deg, "deg"),
            ("spread over the surroundings", q.spread_mm, a.max_mm, "mm"),
        )
    )


def check(a: argparse.Namespace) -> int:
    """Measure a result file against frames; 0 only where it holds."""
    from calibration.check import check_calibration

    calibration = load_calibration(a.calibration)
    recording = _recording(a)
    drift = check_calibration(calibration, recording.frames, a.max_deg, a.max_mm)
    for name, value in asdict(drift).items():
        print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    if a.pictures is not None and calibration.extrinsics is not None:
        _overlays(a.pictures, recording, calibration.camera, calibration.extrinsics.T_camera_lidar)
    return 0 if drift.verdict == "good" else EXIT_BAD


def _recording(a: argparse.Namespace) -> Recording:
    given = [n for n in ("images", "bag", "nuscenes") if getattr(a, n) is not None]
    if len(given) != 1 or (a.images is None) != (a.clouds is None):
        raise ValueError("say where frames come from: --images with --clouds, --bag, or --nuscenes")
    if a.bag is not None:
        return from_bag(
            a.bag, a.image_topic, a.cloud_topic, a.fixed_frame, a.every, undistort=not a.no_undistort
        )
    if a.nuscenes is not None:
        from calibration.nuscenes_format import from_nuscenes

        return from_nuscenes(a.nuscenes, a.camera_name)
    return from_folders(a.images, a.clouds)


def _sources(a: argparse.Namespace) -> tuple[Recording, CameraModel, Calibration]:
    """The frames, the camera to use, and a calibration that holds what is known of the camera."""
    recording = _recording(a)
    camera = recording.camera if a.camera is None else load_camera(a.camera)
    if camera is None:
        raise ValueError("the data has no camera_info; give --camera (see pc-calibrate intrinsics)")
    known = Calibration(camera)
    if a.camera is not None:
        with suppress(ValueError):  # ROS's own camera file says nothing about quality
            known = replace(known, intrinsic_quality=load_calibration(a.camera).intrinsic_quality)
    return recording, camera, known


def _guess(text: str, recording: Recording) -> NDArray[np.float64]:
    if text == "source":
        if recording.T_camera_lidar is None:
            raise ValueError("the data has no mount of its own (/tf or tables); give --guess a result file")
        return recording.T_camera_lidar
    extrinsics = load_calibration(text).extrinsics
    if extrinsics is None:
        raise ValueError(f"'{text}' holds intrinsics only; a guess needs T_camera_lidar")
    return extrinsics.T_camera_lidar


def _hashes(a: argparse.Namespace) -> dict[str, str]:
    paths = [a.bag, a.camera]
    if a.nuscenes is not None:  # the tables stand for the data set, which may be hundreds of gigabytes
        paths += sorted(a.nuscenes.glob("v1.0-*"))[:1]
    for pattern in (a.images, a.clouds):
        if pattern is not None:
            paths += [Path(pattern)] if Path(pattern).exists() else map(Path, glob(pattern))
    return hash_inputs([p for p in paths if p is not None])


def _finish(a: argparse.Namespace, result: Calibration, recording: Recording) -> None:
    assert result.extrinsics is not None
    assert result.extrinsic_quality is not None
    print("T_camera_lidar:")
    for row in result.extrinsics.T_camera_lidar:
        print("  " + " ".join(f"{v:10.6f}" for v in row))
    _print_quality(result.extrinsic_quality)
    print(f"wrote {result.save(a.out)}")
    if a.pictures is not None:
        _overlays(a.pictures, recording, result.camera, result.extrinsics.T_camera_lidar)


def _overlays(folder: Path, recording: Recording, camera: CameraModel, T: NDArray) -> None:
    for frame in recording.frames[:_MAX_OVERLAYS]:
        draw_overlay(folder / f"{frame.name}.png", frame.image, frame.cloud, camera, T)


def _print_quality(quality: Quality) -> None:
    for name, value in asdict(quality).items():
        if name == "warnings":
            for warning in value:
                print(f"warning: {warning}")
        elif value is not None:
            print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")


def _print_skipped(skipped: dict[str, str]) -> None:
    for name, why in skipped.items():
        print(f"left out {name}: {why}")


def _judge(limits: tuple[tuple[str, float | None, float, str], ...]) -> int:
    """0 where every figure is there and within its limit; each that is not is said."""
    bad = False
    for what, value, limit, unit in limits:
        if value is None:
            print(f"past the limit: no figure for the {what}; there is too little data")
            bad = True
        elif not value <= limit:
            print(f"past the limit: {what} {value:.3g} {unit}, allowed {limit:g} {unit}")
            bad = True
    return EXIT_BAD if bad else 0
