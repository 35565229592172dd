# SPDX-License-Identifier: Apache-2.0
"""Simulated rigs with known truth: a board in a hall, or streets, seen by a camera and by a spinning LiDAR."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board, Corners
from calibration.board_pose import image_board
from calibration.board_search import find_boards
from calibration.camera import CameraModel
from calibration.consensus import Sighting
from calibration.frames import Frame
from calibration.scan_lines import scan_lines
from calibration.twist import moved, rotation
from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL, inverse, pose, rotation_z, transform

PINHOLE = CameraModel(
    1280,
    960,
    np.array([[800.0, 0, 645], [0, 803, 470], [0, 0, 1]]),
    np.array([-0.17, 0.05, 0.001, -0.0005, 0.0]),
)
FISHEYE = CameraModel(
    1280,
    960,
    np.array([[560.0, 0, 645], [0, 561, 470], [0, 0, 1]]),
    np.array([-0.03, 0.01, -0.005, 0.001]),
    "equidistant",
)
BOARD = Board(columns=8, rows=6, square_m=0.1, width_m=1.0, height_m=0.8)
_SUPERSAMPLING = 3
_THICKNESS_M = 0.003


@dataclass(frozen=True)
class Rig:
    """What stands where; the truth that a calibration is measured against.

    Attributes:
        camera: its intrinsics.
        T_camera_lidar: (4, 4).
        board: the target.
        elevations_deg: of the LiDAR's beams.
        n_azimuths: firings per turn.
        range_noise_m: standard deviation of a range.
        n_sweeps: turns while the board stands still, each with its firings at other azimuths.
    """

    camera: CameraModel = PINHOLE
    T_camera_lidar: NDArray[np.float64] = field(
        default_factory=lambda: pose((0.1, -0.2, -0.1), R_BODY_OPTICAL.T)
    )
    board: Board = BOARD
    elevations_deg: tuple[float, ...] = tuple(np.linspace(-16.6, 16.6, 64))
    n_azimuths: int = 1024
    range_noise_m: float = 0.015
    n_sweeps: int = 5

    @classmethod
    def draw(cls, rng: np.random.Generator, camera: CameraModel = PINHOLE) -> Rig:
        """Draw a mount: up to 5 degrees and some decimetres from looking straight ahead."""
        R = rotation(rng.uniform(-0.09, 0.09, 3)) @ R_BODY_OPTICAL.T
        return cls(camera, pose(rng.uniform([-0.3, -0.4, -0.3], [0.3, 0.0, 0.1]), R))


@dataclass(frozen=True)
class Shot:
    """One pose of the board: what both sensors saw, and the board's true pose."""

    frame: Frame
    T_camera_board: NDArray[np.float64]


def simulate_shots(rig: Rig, rng: np.random.Generator, n_poses: int = 10) -> list[Shot]:
    """Hold the board at ``n_poses`` places, tilted and turned, 1.8 to 4 m away, and take both sensors' pictures."""
    return [shoot(rig, draw_pose(rig, rng), rng, f"pose{k}") for k in range(n_poses)]


def shoot(rig: Rig, T_camera_board: NDArray, rng: np.random.Generator, name: str = "") -> Shot:
    """Take both sensors' pictures of a board at a given pose."""
    image, cloud = picture(rig, T_camera_board, rng), sweep(rig, T_camera_board, rng)
    return Shot(Frame(name, image, cloud, "camera"), T_camera_board)


def draw_pose(rig: Rig, rng: np.random.Generator) -> NDArray:
    """A pose whose outline lies in the picture and within the LiDAR's elevations."""
    low, high = np.radians([min(rig.elevations_deg) + 1, max(rig.elevations_deg) - 1])
    while True:
        uv = rng.uniform([0.1, 0.2], [0.9, 0.8]) * [rig.camera.width, rig.camera.height]
        middle = rig.camera.rays(uv[None])[0] * rng.uniform(1.8, 4.0)
        R = rotation(rng.uniform(-0.7, 0.7, 3) * [1, 1, 0]) @ rotation_z(rng.uniform(0.25, 1.3))
        T = pose(middle, R)
        corners = transform(T, rig.board.outline)
        x, y, z = transform(inverse(rig.T_camera_lidar), corners).T
        elevation = np.arctan2(z, np.hypot(x, y))
        seen = rig.camera.sees(rig.camera.project(corners)).all()
        if seen and elevation.min() > low and elevation.max() < high and R[2, 2] > 0.7:
            return T


