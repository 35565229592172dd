# SPDX-License-Identifier: Apache-2.0
"""Pictures beside sweeps: the chain of transforms against the simulator's depth, crops, masks, and what is missing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open3d", reason="ray casting needs open3d")

import camera_drive

from pc_perception.geometry import inverse, rotation_y
from training.data.cameras import Camera, CameraCloud, Pixels, check_calibration, seen_points
from training.data.crops import CropSettings, cut, draw_mask
from training.data.specs import DataOptions, open_one

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def opened(root: Path):  # type: ignore[no-untyped-def]
    return open_one(f"nuscenes:{root}", DataOptions(None, cameras=True, cache_dir=str(root / "cache")))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return camera_drive.write(tmp_path_factory.mktemp("drive"))


@pytest.fixture
def own_root(tmp_path: Path) -> Path:
    """A data set to spoil."""
    return camera_drive.write(tmp_path / "drive")


def camera(**changes: object) -> Camera:
    values: dict = {
        "channel": "CAM_FRONT", "file": Path("none.jpg"), "size": (320, 180),
        "K": np.array([[200.0, 0, 150], [0, 200, 80], [0, 0, 1]]), "T_camera_lidar": np.eye(4),
        "sample": "s0", "cache": Path("cache"),
    }  # fmt: skip
    return Camera(**(values | changes))


def test_the_optical_axis_and_the_border() -> None:
    """A point on the axis is seen at the principal point; nearer than a metre and on the border, nothing."""
    xyz = np.array(
        [[0, 0, 5], [0, 0, 0.9], [0, 0, -5], [-3.75, 0, 5], [-3.74, 0, 5], [4.224, 0, 5], [4.226, 0, 5]]
    )
    found = seen_points(xyz.astype(np.float32), camera())
    assert found.point.tolist() == [0, 4, 5]
    np.testing.assert_allclose(found.place[0] * (320, 180) - 0.5, [150, 80], atol=1e-4)
    assert found.depth.tolist() == [5, 5, 5]


def test_the_chain_of_transforms_meets_the_rendered_depth(root: Path) -> None:
    """Points land where the simulator's picture shows the same depth, though the vehicle moves while it spins."""
    data = opened(root)
    assert len(data) == 3
    for k in range(3):
        cloud, frame = data[k], camera_drive.frames()[k]
        assert [c.channel for c in cloud.cameras] == ["CAM_BACK", "CAM_FRONT"]
        for c in cloud.cameras:
            image = frame.images[c.channel]
            seen = seen_points(cloud.xyz, c)
            u, v = (seen.place * c.size).astype(int).T
            true = image.depth[v, u]
            assert len(seen.point) > 300
            near = np.abs(seen.depth - true) < 0.05 * true
            assert near.mean() > 0.75  # the rest: edges, leaves, what only one of the two sees
            turned = np.eye(4)
            turned[:3, :3] = rotation_y(np.deg2rad(4))
            astray = seen_points(cloud.xyz, replace(c, T_camera_lidar=turned @ c.T_camera_lidar))
            u, v = (astray.place * c.size).astype(int).T
            missed = np.abs(astray.depth - image.depth[v, u]) >= 0.05 * image.depth[v, u]
            assert missed.mean() > 1.5 * (1 - near.mean())
            T = inverse(frame.T_base_cameras[c.channel]) @ frame.T_base_lidar
            np.testing.assert_allclose(c.T_camera_lidar @ inverse(c.T_camera_lidar), np.eye(4), atol=1e-9)
            np.testing.assert_allclose(c.T_camera_lidar[:3, 3], T[:3, 3], atol=1e-6)


