# SPDX-License-Identifier: Apache-2.0
"""What simulated sensors have in common: a thread that simulates ahead and one that publishes on time."""

from __future__ import annotations

import queue
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster
from tf2_ros.transform_broadcaster import TransformBroadcaster

from . import parameters
from .conversions import transform_message
from .qos import sensor_qos

AHEAD = 5


class SimulatedNode(Node):
    """A stand-in for a driver; a subclass simulates frames and sends them.

    Attributes:
        default_name: of the node.
        table: its parameters, ``rate_hz`` among them.
        values: their values.
    """

    default_name: ClassVar[str]
    table: ClassVar[Sequence[parameters.Parameter]]

    def __init__(self, **node_arguments: Any) -> None:
        """Start to simulate and to publish.

        Raises:
            ValueError: a parameter that was given is wrong.
        """
        super().__init__(self.default_name, **node_arguments)
        parameters.declare(self, self.table)
        self.values = parameters.read(self, self.table)
        self.moving, self._mounted = TransformBroadcaster(self), StaticTransformBroadcaster(self)
        self.set_up()
        self._frames: queue.Queue[Any] = queue.Queue(AHEAD)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._simulate, self._publish)]
        for thread in self._threads:
            thread.start()

    def set_up(self) -> None:
        """Make the publishers and say where the sensors are mounted."""

    @abstractmethod
    def simulate(self) -> Iterator[Any]:
        """Yield frame after frame, without end; runs on a thread of its own and imports the simulator."""

    @abstractmethod
    def send(self, frame: Any, now: Time) -> None:
        """Publish a frame that is due ``now``."""

    def sensor_publisher(self, kind: type, topic: str) -> Any:
        """Return a reliable publisher, which serves subscribers of either kind."""
        return self.create_publisher(
            kind,
            topic,
            sensor_qos(depth=5, reliable=True),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def mount(self, transforms: Mapping[str, NDArray], parent: str = "base_link") -> None:
        """Publish (4, 4) ``T_parent_child`` by child frame on /tf_static."""
        stamp = self.get_clock().now().to_msg()
        self._mounted.sendTransform(
            [transform_message(T, parent, child, stamp) for child, T in transforms.items()]
        )

    def destroy_node(self) -> None:
        """End the simulation before the handles go."""
        self._over.set()
        for thread in self._threads:
            thread.join(5.0)
        super().destroy_node()

    def _simulate(self) -> None:
        try:
            for frame in self.simulate():
                while not self._over.is_set():
                    try:
                        self._frames.put(frame, timeout=0.2)
                        break
                    except queue.Full:
                        continue
                if self._over.is_set():
                    return
        except Exception as error:
            self.get_logger().fatal(f"the simulation ended: {error!r}; is open3d installed?")
            self._over.set()

    def _publish(self) -> None:
        """Send one frame per period; late ones at once, without catching up."""
        due = time.monotonic()
        while not self._over.is_set():
            try:
                frame = self._frames.get(timeout=0.2)
            except queue.Empty:
                continue
            due = max(due + 1.0 / self.values["rate_hz"], time.monotonic())
            if self._over.wait(due - time.monotonic()):
                return
            self.send(frame, self.get_clock().now())
