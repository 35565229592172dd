# SPDX-License-Identifier: Apache-2.0
"""Decode and encode PointCloud2: ours against sensor_msgs_py, in the same minute on the same machine.

Run with ROS 2 sourced (sensor_msgs_py comes with it): ``python benchmarks/decode.py [--rounds 15]``.
Every round makes a new cloud, runs the two in turn on poisoned memory and checks that the values are
equal. The ratio is median(peer) / median(ours); a target is met when the lower end of its 95 % bootstrap
interval is. Targets: >= 12x, in the longer run >= 20x (22 bytes a point) and >= 30x (48); and ours <= 2
memcpy of the message + 30 us.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.pointcloud2 import LabelledCloudEncoder, cloud_from_msg, decode_finite
from pc_perception.labels import load_label_set

NAMES = ["x", "y", "z", "intensity"]
LAYOUTS = {  # name: (points, bytes a point, offset of each of NAMES, target ratio)
    "32 beams, 20 B": (34_720, 20, (0, 4, 8, 12), 12.0),
    "64 beams, 22 B": (120_000, 22, (0, 4, 8, 12), 20.0),
    "64 beams, 48 B (PCL)": (120_000, 48, (0, 4, 8, 16), 30.0),
}


def _message(layout: tuple[int, int, tuple[int, ...], float], rng: np.random.Generator):
    """Return a sensor_msgs/PointCloud2 with 2 % NaN points, and its values."""
    import array

    from sensor_msgs.msg import PointCloud2, PointField

    n_points, step, offsets, _ = layout
    values = rng.normal(0, 20, (n_points, 4)).astype(np.float32)
    values[rng.random(n_points) < 0.02, :3] = np.nan
    raw = rng.integers(0, 256, (n_points, step), dtype=np.uint8)
    for k, offset in enumerate(offsets):
        raw[:, offset : offset + 4] = values[:, k : k + 1].view(np.uint8)
    msg = PointCloud2(height=1, width=n_points, point_step=step, row_step=step * n_points)
    pairs = zip(NAMES, offsets, strict=True)
    msg.fields = [PointField(name=n, offset=o, datatype=7, count=1) for n, o in pairs]
    msg.data = array.array("B", raw.tobytes())
    return msg, values


def _timed(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of one call in seconds."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return float(np.median(times))


def _interval(peer: NDArray, ours: NDArray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the ratio of medians and its 95 % bootstrap interval."""
    picks = rng.integers(0, len(peer), (4000, len(peer)))
    ratios = np.median(peer[picks], axis=1) / np.median(ours[picks], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(np.median(peer) / np.median(ours)), float(low), float(high)


def _decode_rows(rounds: int, rng: np.random.Generator) -> None:
    from sensor_msgs_py.point_cloud2 import read_points_numpy

    print(f"{'layout':22} {'peer us':>9} {'ours us':>9} {'memcpy us':>9} {'ratio (95 %)':>22} target")
    for name, layout in LAYOUTS.items():
        n_points = layout[0]
        out, index = np.empty((n_points, 4), np.float32), np.empty(n_points, np.int32)
        times: dict[str, list[float]] = {"peer": [], "ours": [], "copy": []}
        for number in range(rounds + 3):
            msg, values = _message(layout, rng)
            out.fill(-7)
            index.fill(-7)
            target = np.empty(len(msg.data), np.uint8)
            source = np.frombuffer(msg.data, np.uint8)
            sample = {
                "peer": _timed(partial(read_points_numpy, msg, NAMES, skip_nans=True), 5),
                "ours": _timed(partial(decode_finite, msg, NAMES, out, index), 20),
                "copy": _timed(partial(np.copyto, target, source), 20),
            }
            points, kept = decode_finite(msg, NAMES, out, index)
            if not np.array_equal(points, read_points_numpy(msg, NAMES, skip_nans=True)):
                sys.exit(f"{name}: the two decoders disagree")
            if not np.array_equal(values[kept], points):
                sys.exit(f"{name}: the index does not point at the values")
            if number >= 3:  # warm-up
                for key, seconds in sample.items():
                    times[key].append(seconds * 1e6)
        peer, ours, copy = (np.array(times[k]) for k in ("peer", "ours", "copy"))
        ratio, low, high = _interval(peer, ours, rng)
        within = np.median(ours) <= 2 * np.median(copy) + 30
        goals = {">= 12x": low >= 12, f">= {layout[3]:.0f}x": low >= layout[3], "2 memcpy + 30 us": within}
        verdict = ", ".join(f"{goal} {'met' if met else 'missed'}" for goal, met in goals.items())
        medians = f"{np.median(peer):9.1f} {np.median(ours):9.1f} {np.median(copy):9.1f}"
        print(f"{name:22} {medians} {ratio:8.1f} ({low:5.1f}..{high:5.1f}) {verdict}")


def _other_rows(rounds: int, rng: np.random.Generator) -> None:
    """Time the whole cloud and the labelled output; the peer has no like of either."""
    labels = load_label_set("street8")
    encoder = LabelledCloudEncoder(labels)
    print(f"\n{'layout':22} {'cloud_from_msg us':>18} {'labelled encode us':>19} {'memcpy out us':>14}")
    for name, layout in LAYOUTS.items():
        msg, values = _message(layout, rng)
        cloud = PointCloud(np.ascontiguousarray(values[:, :3]))
        label = rng.integers(0, len(labels), len(cloud)).astype(np.uint16)
        confidence = rng.random(len(cloud), dtype=np.float32)
        buffer = np.empty(24 * len(cloud), np.uint8)
        encoded = np.frombuffer(encoder.encode(cloud, label, confidence).data, np.uint8)
        calls = (
            partial(cloud_from_msg, msg),
            partial(encoder.encode, cloud, label, confidence),
            partial(np.copyto, buffer, encoded),
        )
        medians = [np.median([_timed(call, 5) for _ in range(rounds)]) * 1e6 for call in calls]
        print(f"{name:22} {medians[0]:18.1f} {medians[1]:19.1f} {medians[2]:14.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        import sensor_msgs_py.point_cloud2  # noqa: F401
    except ImportError:
        sys.exit("sensor_msgs_py is absent: source a ROS 2 installation (source /opt/ros/*/setup.bash)")
    rng = np.random.default_rng(arguments.seed)
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    _decode_rows(arguments.rounds, rng)
    _other_rows(arguments.rounds, rng)


if __name__ == "__main__":
    main()
