# SPDX-License-Identifier: Apache-2.0
"""The other side of a target of the soak: sensor, clock, TF and listener, over rclpy for nodes, over DDS for serve."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from benchmarks.feeds import CAMERA, Feed
from pc_perception.io.pointcloud2 import header_of

AHEAD_NS = 200_000_000
"""So much earlier than it is needed comes the vehicle's pose: what is measured is not the wait for it."""

_DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"


class Peer(Protocol):
    """Feeds a target and hears its answers.

    Attributes:
        answered_ns: stamp of the newest answer, which is that of its input.
        told: counts that the target's diagnostics give, newest.
    """

    answered_ns: int
    told: dict[str, str]

    def plug(self) -> None:
        """Offer the inputs."""

    def unplug(self) -> None:
        """Take them away, as a sensor whose cable is pulled."""

    def heard(self) -> bool:
        """Say whether the target subscribes to every input."""

    def tick(self, stamp_ns: int) -> None:
        """Set the simulated clock."""

    def place(self, stamp_ns: int) -> None:
        """Say where the vehicle is, and where the camera on its turret looks."""

    def send(self, topic: str, msg: Any) -> None:
        """Publish an input."""

    def spin(self, seconds: float) -> None:
        """Hear what comes for so long."""

    def reload(self) -> bool | None:
        """Have the target read its file again; return whether it did, None where it cannot be asked."""

    def close(self) -> None:
        """Leave."""


def spin_until(peer: Peer, done: Callable[[], bool], seconds: float) -> bool:
    """Spin until ``done``, at most so long; return whether it is."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        peer.spin(0.02)
    return done()


class DdsPeer:
    """For ``pc-perception serve``, which has no simulated clock, no TF and no services."""

    def __init__(self, feed: Feed, domain: int, target: str) -> None:
        from pc_perception.io.dds import RELIABLE, Participant

        self.answered_ns, self.told, self._feed, self._domain = 0, {}, feed, domain
        self._listener = Participant(domain)
        topic, kind = feed.answer
        self._listener.subscribe(f"/{topic}", kind, self._answered)
        self._listener.subscribe("/diagnostics", _DIAGNOSTICS, self._diagnosed, RELIABLE)
        self._sensor: Any = None
        self._publishers: dict[str, Any] = {}

    def _answered(self, raw: bytes) -> None:
        from pc_perception.io.dds import decode

        self.answered_ns = header_of(decode(raw, self._feed.answer[1]))[1]

    def _diagnosed(self, raw: bytes) -> None:
        from pc_perception.io.dds import decode

        self.told = told_counts(decode(raw, _DIAGNOSTICS)) or self.told

    def plug(self) -> None:
        from pc_perception.io.dds import Participant

        self._sensor = Participant(self._domain)
        self._publishers = {t: self._sensor.publisher(f"/{t}", kind) for t, kind in self._feed.inputs.items()}

    def unplug(self) -> None:
        self._publishers = {}
        self._sensor.close()

    def heard(self) -> bool:
        return all(p.n_subscribers for p in self._publishers.values())

    def tick(self, stamp_ns: int) -> None:
        pass

    def place(self, stamp_ns: int) -> None:
        pass

    def send(self, topic: str, msg: Any) -> None:
        self._publishers[topic].publish(msg)

    def spin(self, seconds: float) -> None:
        self._listener.spin(seconds)

    def reload(self) -> bool | None:
        return None

    def close(self) -> None:
        self.unplug()
        self._listener.close()


class RosPeer:
    """For nodes on simulated time."""

    def __init__(self, feed: Feed, domain: int, target: str) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import qos_profile_sensor_data
        from rosgraph_msgs.msg import Clock
        from std_srvs.srv import Trigger
        from tf2_msgs.msg import TFMessage

        from ros2_nodes.conversions import new_message
        from ros2_nodes.qos import LATCHED

        self.answered_ns, self.told, self._feed, self._rclpy = 0, {}, feed, rclpy
        rclpy.init(domain_id=domain)
        self._node = rclpy.create_node("soak")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        topic, kind = feed.answer
        self._kinds = {t: type(new_message(k)) for t, k in feed.inputs.items()}
        self._sensor_qos = qos_profile_sensor_data
        self._node.create_subscription(
            type(new_message(kind)), topic, self._answered, qos_profile_sensor_data
        )
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
        self._clock = self._node.create_publisher(Clock, "/clock", 10)
        self._moving = self._node.create_publisher(TFMessage, "/tf", 100)
        self._fixed = self._node.create_publisher(TFMessage, "/tf_static", LATCHED)
        self._reload = self._node.create_client(Trigger, f"{target}/reload")
        self._publishers: dict[str, Any] = {}
        self._mount()

    def _answered(self, msg: Any) -> None:
        self.answered_ns = header_of(msg)[1]

    def _diagnosed(self, msg: Any) -> None:
        self.told = told_counts(msg) or self.told

    def plug(self) -> None:
        self._publishers = {
            topic: self._node.create_publisher(kind, topic, self._sensor_qos)
            for topic, kind in self._kinds.items()
        }

    def unplug(self) -> None:
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers = {}

    def heard(self) -> bool:
        return all(p.get_subscription_count() for p in self._publishers.values())

    def tick(self, stamp_ns: int) -> None:
        from rosgraph_msgs.msg import Clock

        self._clock.publish(Clock(clock=_stamp(stamp_ns)))

    def place(self, stamp_ns: int) -> None:
        from tf2_msgs.msg import TFMessage

        from pc_perception.geometry import R_BODY_OPTICAL, pose
        from ros2_nodes.conversions import transform_message

        poses = []
        for t in (stamp_ns, stamp_ns + AHEAD_NS):
            base, turret = pose((t * 1e-9 % 1e4, 0, 0)), pose((0.05, 0, 0), R_BODY_OPTICAL)
            poses.append(transform_message(base, "odom", "base_link", _stamp(t)))
            poses.append(transform_message(turret, "base_link", "rgb_optical_frame", _stamp(t)))
        self._moving.publish(TFMessage(transforms=poses))

    def _mount(self) -> None:
        from tf2_msgs.msg import TFMessage

        from pc_perception.geometry import R_BODY_OPTICAL, pose
        from ros2_nodes.conversions import transform_message

        ahead = pose(R=R_BODY_OPTICAL)
        mounts = {"lidar": pose((0, 0, 1.8)), CAMERA: ahead}
        self._fixed.publish(
            TFMessage(transforms=[transform_message(T, "base_link", n, _stamp(0)) for n, T in mounts.items()])
        )

    def send(self, topic: str, msg: Any) -> None:
        self._publishers[topic].publish(msg)

    def spin(self, seconds: float) -> None:
        self._executor.spin_once(timeout_sec=seconds)

    def reload(self) -> bool | None:
        from std_srvs.srv import Trigger

        future = self._reload.call_async(Trigger.Request())
        spin_until(self, future.done, 60.0)
        return bool(future.done() and future.result().success)

    def close(self) -> None:
        self._executor.remove_node(self._node)
        self._node.destroy_node()
        self._rclpy.try_shutdown()


def told_counts(diagnostics: Any) -> dict[str, str]:
    """Return the values of the status that counts inputs, if it is among them."""
    found = ({pair.key: pair.value for pair in status.values} for status in diagnostics.status)
    return next((values for values in found if "received" in values), {})


def _stamp(stamp_ns: int) -> Any:
    from builtin_interfaces.msg import Time

    return Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
