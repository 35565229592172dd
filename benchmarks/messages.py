# SPDX-License-Identifier: Apache-2.0
"""PointCloud2 to arrays (A1) and labels to PointCloud2 (A2). Rows of ``python -m benchmarks stream``.

Peers: sensor_msgs_py and the message's checked setter where ROS 2 is sourced; a structured NumPy read and
write everywhere. The floor is one copy of the message's bytes, measured in the same rounds.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.harness import Case, Round, installed
from pc_perception.cloud import PointCloud
from pc_perception.io.message_encoding import CloudMessage, Header, LabelledCloudEncoder, PointField, Stamp
from pc_perception.io.pointcloud2 import decode_finite
from pc_perception.labels import load_label_set

NAMES = ("x", "y", "z", "intensity")
LAYOUTS = {  # name: points, bytes a point, offset of each of NAMES, target ratio
    "34,720 points, 20 B": (34_720, 20, (0, 4, 8, 12), 12.0),
    "120,000 points, 22 B": (120_000, 22, (0, 4, 8, 12), 20.0),
    "120,000 points, 48 B (PCL)": (120_000, 48, (0, 4, 8, 16), 30.0),
}


def message(
    rng: np.random.Generator, n_points: int, step: int, offsets: tuple[int, ...]
) -> tuple[CloudMessage, np.ndarray]:
    """Return a message with 2 % NaN points and noise between the fields, and its (N, 4) float32 values."""
    values = rng.normal(0, 20, (n_points, 4)).astype(np.float32)
    values[rng.random(n_points) < 0.02, :3] = np.nan
    raw = rng.integers(0, 256, (n_points, step), dtype=np.uint8)
    for k, offset in enumerate(offsets):
        raw[:, offset : offset + 4] = values[:, k : k + 1].view(np.uint8)
    fields = [PointField(name, offset, 7) for name, offset in zip(NAMES, offsets, strict=True)]
    data = array.array("B", raw.tobytes())
    head = Header(Stamp(0, 0), "lidar")
    return CloudMessage(head, 1, n_points, fields, step, step * n_points, data, False), values


def decode(rng: np.random.Generator, n_points: int, step: int, offsets: tuple[int, ...]) -> Round:
    msg, values = message(rng, n_points, step, offsets)
    out, index = np.full((n_points, 4), -7, np.float32), np.full(n_points, -7, np.int32)
    source, copy = np.frombuffer(msg.data, np.uint8), np.empty(len(msg.data), np.uint8)
    kind = np.dtype({"names": NAMES, "formats": ["<f4"] * 4, "offsets": offsets, "itemsize": step})

    def by_structure() -> np.ndarray:
        rows = np.frombuffer(msg.data, kind)
        points = np.stack([rows[name] for name in NAMES], 1)
        return points[np.isfinite(points).all(1)]

    peers: dict[str, Callable[[], object]] = {"NumPy structured": by_structure}
    if installed("sensor_msgs_py"):
        peers = {"sensor_msgs_py": _sensor_msgs_py(msg)}

    def check(result: object) -> None:
        points, kept = decode_finite(msg, NAMES, out, index)
        assert np.array_equal(points, by_structure()), "values differ"
        assert np.array_equal(values[kept], points), "the index does not point at the values"

    return Round(
        partial(decode_finite, msg, NAMES, out, index), peers, check, partial(np.copyto, copy, source)
    )


def _sensor_msgs_py(msg: CloudMessage) -> Callable[[], object]:
    from sensor_msgs.msg import PointCloud2
    from sensor_msgs.msg import PointField as RosField
    from sensor_msgs_py.point_cloud2 import read_points_numpy

    ros = PointCloud2(height=1, width=msg.width, point_step=msg.point_step, row_step=msg.row_step)
    ros.fields = [RosField(name=f.name, offset=f.offset, datatype=f.datatype, count=1) for f in msg.fields]
    ros.data = msg.data
    return partial(read_points_numpy, ros, list(NAMES), skip_nans=True)


def encode(rng: np.random.Generator, n_points: int) -> Round:
    labels = load_label_set("street8")
    encoder = LabelledCloudEncoder(labels)
    cloud = PointCloud(rng.normal(0, 20, (n_points, 3)).astype(np.float32))
    label = rng.integers(0, len(labels), n_points).astype(np.uint16)
    confidence = rng.random(n_points, dtype=np.float32)
    encoded = encoder.encode(cloud, label, confidence)
    source, copy = np.frombuffer(encoded.data, np.uint8).copy(), np.empty(len(encoded.data), np.uint8)
    step = encoded.point_step
    names = ("x", "y", "z", "label", "confidence")
    places = {f.name: f.offset for f in encoded.fields}
    formats = ["<f4", "<f4", "<f4", "<u2", "<f4"]
    kind = np.dtype(
        {"names": names, "formats": formats, "offsets": [places[n] for n in names], "itemsize": step}
    )

    def by_structure() -> array.array:
        rows = np.zeros(n_points, kind)
        for k, name in enumerate("xyz"):
            rows[name] = cloud.xyz[:, k]
        rows["label"], rows["confidence"] = label, confidence
        return array.array("B", rows.tobytes())

    peers: dict[str, Callable[[], object]] = {"NumPy structured": by_structure}
    if installed("sensor_msgs"):
        from sensor_msgs.msg import PointCloud2

        ros, raw = PointCloud2(check_fields=True), source.tobytes()
        peers = {"checked setter": partial(setattr, ros, "data", raw)}

    def check(result: object) -> None:
        rows = np.frombuffer(encoder.encode(cloud, label, confidence).data, kind)
        expected = np.frombuffer(by_structure(), kind)
        assert all(np.array_equal(rows[name], expected[name]) for name in names), "values differ"

    ours = partial(encoder.encode, cloud, label, confidence)
    return Round(ours, peers, check, partial(np.copyto, copy, source))


CASES = [
    *(Case("A1", name, lambda rng, v=v: decode(rng, *v[:3]), v[3]) for name, v in LAYOUTS.items()),
    Case("A2", "34,720 points", lambda rng: encode(rng, 34_720), 2000 if installed("sensor_msgs") else 0),
    Case("A2", "120,000 points", lambda rng: encode(rng, 120_000), 2000 if installed("sensor_msgs") else 0),
]
