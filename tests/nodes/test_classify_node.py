# SPDX-License-Identifier: Apache-2.0
"""What comes out of the classification node for what goes in; real rclpy, real DDS, a small real model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pc_perception.inference.loading import load_classifier
from pc_perception.inference.objects import SweepObjects
from pc_perception.io.pointcloud2 import cloud_from_msg
from tests.nodes import tiny_model
from tests.nodes.test_rviz import displays, find_publishers

if TYPE_CHECKING:
    from tests.nodes.conftest import Bench

pytestmark = pytest.mark.ros
PERIOD_NS = 100_000_000


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write_objects(tmp_path_factory.mktemp("model") / "objects.safetensors")


def start(bench: Bench, model: Path, **values: Any) -> Any:
    """Make and activate a classification node on the bench; without a segmentation unless told otherwise."""
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.parameter import Parameter

    from ros2_nodes.classify_node import ClassifyNode

    fixed = {
        "model": str(model),
        "segmenter": "",
        "autostart": False,
        "threads": 1,
        "diagnostics_period_s": 0.2,
    }
    overrides = [Parameter(name, value=value) for name, value in {**fixed, **values}.items()]
    bench.node = ClassifyNode(parameter_overrides=overrides)
    bench.executor.add_node(bench.node)
    assert bench.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert bench.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    bench.connect_sensor()
    return bench.node


def listen(bench: Bench, topic: str, kind: Any) -> list[Any]:
    got = bench.listen(topic, kind)
    bench.spin_until(lambda: bench.node.count_subscribers(topic) > 0, "the match")
    bench.spin(0.2)
    return got


def status_of(bench: Bench, diagnostics: list[Any], name: str, wanted: Callable[[Any], bool]) -> Any:
    """Return the first status ``name`` from now on that is ``wanted``."""
    diagnostics.clear()

    def find() -> Any:
        found = (s for m in diagnostics for s in m.status if s.name == f"classify_node: {name}")
        return next((s for s in found if wanted(s)), None)

    bench.spin_until(find, f"the diagnostic {name}")
    return find()


def cubes(*centers: tuple[float, float], seed: int = 0) -> np.ndarray:
    """(n, 4) float32 x, y, z, intensity: level ground at -1.8 m and cubes of a metre that stand on it."""
    rng = np.random.default_rng(seed)
    road = np.column_stack([rng.uniform(-30, 30, (3000, 2)), np.full(3000, -1.8)])
    solid = [rng.uniform(-0.5, 0.5, (80, 3)) + np.array([x, y, -1.3]) for x, y in centers]
    xyz = np.concatenate([road, *solid])
    return np.column_stack([xyz, np.full(len(xyz), 20.0)]).astype(np.float32)


def at(msg: Any, stamp_ns: int) -> Any:
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return msg


def test_detections_markers_and_instances_say_what_the_library_says(
    bench: Bench, objects: Path, make_cloud: Callable
) -> None:
    from sensor_msgs.msg import PointCloud2
    from sensor_msgs_py.point_cloud2 import read_points
    from vision_msgs.msg import Detection3DArray
    from visualization_msgs.msg import Marker, MarkerArray

    start(bench, objects, fixed_frame="")
    got = listen(bench, "objects", Detection3DArray)
    markers, instances = listen(bench, "object_markers", MarkerArray), listen(bench, "instances", PointCloud2)
    sent = make_cloud(cubes((5.0, 0.0), (8.0, 6.0), (-12.0, 3.0)), height=10)
    array = bench.label(sent, got)
    bench.spin_until(lambda: markers and instances, "all outputs")
    expected = SweepObjects(load_classifier(objects, "cpu"))(cloud_from_msg(sent))
    assert len(expected) == 3
    assert array.header == sent.header
    assert [d.id for d in array.detections] == [str(i) for i in expected.track_ids]
    names = [expected.name(row) for row in range(3)]
    assert [d.results[0].hypothesis.class_id for d in array.detections] == names
    scores = [d.results[0].hypothesis.score for d in array.detections]
    assert scores == pytest.approx(expected.scores.max(1).tolist(), abs=1e-5)
    centers = [
        [d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.center.position.z]
        for d in array.detections
    ]
    np.testing.assert_allclose(centers, expected.T_cloud_box[:, :3, 3], atol=1e-4)
    sizes = [[d.bbox.size.x, d.bbox.size.y, d.bbox.size.z] for d in array.detections]
    np.testing.assert_allclose(sizes, expected.sizes, atol=1e-4)
    texts = [m.text for m in markers[-1].markers if m.text]
    assert texts == [f"{name} {i}" for name, i in zip(names, expected.track_ids, strict=True)]
    assert len({(m.ns, m.id) for m in markers[-1].markers}) == len(markers[-1].markers) == 7
    clear = markers[-1].markers[0]  # of no namespace: RViz deletes those of all
    assert (clear.action, clear.ns) == (Marker.DELETEALL, "")
    cloud = instances[-1]
    assert (cloud.header, cloud.height, cloud.width) == (sent.header, 10, sent.width)
    assert {f.name: f.datatype for f in cloud.fields if f.name != "rgb"} == {
        **dict.fromkeys("xyz", 7),
        "instance": 6,
        "label": 4,
    }
    assert np.array_equal(read_points(cloud)["instance"].ravel(), expected.instance)


def test_objects_are_followed_through_tf(bench: Bench, objects: Path, make_cloud: Callable) -> None:
    """A sensor drives past a cube that stands and one that drives: ids stay, speeds are over ground."""
    from diagnostic_msgs.msg import DiagnosticArray
    from tf2_ros import TransformBroadcaster
    from vision_msgs.msg import Detection3DArray
    from visualization_msgs.msg import MarkerArray

    from pc_perception.geometry import pose
    from ros2_nodes.conversions import transform_message

    start(bench, objects, tf_timeout_s=2.0, score_threshold=0.0)
    got, markers = listen(bench, "objects", Detection3DArray), listen(bench, "object_markers", MarkerArray)
    diagnostics = bench.listen("/diagnostics", DiagnosticArray)
    broadcaster = TransformBroadcaster(bench.peer)
    bench.spin(0.5)
    ids = []
    for i in range(8):
        drive, stamp = 0.5 * i, 1_700_000_000 * 10**9 + i * PERIOD_NS
        msg = at(make_cloud(cubes((10.0 - drive, -4.0), (8.0 + 1.0 * i - drive, 5.0))), stamp)
        for _ in range(2):  # a transform may be lost while its listener is being found
            transform = transform_message(pose((drive, 0.0, 1.8)), "odom", "velodyne", msg.header.stamp)
            broadcaster.sendTransform(transform)
            bench.spin(0.05)
        ids.append(sorted(d.id for d in bench.label(msg, got).detections))
    assert ids == [["1", "2"]] * 8
    bench.spin_until(lambda: len(markers) >= 8, "the markers")
    texts = sorted((m.text for m in markers[-1].markers if m.text), key=len)
    assert "m/s" not in texts[0]
    assert abs(float(texts[1].split()[-2]) - 10.0) < 1.5
    told = status_of(bench, diagnostics, "tracking", lambda s: s.message == "in 'odom'")
    assert told.level == b"\x00"


def test_without_a_transform_objects_are_told_in_the_sensors_frame(
    bench: Bench, objects: Path, make_cloud: Callable
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from vision_msgs.msg import Detection3DArray

    start(bench, objects, tf_timeout_s=0.05)
    got, diagnostics = (
        listen(bench, "objects", Detection3DArray),
        bench.listen("/diagnostics", DiagnosticArray),
    )
    found = [bench.label(make_cloud(cubes((5.0, 0.0))), got) for _ in range(2)]
    assert [[d.id for d in f.detections] for f in found] == [["1"], ["1"]]
    told = status_of(bench, diagnostics, "tracking", lambda s: s.level == b"\x01")
    assert "sensor's own frame" in told.message
    assert "'odom'" in told.message
    counted = status_of(bench, diagnostics, "finding objects", lambda s: s.level == b"\x00")
    values = {v.key: v.value for v in counted.values}
    assert (values["classified"], values["objects"], values["failed"]) == ("2", "1", "0")


def test_bad_clouds_and_clocks(bench: Bench, objects: Path, make_cloud: Callable) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from vision_msgs.msg import Detection3DArray

    start(bench, objects, fixed_frame="")
    got, diagnostics = (
        listen(bench, "objects", Detection3DArray),
        bench.listen("/diagnostics", DiagnosticArray),
    )
    empty = make_cloud(np.zeros((0, 4), np.float32))
    assert bench.label(empty, got).detections == []
    assert bench.label(make_cloud(cubes()), got).detections == []
    stamps = [2 * 10**18, 2 * 10**18 + PERIOD_NS, 10**18]
    ids = [bench.label(at(make_cloud(cubes((5.0, 0.0))), s), got).detections[0].id for s in stamps]
    assert ids == ["1", "1", "2"]
    broken = make_cloud(cubes((5.0, 0.0)))
    broken.data = broken.data[:500]
    bench.send(broken)
    told = status_of(
        bench, diagnostics, "finding objects", lambda s: s.level == b"\x01" and "500" in s.message
    )
    assert "not classified" in told.message
    zero = [bench.label(at(make_cloud(cubes((5.0, 0.0))), 0), got).detections[0].id for _ in range(3)]
    assert zero == ["3", "3", "3"]
    told = status_of(bench, diagnostics, "finding objects", lambda s: "stamp of zero" in s.message)
    assert told.level == b"\x01"


def test_parameters_change_at_run_time_and_models_are_read_again(
    bench: Bench, objects: Path, tiny: Path, make_cloud: Callable, tmp_path: Path
) -> None:
    from rclpy.parameter import Parameter
    from std_srvs.srv import Trigger
    from vision_msgs.msg import Detection3DArray

    model = tmp_path / "objects.safetensors"
    model.write_bytes(objects.read_bytes())
    node = start(bench, model, fixed_frame="")
    got, msg = listen(bench, "objects", Detection3DArray), make_cloud(cubes((5.0, 0.0), (8.0, 6.0)))
    assert len(bench.label(msg, got).detections) == 2
    assert node.set_parameters([Parameter("max_objects", value=1)])[0].successful
    assert len(bench.label(msg, got).detections) == 1
    assert node.set_parameters([Parameter("score_threshold", value=1.0)])[0].successful
    assert bench.label(msg, got).detections[0].results[0].hypothesis.class_id == "unknown"
    assert not node.set_parameters([Parameter("min_points", value=0)])[0].successful
    model.write_bytes(tiny.read_bytes())  # a model for points, not for objects
    answer = node._reload(Trigger.Request(), Trigger.Response())
    assert not answer.success
    assert "the old model stays" in answer.message
    assert "this needs 'classification'" in answer.message
    model.write_bytes(objects.read_bytes())
    assert node._reload(Trigger.Request(), Trigger.Response()).success
    assert bench.label(msg, got).detections[0].id == "1"


def test_a_segmentation_decides_what_is_clustered(
    bench: Bench, objects: Path, tiny: Path, make_cloud: Callable
) -> None:
    from vision_msgs.msg import Detection3DArray

    from pc_perception.inference.loading import load_segmenter

    start(bench, objects, segmenter=str(tiny), fixed_frame="", min_points=1)
    msg = make_cloud(cubes((5.0, 0.0), (8.0, 6.0), (-12.0, 3.0)))
    found = bench.label(msg, listen(bench, "objects", Detection3DArray))
    from pc_perception.inference.instances import InstanceOptions
    from pc_perception.inference.objects import ObjectOptions

    options = ObjectOptions(InstanceOptions(min_points=1))
    sweeps = SweepObjects(load_classifier(objects, "cpu"), load_segmenter(tiny, "cpu"), options)
    assert len(found.detections) == len(sweeps(cloud_from_msg(msg)))


def test_every_display_of_rviz_finds_its_publisher(bench: Bench, objects: Path) -> None:
    start(bench, objects)
    find_publishers(bench, "classify")
    shown = displays("classify")["Instances"]
    assert (shown["Enabled"], shown["Color Transformer"]) == (True, "RGB8")


def test_a_segmentation_model_is_no_model_for_objects(bench: Bench, tiny: Path) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.parameter import Parameter

    from ros2_nodes.classify_node import ClassifyNode

    values = {"model": str(tiny), "autostart": False, "threads": 1, "diagnostics_period_s": 0.2}
    bench.node = ClassifyNode(parameter_overrides=[Parameter(n, value=v) for n, v in values.items()])
    bench.executor.add_node(bench.node)
    assert bench.node.trigger_configure() == TransitionCallbackReturn.FAILURE
    diagnostics = bench.listen("/diagnostics", DiagnosticArray)
    told = status_of(bench, diagnostics, "finding objects", lambda s: s.level == b"\x02")
    assert "this needs 'classification'" in told.message