def picture(rig: Rig, T_camera_board: NDArray, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W) uint8 picture of the board before a smooth background, with blur, shading and noise."""
    from scipy.ndimage import gaussian_filter

    camera = rig.camera
    shape = (camera.height, camera.width)
    image = 110 + 400 * gaussian_filter(rng.standard_normal(shape), 12)
    uv = camera.project(transform(T_camera_board, rig.board.outline))
    low = np.maximum(np.floor(uv.min(0)).astype(int) - 8, 0)
    high = np.minimum(np.ceil(uv.max(0)).astype(int) + 9, [camera.width, camera.height])
    v, u = np.mgrid[low[1] : high[1], low[0] : high[0]]
    rays = camera.rays(np.stack([u.ravel(), v.ravel()], 1)).reshape(*u.shape, 3)
    down, right = np.gradient(rays, axis=(0, 1))
    behind = image[low[1] : high[1], low[0] : high[0]]
    offsets = (np.arange(_SUPERSAMPLING) + 0.5) / _SUPERSAMPLING - 0.5
    light = np.mean([_light(rig.board, T_camera_board, rays + a * down + b * right, behind)
                     for a in offsets for b in offsets], axis=0)  # fmt: skip
    image[low[1] : high[1], low[0] : high[0]] = light
    shade = 1 + 0.15 * np.linspace(-1, 1, camera.width)
    image = gaussian_filter(image * shade, 0.6) + rng.normal(0, 2.5, shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _light(board: Board, T_camera_board: NDArray, rays: NDArray, behind: NDArray) -> NDArray:
    """Grey values of the board where rays meet it; elsewhere what is behind."""
    T = inverse(T_camera_board)
    origin, directions = T[:3, 3], rays @ T[:3, :3].T
    x, y = np.moveaxis(origin[:2] - directions[..., :2] * (origin[2] / directions[..., 2])[..., None], -1, 0)
    column = (x - board.shift_m[0]) / board.square_m + (board.columns + 1) / 2
    row = (y - board.shift_m[1]) / board.square_m + (board.rows + 1) / 2
    pattern = (column > 0) & (column < board.columns + 1) & (row > 0) & (row < board.rows + 1)
    black = pattern & ((np.floor(column) + np.floor(row)) % 2 == 0)
    on = (np.abs(x) < board.width_m / 2) & (np.abs(y) < board.height_m / 2)
    return np.where(on, np.where(black, 35.0, 205.0), behind)


def sweep(rig: Rig, T_camera_board: NDArray, rng: np.random.Generator) -> PointCloud:
    """Some turns of the LiDAR in a hall with a person and boxes; the board stands on a pole."""
    from pc_perception.simulation import shapes
    from pc_perception.simulation.echo import Echo
    from pc_perception.simulation.lidar import SpinningLidar
    from pc_perception.simulation.materials import Material
    from pc_perception.simulation.raycast import Raycaster
    from pc_perception.simulation.scene import Part, Scene, make_object

    T_lidar_board = inverse(rig.T_camera_lidar) @ T_camera_board
    plate = shapes.box((rig.board.width_m, rig.board.height_m, _THICKNESS_M), (0, 0, _THICKNESS_M / 2))
    middle = T_lidar_board[:3, 3]
    foot = middle + 0.08 * T_lidar_board[:3, 2]
    pole = shapes.placed(shapes.cylinder(0.02, max(foot[2] + 1.5, 0.1)), (foot[0], foot[1], -1.5))
    beside = np.array([-middle[1], middle[0], 0.0]) / np.hypot(*middle[:2])
    person = shapes.placed(shapes.cylinder(0.22, 1.8), (*(middle + 1.1 * beside)[:2], -1.5))
    hall = shapes.box((16.0, 12.0, 5.0), (2.0, 0.5, 1.0))
    boxes = [shapes.box(rng.uniform(0.3, 1.2, 3), (*rng.uniform([-5, -5], [-1, 5]), rng.uniform(-1.2, 0)))
             for _ in range(8)]  # fmt: skip
    material = Material(reflectivity=0.5)
    parts = [Part("body", *shapes.moved(plate, T_lidar_board), material)]
    parts += [Part("body", *mesh, material) for mesh in (pole, person, hall, *boxes)]
    scene = Scene.build([make_object(1, parts)], "simulation_room")
    lidar = SpinningLidar(
        n_beams=len(rig.elevations_deg),
        n_azimuths=rig.n_azimuths,
        elevations=rig.elevations_deg,
        min_range_m=0.5,
        echo=Echo(range_noise_m=rig.range_noise_m),
    )
    raycaster = Raycaster(scene)
    clouds = []
    for _ in range(rig.n_sweeps):
        phase = rotation_z(rng.uniform(0, 2 * np.pi / rig.n_azimuths))
        cloud = lidar.scan(raycaster, pose(R=phase), rng=rng)
        clouds.append(replace(cloud, xyz=cloud.xyz @ phase.T.astype(np.float32)))
    fields = {n: np.concatenate([c.fields[n] for c in clouds]) for n in ("intensity", "ring")}
    return PointCloud(np.concatenate([c.xyz for c in clouds]), fields, "lidar")


def simulate_sightings(
    rig: Rig, rng: np.random.Generator, n_poses: int = 10, corner_noise_px: float = 0.1
) -> list[Sighting]:
    """As ``simulate_shots``, with the board found in both: true corners with noise in place of a rendered picture.

    Rendering and finding corners takes most of the time and leaves 0.05 to 0.1 px of noise.
    """
    sightings = []
    for k in range(n_poses):
        T = draw_pose(rig, rng)
        uv = rig.camera.project(transform(T, rig.board.corners))
        uv += rng.normal(0, corner_noise_px, uv.shape)
        image = image_board(rig.camera, rig.board, Corners(uv, np.arange(len(uv))))
        middle = (inverse(rig.T_camera_lidar) @ T)[:3, 3]
        lines = scan_lines(sweep(rig, T, rng))
        sightings.append(Sighting(f"pose{k}", image, find_boards(lines, rig.board, near=middle)))
    return sightings


def simulate_street_frames(
    seed: int, n_frames: int = 8
) -> tuple[list[Frame], CameraModel, NDArray[np.float64]]:
    """Stand in ``n_frames`` streets with a roof-mounted LiDAR of 64 beams and a front camera.

    Returns:
        Frames, the camera and the true T_camera_lidar.
    """
    from pc_perception.simulation.camera import PinholeCamera, look
    from pc_perception.simulation.drive import simulate_drive
    from pc_perception.simulation.lidar import SpinningLidar

    lidar = SpinningLidar(64, n_azimuths=1800, elevations=tuple(np.linspace(-25, 15, 64)))
    camera = PinholeCamera.from_fov(960, 600, 75)
    T_base_camera, T_base_lidar = look(np.array([1.2, 0.1, 1.5]), 0.02, -0.03), pose((0.9, 0.0, 1.9))
    frames = []
    for k in range(n_frames):
        drive = simulate_drive(
            100 * seed + k, 1, lidar, [("camera", camera, T_base_camera)], 0.0, T_base_lidar
        )
        shot = next(drive)
        frames.append(Frame(f"street{k}", shot.images["camera"].rgb, shot.cloud, "camera"))
    return frames, CameraModel(960, 600, camera.K), inverse(T_base_camera) @ T_base_lidar


def disturbed(
    T: NDArray, rng: np.random.Generator, angle_deg: float = 2.0, distance_m: float = 0.1
) -> NDArray[np.float64]:
    """Return ``T`` turned and shifted by exactly so much in random directions (see ``twist.moved``)."""
    axis, way = rng.normal(size=(2, 3))
    twist = np.r_[axis * np.radians(angle_deg) / np.linalg.norm(axis), way * distance_m / np.linalg.norm(way)]
    return moved(T, twist)
