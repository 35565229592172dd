# SPDX-License-Identifier: Apache-2.0
"""Messages as the common ROS 2 drivers lay them out, read from their sources: the same labels from all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL, pose
from pc_perception.inference.features import FIELDS
from pc_perception.inference.fusion import beam_spacing
from pc_perception.inference.loading import load_model
from pc_perception.inference.model_choice import choose_model
from pc_perception.inference.sensor_check import mismatches
from pc_perception.inference.upright import camera_axes, upright, upright_rotation
from pc_perception.io.fields import pack_rgb
from pc_perception.io.pointcloud2 import PointField, cloud_from_msg
from pc_perception.labels import UNLABELED
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.raycast import Raycaster
from pc_perception.simulation.rgbd import rgbd_frames
from pc_perception.simulation.street import make_street
from pc_perception.undistort import sweep_time

STAMP_NS, SINCE_BOOT_NS = 1_700_000_000_250_000_000, 1_234_500_000_000
CODES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
XYZ = "x:f4:0 y:f4:4 z:f4:8"
XYZI = f"{XYZ} intensity:f4:12"
OUSTER = f"{XYZ} intensity:f4:16 t:u4:20 reflectivity:u2:24 ring:u2:26 ambient:u2:28 range:u4:32"
ABSOLUTE = f"{XYZI} ring:u2:16 timestamp:f8:18"
NEBULA = (
    f"{XYZ} intensity:u1:12 return_type:u1:13 channel:u2:14 azimuth:f4:16 elevation:f4:20 distance:f4:24 "
    "time_stamp:u4:28"
)
SICK = (
    f"{XYZ} i:f4:12 range:f4:16 azimuth:f4:20 elevation:f4:24 t:u4:28 ts:f4:32 lidar_sec:u4:36 lidar_nsec:u4:40 "
    "ring:i1:44 layer:i1:45 echo:i1:46 reflector:i1:47"
)


@dataclass(frozen=True)
class Driver:
    """How one driver writes a sweep.

    Attributes:
        frame: of its header.
        step: bytes of a point.
        layout: ``name:type:offset`` of every field.
        grid: what a row of the message is, ``beam`` or ``firing``; empty: one row, firing after firing.
        miss: coordinates of a ray without return; None leaves it out.
        values: of fields that are not the sweep's own.
        stamp_ns: of its header.
        timestamp_unit: seconds of ``timestamp``.
    """

    frame: str
    step: int
    layout: str
    grid: str = ""
    miss: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    stamp_ns: int = STAMP_NS
    timestamp_unit: float = 1.0


LIDARS = {
    "velodyne": Driver("velodyne", 22, f"{XYZI} ring:u2:16 time:f4:18", "firing", np.nan),
    "ouster": Driver("os_lidar", 48, OUSTER, "beam", np.nan),
    "ouster, low data profile": Driver("os_lidar", 48, OUSTER, "beam", np.nan, {"intensity": 0}),
    "livox": Driver(
        "livox_frame", 26, f"{XYZI} tag:u1:16 line:u1:17 timestamp:f8:18", "", 0.0, timestamp_unit=1e-9
    ),
    "hesai": Driver("hesai_lidar", 26, ABSOLUTE),
    "hesai, clock not set": Driver("hesai_lidar", 26, ABSOLUTE, stamp_ns=SINCE_BOOT_NS),
    "robosense": Driver("rslidar", 16, XYZI, "firing", np.nan),
    "robosense, XYZIRT": Driver("rslidar", 26, ABSOLUTE, "firing", np.nan),
    "nebula": Driver("lidar", 32, NEBULA),
    "sick": Driver("world", 48, SICK, "", 0.0),
    "carla": Driver("ego_vehicle/lidar", 16, XYZI),
    "gazebo": Driver("robot/link/gpu_lidar", 32, f"{XYZ} intensity:f4:16 ring:u2:20", "beam", np.inf),
}


def message(records: np.ndarray, driver: Driver, height: int = 1) -> SimpleNamespace:
    """Return the PointCloud2 of structured records."""
    fields = [
        PointField(n, int(at), CODES[kind])
        for n, kind, at in map(lambda f: f.split(":"), driver.layout.split())
    ]
    stamp = SimpleNamespace(sec=driver.stamp_ns // 10**9, nanosec=driver.stamp_ns % 10**9)
    width = len(records) // height
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=driver.frame, stamp=stamp), height=height, width=width, fields=fields,
        is_bigendian=False, is_dense=False, point_step=driver.step, row_step=width * driver.step,
        data=records.tobytes(),
    )  # fmt: skip


def records(cloud: PointCloud, driver: Driver) -> np.ndarray:
    """Return the cloud's points as the driver's records, its misses in the driver's way."""
    names, kinds, offsets = zip(*(f.split(":") for f in driver.layout.split()), strict=True)
    formats = {"names": names, "formats": [f"<{k}" for k in kinds], "offsets": list(map(int, offsets))}
    out = np.zeros(len(cloud), np.dtype({**formats, "itemsize": driver.step}))
    lost, xyz, time_s = ~cloud.finite(), cloud.xyz.copy(), cloud.fields.get("time", 0.0)
    xyz[lost] = driver.miss
    own = {
        "intensity": cloud.fields.get("intensity"), "i": cloud.fields.get("intensity"),
        "reflectivity": cloud.fields.get("intensity"), "ring": cloud.fields.get("ring"),
        "channel": cloud.fields.get("ring"), "time": time_s, "t": time_s * 1e9, "time_stamp": time_s * 1e9,
        "timestamp": (driver.stamp_ns * 1e-9 + np.float64(time_s)) / driver.timestamp_unit,
        **dict(zip("xyz", xyz.T, strict=True)), **driver.values,
    }  # fmt: skip
    for name in names:
        out[name] = own.get(name, 0)
    return out