def test_a_moving_vehicle_is_compensated() -> None:
    """Poses at the two stamps differ by 2 m along x: so do the points."""
    from training.data.nuscenes_cameras import read_cameras

    class Tables:
        sensor = ({"channel": "LIDAR_TOP", "modality": "lidar"}, {"channel": "CAM", "modality": "camera"})

        def get(self, table: str, token: str) -> dict:
            moved = {"translation": [2.0, 0, 0] if token == "late" else [0, 0, 0], "rotation": [1, 0, 0, 0]}
            return {
                "ego_pose": moved,
                "calibrated_sensor": {
                    "translation": [0, 0, 1.5], "rotation": [1, 0, 0, 0],
                    "camera_intrinsic": [[100, 0, 10], [0, 100, 10], [0, 0, 1]] if token == "camera" else [],
                },
                "sample_data": {
                    "token": token, "sample_token": "s", "filename": token, "width": 20, "height": 20,
                    "timestamp": 50_000 if token == "picture" else 0,
                    "ego_pose_token": "late" if token == "picture" else "early",
                    "calibrated_sensor_token": "camera" if token == "picture" else "lidar",
                },
            }[table]  # fmt: skip

    sample = {"token": "s", "data": {"LIDAR_TOP": "sweep", "CAM": "picture"}}
    (found,) = read_cameras(Tables(), sample, Path(), Path())
    np.testing.assert_allclose(found.T_camera_lidar[:3, 3], [-2, 0, 0])


def test_pictures_are_decoded_once(root: Path) -> None:
    c = opened(root)[0].cameras[1]
    first = c.picture()
    assert first.shape == (180, 320, 3)
    true = camera_drive.frames()[0].images["CAM_FRONT"].rgb
    assert np.abs(first.astype(int) - true).mean() < 8  # jpeg
    kept = list(c.cache.glob("*-rgb-*.npy"))
    before = [f.stat().st_mtime_ns for f in kept]
    assert np.array_equal(c.picture(), first)
    assert [f.stat().st_mtime_ns for f in kept] == before
    segments = c.superpixels()
    assert segments.shape == first.shape[:2]
    assert 75 < int(segments.max()) + 1 <= 200
    assert not list(c.cache.glob(".*"))


def test_crops_take_their_points_along(root: Path) -> None:
    """The colour at a point's pixel is that of its place in the whole picture."""
    cloud, how = opened(root)[1], CropSettings(96, 160, least_pairs=10**9, tries=3)
    c = cloud.cameras[0]
    seen, rng = seen_points(cloud.xyz, c), np.random.default_rng(0)
    whole = c.picture().astype(float)
    turned = set()
    for _ in range(12):
        crop = cut(c, seen, how, rng, superpixels=True)
        assert crop.rgb.shape == (96, 160, 3)
        assert crop.segments is not None
        assert crop.segments.shape == (96, 160)
        rows = np.searchsorted(seen.point, crop.point)
        u, v = (seen.place[rows] * (320, 180)).astype(int).T
        there = crop.rgb[crop.pixel[:, 0], crop.pixel[:, 1]].astype(float)
        mirrored = crop.rgb[crop.pixel[:, 0], 159 - crop.pixel[:, 1]].astype(float)
        error = np.abs(there - whole[v, u]).mean()
        assert error < 12
        assert error < 0.7 * np.abs(mirrored - whole[v, u]).mean()
        same = crop.segments[crop.pixel[:, 0], crop.pixel[:, 1]] == c.superpixels()[v, u]
        assert same.mean() > 0.75
        turned.add(bool(np.corrcoef(crop.pixel[:, 1], u)[0, 1] < 0))
    assert turned == {True, False}


def test_crops_are_drawn_until_enough_points_are_left() -> None:
    corner = Pixels(np.arange(50), np.full((50, 2), 0.85, np.float32), np.ones(50, np.float32))
    from training.data.crops import draw_box, inside

    how, rng = CropSettings(area=(0.3, 0.5), tries=200), np.random.default_rng(0)
    hits = [inside(corner.place, draw_box(corner, (1600, 900), how, rng)).all() for _ in range(20)]
    assert all(hits)
    once = replace(how, tries=1)
    assert not all(inside(corner.place, draw_box(corner, (1600, 900), once, rng)).all() for _ in range(20))


