# SPDX-License-Identifier: Apache-2.0
"""How right the labels are that points take from pictures, by ``python -m benchmarks.fusion``.

Simulated streets with a LiDAR and six cameras of 400 x 225 pixels, standing still, so that only occlusion and the
pixels' size matter. ``naive``: every point takes the label of the pixel it falls on. ``fused``: as
``inference.fusion`` does it, what other points hide left out. Which points a camera truly sees is found by casting
a ray from it to each. The constants of ``fusion`` and ``ops.visibility`` were chosen on seeds 500 to 503.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe_machine
from pc_perception.geometry import in_image, inverse, pose, project, transform
from pc_perception.inference.fusion import View, fuse
from pc_perception.simulation.camera import camera_ring
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.raycast import Raycaster
from pc_perception.simulation.street import make_street

T_BASE_LIDAR = pose((0.0, 0.0, 1.84))


def truly_seen(raycaster: Raycaster, eye: NDArray, world: NDArray) -> NDArray[np.bool_]:
    """(N,) whether nothing stands between a camera and points; noise of ranges is let pass."""
    offset = world - eye
    distance = np.linalg.norm(offset, axis=1)
    rays = np.hstack([np.broadcast_to(eye, offset.shape), offset / distance[:, None]]).astype(np.float32)
    return raycaster.cast(rays).distance > 0.99 * distance - 0.15


def measure(seed: int, n_beams: int) -> tuple[NDArray[np.int64], float]:
    """Count for one street: points in a picture, right without and with the depth buffer, seen, truly seen, lost."""
    rng = np.random.default_rng(seed)
    scene = make_street(seed, 60, 8.0)
    raycaster, T_world_base = Raycaster(scene), scene.path(20.0)
    lidar = SpinningLidar(n_beams, 10.0, 1085)
    cloud = lidar.scan(raycaster, T_world_base @ T_BASE_LIDAR, np.zeros(3), 0, rng, 0.0)
    cloud = cloud.select(np.flatnonzero(cloud.finite()))
    world = transform(T_world_base @ T_BASE_LIDAR, cloud.xyz.astype(np.float64))
    counts, spent = np.zeros(6, np.int64), 0.0
    for _, camera, T_base_camera in camera_ring(6, 400, 225):
        shot = camera.render(raycaster, T_world_base @ T_base_camera, rng)
        T, K = inverse(T_base_camera) @ T_BASE_LIDAR, camera.K
        view = View(lambda p, K=K: project(K, p)[0], (K[0, 0], K[1, 1]), T, shot.rgb, shot.classes)
        begun = time.process_time()
        fused = fuse(cloud, [view])
        spent += 1e3 * (time.process_time() - begun)
        uv, depth = project(K, transform(T, cloud.xyz))
        inside = np.flatnonzero(in_image(uv, depth, camera.width, camera.height))
        u, v = np.rint(uv[inside]).astype(int).T
        truth, seen = cloud.fields["label"], fused.view >= 0
        free = truly_seen(raycaster, (T_world_base @ T_base_camera)[:3, 3], world[inside])
        counts += [
            len(inside),
            (shot.classes[v, u] == truth[inside]).sum(),
            seen.sum(),
            (fused.labels == truth)[seen].sum(),
            free.sum(),
            (free & ~seen[inside]).sum(),
        ]
    return counts, spent


def main() -> None:
    """Print one row for each number of beams: mean and standard deviation over streets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streets", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=600)
    arguments = parser.parse_args()
    print(describe_machine())
    print(
        "| beams | naive: right | fused: right | visible points lost | CPU ms, six cameras |\n|---|---|---|---|---|"
    )
    for n_beams in (16, 32, 64):
        rows = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.streets):
            (inside, naive, seen, right, free, lost), spent = measure(seed, n_beams)
            rows.append([naive / inside, right / seen, lost / free, spent])
        mean, std = np.mean(rows, 0), np.std(rows, 0, ddof=1)
        shares = " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean[:3], std[:3], strict=True))
        print(f"| {n_beams} | {shares} | {mean[3]:.0f} |")


if __name__ == "__main__":
    main()
