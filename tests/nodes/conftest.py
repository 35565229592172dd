# SPDX-License-Identifier: Apache-2.0
"""Nodes under test beside a peer that plays sensor and listener, in one process with a real rclpy."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nodes import tiny_model

LOOPBACK = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo' multicast='false'/></Interfaces>"
    "<AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex>"
    "<MaxAutoParticipantIndex>99</MaxAutoParticipantIndex><Peers><Peer Address='127.0.0.1'/></Peers>"
    "</Discovery></Domain></CycloneDDS>"
)
WAIT_S = 60.0
HAS_ROS = importlib.util.find_spec("rclpy") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="rclpy is not there: source a ROS 2 installation first")
    for item in items:
        if not HAS_ROS and item.get_closest_marker("ros"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="session")
def ros() -> Iterator[Any]:
    """rclpy, initialised in a DDS domain that no other process of this machine uses."""
    os.environ.setdefault("CYCLONEDDS_URI", LOOPBACK)
    import rclpy
    from domain_coordinator import domain_id

    with domain_id() as domain:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        rclpy.init(domain_id=domain)
        yield rclpy
        rclpy.try_shutdown()


class Bench:
    """A segment node, a peer node, and the executor that spins both in the test's own thread."""

    def __init__(self) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self.executor = SingleThreadedExecutor()
        self.peer = Node("peer")
        self.executor.add_node(self.peer)
        self.node: Any = None
        self.got: dict[str, list[Any]] = {}
        self.cloud_pub: Any = None

    def start(self, model: Path | str, active: bool = True, **values: Any) -> Any:
        """Make a segmentation node with the given parameters and, unless told otherwise, activate it."""
        from ros2_nodes.segment_node import SegmentNode

        self.start_node(SegmentNode, active, **{"model": str(model), "threads": 1, **values})
        if active:
            self.connect_sensor()
        return self.node

    def start_node(self, kind: Any, active: bool = True, **values: Any) -> Any:
        """Make any of our lifecycle nodes and, unless told otherwise, activate it."""
        from rclpy.lifecycle import TransitionCallbackReturn
        from rclpy.parameter import Parameter

        chosen = {"autostart": False, "diagnostics_period_s": 0.2, **values}
        self.node = kind(parameter_overrides=[Parameter(name, value=value) for name, value in chosen.items()])
        self.executor.add_node(self.node)
        if active:
            assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS, self.node._problem
            assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS, self.node._problem
        return self.node

    def publish_to(self, **kinds: Any) -> dict[str, Any]:
        """Return the peer's publishers of sensor QoS, by topic, once the node listens to each.

        Args:
            kinds: message type by topic, whose slashes are written as two underscores.
        """
        from rclpy.qos import qos_profile_sensor_data

        made = {
            topic.replace("__", "/"): self.peer.create_publisher(
                kind, topic.replace("__", "/"), qos_profile_sensor_data
            )
            for topic, kind in kinds.items()
        }
        for topic, publisher in made.items():
            self.spin_until(lambda p=publisher: p.get_subscription_count() > 0, f"a subscription to {topic}")
        return made

    def repeat(self, send: Callable[[], None], got: list[Any], what: str = "an answer") -> Any:
        """Call ``send`` now and then until something new is in ``got``; return the newest."""
        before, due = len(got), 0.0

        def answered() -> bool:
            nonlocal due
            # Best effort may lose a message on a busy machine.
            if len(got) == before and time.monotonic() > due:
                send()
                due = time.monotonic() + 2.0
            return len(got) > before

        self.spin_until(answered, what)
        return got[-1]

    def connect_sensor(self) -> None:
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import PointCloud2

        self.cloud_pub = self.peer.create_publisher(PointCloud2, "points", qos_profile_sensor_data)
        self.spin_until(lambda: self.cloud_pub.get_subscription_count() > 0, "the node's subscription")

    def listen(self, topic: str, kind: Any, latched: bool = False) -> list[Any]:
        """Subscribe the peer and wait until a publisher is matched; messages are added to the list."""
        from rclpy.qos import QoSProfile, qos_profile_sensor_data

        from ros2_nodes.qos import LATCHED

        qos: QoSProfile = LATCHED if latched else qos_profile_sensor_data
        got: list[Any] = []
        self.peer.create_subscription(kind, topic, got.append, qos)
        self.spin_until(lambda: self.peer.count_publishers(topic) > 0, f"a publisher of {topic}")
        return got

    def listen_to_labels(self) -> list[Any]:
        from sensor_msgs.msg import PointCloud2

        got = self.listen("segmentation", PointCloud2)
        self.spin_until(lambda: self.node.count_subscribers("segmentation") > 0, "the match")
        self.spin(0.2)
        return got

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=min(left, 0.05))

    def spin_until(self, done: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < end, f"waited {WAIT_S:.0f} s for {what}"
            self.executor.spin_once(timeout_sec=0.05)

    def send(self, msg: Any) -> Any:
        self.cloud_pub.publish(msg)
        return msg

    def label(self, msg: Any, got: list[Any]) -> Any:
        """Send a cloud and return its labelled answer."""
        return self.repeat(lambda: self.send(msg), got, "a labelled cloud")

    def diagnostic(
        self, diagnostics: list[Any], wanted: Callable[[Any], bool], name: str = "labelling"
    ) -> Any:
        """Return the first status from now on that is ``wanted``."""
        diagnostics.clear()

        def find() -> Any:
            found = (s for m in diagnostics for s in m.status if s.name == f"{self.node.get_name()}: {name}")
            return next((s for s in found if wanted(s)), None)

        self.spin_until(find, "the diagnostic")
        return find()

    def close(self) -> None:
        for node in (self.node, self.peer):
            if node is not None:
                self.executor.remove_node(node)
                node.destroy_node()
        self.executor.shutdown()


@pytest.fixture
def bench(ros: Any) -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def street_points(n: int = 3000, seed: int = 0) -> np.ndarray:
    """(n, 4) float32 x, y, z, intensity: ground and clutter."""
    rng = np.random.default_rng(seed)
    distance, angle = rng.uniform(2, 40, n), rng.uniform(0, 2 * np.pi, n)
    z = np.where(rng.random(n) < 0.5, -1.8, rng.uniform(-1.8, 3, n))
    columns = [distance * np.cos(angle), distance * np.sin(angle), z, rng.uniform(0, 255, n)]
    return np.stack(columns, 1).astype(np.float32)


@pytest.fixture
def make_cloud(ros: Any) -> Callable[..., Any]:
    """Build a PointCloud2 of x, y, z, intensity, with the layout that the arguments ask for."""
    import array

    from sensor_msgs.msg import PointCloud2, PointField

    def make(
        points: np.ndarray | None = None, height: int = 1, big_endian: bool = False, pad: int = 0
    ) -> Any:
        points = street_points() if points is None else points
        order = ">" if big_endian else "<"
        msg = PointCloud2(height=height, width=len(points) // height, is_bigendian=big_endian)
        msg.header.frame_id = "velodyne"
        msg.header.stamp.sec, msg.header.stamp.nanosec = 1700000000, 123456789
        names = ["x", "y", "z", "intensity"]
        msg.fields = [PointField(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate(names)]
        record = np.zeros((len(points), 16 + pad), np.uint8)
        record[:, :16] = points.astype(f"{order}f4").view(np.uint8).reshape(-1, 16)
        msg.point_step, msg.row_step = 16 + pad, (16 + pad) * msg.width
        msg.data = array.array("B", record.tobytes())
        return msg

    return make
