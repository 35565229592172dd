# SPDX-License-Identifier: Apache-2.0
"""Drives through simulated streets: sweeps, poses, camera pictures and boxes, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse, pose, rotation_x, rotation_y
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.raycast import Raycaster
from pc_perception.simulation.street import make_street

_START_NS = 1_760_000_000_000_000_000
_STRETCH_M = 300.0


@dataclass(frozen=True)
class ObjectBox:
    """A labelled box: (4, 4) pose of its centre, (3,) length, width, height, (3,) velocity in m/s."""

    instance: int
    raw_class: int
    T_world_box: NDArray
    size: NDArray
    velocity: NDArray


@dataclass(frozen=True)
class DriveFrame:
    """One sweep of a drive and all that is known about it.

    Attributes:
        stamp_ns: start of the sweep.
        cloud: in frame ``lidar``, see ``SpinningLidar.scan``.
        T_world_base: (4, 4) vehicle on the ground, below the sensor's mount.
        T_base_lidar: (4, 4).
        images: camera name -> what the camera's ``render`` returns.
        T_base_cameras: camera name -> (4, 4), optical frames.
        boxes: things within 80 m.
        stretch: number of the street; instance ids are unique within one stretch.
    """

    stamp_ns: int
    cloud: PointCloud
    T_world_base: NDArray
    T_base_lidar: NDArray
    images: Mapping[str, Any] = field(default_factory=dict)
    T_base_cameras: Mapping[str, NDArray] = field(default_factory=dict)
    boxes: tuple[ObjectBox, ...] = ()
    stretch: int = 0


def simulate_drive(
    seed: int,
    n_sweeps: int,
    lidar: SpinningLidar | None = None,
    cameras: Sequence[tuple[str, Any, NDArray]] = (),
    speed: float | None = None,
    T_base_lidar: NDArray | None = None,
) -> Iterator[DriveFrame]:
    """Drive through streets, one sweep after the other.

    Args:
        seed: decides everything.
        n_sweeps: how many frames to give.
        lidar: the sensor; None draws one.
        cameras: (name, camera, T_base_camera) with a method ``render(raycaster, T_world_camera, rng, stamp_ns=...)``.
        speed: m/s; None draws one.
        T_base_lidar: mount of the sensor; None draws one, 1.5 to 2.2 m high.

    Yields:
        Frames. After 300 m the surroundings change to those of another street, while the pose goes on.

    Raises:
        ValueError: ``n_sweeps`` is negative.
    """
    if n_sweeps < 0:
        raise ValueError(f"n_sweeps must not be negative, got {n_sweeps}")
    rng = np.random.default_rng([20260102, seed])
    drawn = SpinningLidar.random(rng)
    lidar = drawn if lidar is None else lidar
    drawn_speed = float(rng.uniform(2, 14)) if rng.random() < 0.85 else 0.0
    speed = drawn_speed if speed is None else speed
    mount = draw_mount(rng)
    T_base_lidar = mount if T_base_lidar is None else T_base_lidar
    step_m = speed / lidar.rate_hz
    per_stretch = n_sweeps if step_m * n_sweeps <= _STRETCH_M else int(_STRETCH_M / step_m)
    T_join = np.eye(4)
    done = 0
    while done < n_sweeps:
        n = min(per_stretch, n_sweeps - done)
        stretch = done // per_stretch
        scene = make_street(seed + 1_000_003 * stretch, (n + 2) * step_m, speed)
        assert scene.path is not None
        # The next street is laid so that its path starts where the last one ended.
        T_new = T_join @ inverse(scene.path(0.0)) if stretch else np.eye(4)
        raycaster = Raycaster(scene)
        for i in range(n):
            stamp = _START_NS + round((done + i) * 1e9 / lidar.rate_hz)
            frame = _frame(scene, raycaster, lidar, cameras, i * step_m, speed, T_base_lidar, stamp, rng, i)
            yield _shifted(frame, T_new, stretch)
        T_join = T_new @ scene.path(n * step_m)
        done += n


def draw_mount(rng: np.random.Generator) -> NDArray:
    """Draw T_base_lidar: 1.5 to 2.2 m high, level to about a degree."""
    tilt = rotation_y(rng.normal(0, 0.012)) @ rotation_x(rng.normal(0, 0.008))
    return pose((rng.uniform(-0.3, 0.9), 0.0, rng.uniform(1.5, 2.2)), tilt)


def _frame(  # type: ignore[no-untyped-def]
    scene, raycaster, lidar, cameras, distance, speed, T_base_lidar, stamp, rng, i
) -> DriveFrame:
    time_s = i / lidar.rate_hz
    raycaster.move_to(time_s)
    T_world_base = scene.path(distance)
    ahead = scene.path(distance + max(speed, 0.1) / lidar.rate_hz)
    turn = np.arctan2(ahead[1, 0], ahead[0, 0]) - np.arctan2(T_world_base[1, 0], T_world_base[0, 0])
    yaw_rate = float((turn + np.pi) % (2 * np.pi) - np.pi) * lidar.rate_hz if speed else 0.0
    velocity = (ahead[:3, 3] - T_world_base[:3, 3]) * lidar.rate_hz if speed else np.zeros(3)
    cloud = lidar.scan(raycaster, T_world_base @ T_base_lidar, velocity, stamp, rng, yaw_rate)
    camera_rng = np.random.default_rng([stamp, 1])  # clouds are the same with and without cameras
    images = {
        name: camera.render(raycaster, T_world_base @ T, camera_rng, stamp_ns=stamp)
        for name, camera, T in cameras
    }
    boxes = []
    for o in scene.objects:
        if (
            o.is_thing
            and np.hypot(*(o.T_world_object[:2, 3] - T_world_base[:2, 3])) < 80 + 20 * o.is_dynamic * time_s
        ):
            now = o.at(time_s)
            boxes.append(ObjectBox(o.instance, o.raw_class, now.T_world_box, now.size, now.velocity))
    mounts = {name: T for name, _, T in cameras}
    return DriveFrame(stamp, cloud, T_world_base, T_base_lidar, images, mounts, tuple(boxes))


def _shifted(frame: DriveFrame, T_new: NDArray, stretch: int) -> DriveFrame:
    """Move a frame's world and mark to which stretch of the drive its instance ids belong."""
    if not stretch:
        return frame
    R = T_new[:3, :3]
    boxes = tuple(
        ObjectBox(b.instance, b.raw_class, T_new @ b.T_world_box, b.size, R @ b.velocity) for b in frame.boxes
    )
    return DriveFrame(
        frame.stamp_ns, frame.cloud, T_new @ frame.T_world_base, frame.T_base_lidar, frame.images,
        frame.T_base_cameras, boxes, stretch,
    )  # fmt: skip