def test_masks() -> None:
    """Nothing at a chance of 0, a quarter on average, and never beyond the last whole square."""
    rng = np.random.default_rng(0)
    assert not draw_mask((224, 416), 0.0, 0.5, rng).any()
    assert not draw_mask((224, 416), 1.0, 0.0, rng).any()
    share = np.mean([draw_mask((224, 416), 0.5, 0.5, rng).mean() for _ in range(600)])
    assert share == pytest.approx(0.25, abs=0.03)
    odd = draw_mask((40, 70), 1.0, 1.0, rng)
    assert odd[:32, :64].all()
    assert not odd[32:].any()
    assert not odd[:, 64:].any()
    squares = draw_mask((32, 48), 1.0, 0.5, rng).reshape(2, 16, 3, 16)
    assert (squares.all((1, 3)) | ~squares.any((1, 3))).all()


def _edit(root: Path, table: str, change: Callable[[list[dict]], None]) -> None:
    file = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(file.read_text())
    change(rows)
    file.write_text(json.dumps(rows))


def _first_sample(root: Path) -> str:
    rows = json.loads((root / "v1.0-mini" / "sample.json").read_text())
    return next(row["token"] for row in rows if not row["prev"])


def _picture(rows: list[dict], sample: str) -> dict:
    return next(r for r in rows if r["sample_token"] == sample and "CAM_FRONT" in r["filename"])


def test_corrupt_and_absent_pictures_name_the_sample(own_root: Path) -> None:
    sample = _first_sample(own_root)
    rows = json.loads((own_root / "v1.0-mini" / "sample_data.json").read_text())
    file = own_root / _picture(rows, sample)["filename"]
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(ValueError, match=f"sample {sample}: the picture of CAM_FRONT"):
        opened(own_root)[0].cameras[1].picture()
    file.unlink()
    with pytest.raises(ValueError, match=f"sample {sample}: .*No such file"):
        opened(own_root)[0].cameras[1].picture()
    _edit(own_root, "sample_data", lambda rows: _picture(rows, sample).update(width=640))
    file.write_bytes(next(file.parent.glob("*.jpg")).read_bytes())
    with pytest.raises(ValueError, match=f"sample {sample}: .*its calibration says"):
        opened(own_root)[0].cameras[1].picture()


def test_missing_rows_name_the_sample_and_leave_the_others(own_root: Path) -> None:
    sample = _first_sample(own_root)
    _edit(own_root, "sample_data", lambda rows: rows.remove(_picture(rows, sample)))
    data = opened(own_root)
    with pytest.raises(ValueError, match=f"sample {sample}: CAM_FRONT is missing"):
        data[0]
    assert len(data[1].cameras) == 2


def test_far_stamps_and_absent_intrinsics_name_the_sample(own_root: Path) -> None:
    sample = _first_sample(own_root)
    late: Callable[[list[dict]], None] = lambda rows: _picture(rows, sample).update(timestamp=0)  # noqa: E731
    _edit(own_root, "sample_data", late)
    with pytest.raises(ValueError, match=rf"sample {sample}: CAM_FRONT was taken .* s from the sweep"):
        opened(own_root)[0]
    _edit(own_root, "calibrated_sensor", lambda rows: [r.update(camera_intrinsic=[]) for r in rows])  # type: ignore[func-returns-value]
    with pytest.raises(ValueError, match="has no intrinsics"):
        opened(own_root)[1]


def test_a_calibration_that_shows_nothing_is_doubted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    cloud = opened(root)[0]
    with caplog.at_level(logging.WARNING):
        check_calibration(cloud, [seen_points(cloud.xyz, c) for c in cloud.cameras])
    assert not caplog.records
    T = np.diag([1.0, 1, -1, 1]) @ np.eye(4)
    wrong = replace(cloud, cameras=tuple(replace(c, T_camera_lidar=T) for c in cloud.cameras))
    assert isinstance(wrong, CameraCloud)
    with caplog.at_level(logging.WARNING):
        check_calibration(wrong, [])
    assert f"sample {cloud.cameras[0].sample}" in caplog.text
    assert "check the calibration" in caplog.text