@pytest.fixture(scope="module")
def sweep() -> PointCloud:
    """An organised sweep of a street, a row for each beam, NaN without return."""
    scene, rng = make_street(2_000_100), np.random.default_rng(0)
    assert scene.path is not None
    lidar = SpinningLidar.random(rng, 32)
    cloud = lidar.scan(Raycaster(scene), scene.path(2.0) @ pose((0, 0, 1.8)), rng=rng, organized=True)
    return cloud.with_fields(intensity=np.rint(cloud.fields["intensity"]).clip(1, 255))


@pytest.mark.parametrize("name", LIDARS)
def test_lidars(sweep: PointCloud, name: str) -> None:
    """Fields, times and beams are found, misses stay out of everything, and the labels are the same."""
    driver, model = LIDARS[name], load_model("street", "cpu")
    (height, width), sent = sweep.grid_shape, sweep.fields
    order = np.arange(len(sweep)).reshape(height, width)
    order = order.ravel() if driver.grid == "beam" else order.T.ravel()
    order = order if driver.miss is not None else order[sweep.finite()[order]]
    rows = {"beam": height, "firing": width, "": 1}[driver.grid]
    sent_as = message(records(sweep, driver)[order], driver, rows)
    cloud = cloud_from_msg(sent_as)
    read = cloud_from_msg(sent_as, FIELDS).fields  # as the live path does
    assert FIELDS & set(cloud.fields) <= set(read) <= {*FIELDS, "reflectivity"}
    np.testing.assert_array_equal(read["intensity"], cloud.fields["intensity"])

    returns = sweep.finite()[order]
    plain = sweep.select(order[returns])
    np.testing.assert_array_equal(cloud.finite(), returns)
    np.testing.assert_array_equal(cloud.xyz[returns], sweep.xyz[order][returns])
    if "time" in driver.layout or "t:u4" in driver.layout:
        np.testing.assert_allclose(sweep_time(cloud), sent["time"][order], atol=1e-6)
    if "intensity" not in driver.values:
        np.testing.assert_array_equal(cloud.fields["intensity"], sent["intensity"][order])
    if driver.grid or "ring" in cloud.fields:
        np.testing.assert_allclose(beam_spacing(cloud)[returns], beam_spacing(plain), rtol=1e-3)
    assert mismatches(cloud, model.contract.seen) == mismatches(plain, model.contract.seen)
    found, expected = model(cloud).labels, model(plain).labels
    assert (found[~returns] == UNLABELED).all()
    assert (found[returns] == expected).mean() > 0.999


def test_intensity_of_nothing_but_zeros_is_told(sweep: PointCloud) -> None:
    silent = sweep.with_fields(intensity=np.zeros(len(sweep), np.float32))
    seen = load_model("street", "cpu").contract.seen
    assert any("the intensity is zero" in told for told in mismatches(silent, seen))


RGB_12, RGB_16 = f"{XYZ} rgb:u4:12", f"{XYZ} rgb:u4:16"
OPTICAL, BODY = R_BODY_OPTICAL, np.eye(3)
CAMERAS = {
    "realsense": (Driver("camera_depth_optical_frame", 20, RGB_16), OPTICAL),
    "realsense, orbbec: ordered_pc": (Driver("camera_depth_optical_frame", 20, RGB_16, "beam", 0.0), OPTICAL),
    "azure kinect": (Driver("rgb_camera_link", 32, RGB_16, "beam", np.nan), OPTICAL),
    "zed": (Driver("zed_left_camera_frame", 16, RGB_12, "beam", np.nan), BODY),
    "zed, voxel_point_cloud": (Driver("zed_left_camera_frame", 16, RGB_12), BODY),
    "gazebo": (Driver("robot/link/rgbd_camera", 32, RGB_16, "beam", np.inf), BODY),
    "gazebo, optical_frame_id": (Driver("camera_optical_frame", 32, RGB_16, "beam", np.inf), BODY),
}


@pytest.fixture(scope="module")
def view() -> PointCloud:
    """The view of a camera that looks down steeply, with holes."""
    return next(c for c, _ in rgbd_frames(90_002, 8, 160, 120) if upright_rotation(c)[2, 2] < -0.4)


@pytest.mark.parametrize("name", CAMERAS)
def test_cameras(view: PointCloud, name: str) -> None:
    """Axes are found by the points where the frame's name does not tell them, and levelled."""
    driver, axes = CAMERAS[name]
    colors = pack_rgb(view.fields["rgb"]) | np.uint32(
        0xFF000000
    )  # ZED's alpha makes many of them NaN as floats
    turned = replace(view, xyz=view.xyz @ (axes.T @ OPTICAL).T.astype(np.float32))
    written = records(turned, replace(driver, values={"rgb": colors}))
    kept = np.ones(len(view), bool) if driver.grid else view.finite()
    cloud = cloud_from_msg(message(written[kept], driver, view.grid_shape[0] if driver.grid else 1))
    np.testing.assert_array_equal(cloud.fields["rgb"], view.fields["rgb"][kept])
    read = cloud_from_msg(
        message(written[kept], driver, view.grid_shape[0] if driver.grid else 1), ["rgb"]
    ).fields
    np.testing.assert_array_equal(read["rgb"], cloud.fields["rgb"])
    np.testing.assert_array_equal(camera_axes(cloud), axes)
    np.testing.assert_allclose(upright(cloud)[cloud.finite()], upright(view)[view.finite()], atol=0.02)
    assert choose_model(cloud)[0] == "room"
