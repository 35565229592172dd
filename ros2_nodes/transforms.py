# SPDX-License-Identifier: Apache-2.0
"""Transforms at the stamp of an input, looked up on the worker's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage
from tf2_ros import TransformException
from tf2_ros.buffer import Buffer
from tf2_ros.transform_listener import TransformListener

from pc_perception.cloud import PointCloud
from pc_perception.geometry import transform
from pc_perception.io.pointcloud2 import header_of
from pc_perception.undistort import carried

from .conversions import matrix

KEPT_S = 10.0
"""How far back a buffer remembers; what is older than its newest by more is refused."""


class _Listener(TransformListener):
    """Passes over what was sent before simulated time jumped back and comes after it: on topics, order is each's own.

    Beside such a transform the buffer would refuse all of the present, as far too old.
    """

    def callback(self, data: TFMessage) -> None:
        clock = self.node.get_clock()
        now_ns = clock.now().nanoseconds
        if clock.ros_time_is_active and now_ns:  # 0: nothing on /clock yet
            latest_ns = now_ns + KEPT_S * 1e9
            data = TFMessage(transforms=[t for t in data.transforms if header_of(t)[1] <= latest_ns])
        super().callback(data)


class Transforms:
    """A transform buffer that is filled by the node's own executor; emptied where the node's clock jumps back."""

    def __init__(self, node: Node, timeout_s: float) -> None:
        self._buffer = Buffer(Duration(seconds=KEPT_S))
        self._listener = _Listener(self._buffer, node)
        self.timeout_s = timeout_s
        # Buffer watches a clock of its own, which never jumps, unless it also gets a service on the node. Static
        # transforms outlive the clearing.
        back = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        self._jump = node.get_clock().create_jump_callback(back, post_callback=lambda _: self._buffer.clear())

    def close(self) -> None:
        """End the subscriptions to /tf and /tf_static, and the watch of the clock."""
        self._listener.unregister()
        self._jump.unregister()

    def at_stamp(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """Return T_target_source, (4, 4), at a stamp.

        Blocks up to ``timeout_s``; never call it on the executor's thread, which fills the buffer.

        Raises:
            ValueError: there is no such transform in time.
        """
        stamp, wait = Time(nanoseconds=stamp_ns), Duration(seconds=self.timeout_s)
        return self._found(target, source, lambda: self._buffer.lookup_transform(target, source, stamp, wait))

    def through(
        self, fixed: str, target: str, target_ns: int, source: str, source_ns: int
    ) -> NDArray[np.float64]:
        """Return T_target_source, (4, 4), from the source at its time to the target at its own.

        Args:
            fixed: a frame that stands still in between.

        Raises:
            ValueError: as ``at_stamp``.
        """
        at, since, wait = (
            Time(nanoseconds=target_ns),
            Time(nanoseconds=source_ns),
            Duration(seconds=self.timeout_s),
        )
        return self._found(
            target,
            source,
            lambda: self._buffer.lookup_transform_full(target, at, source, since, fixed, wait),
        )

    def carry(self, fixed: str, cloud: PointCloud, stamp_ns: int, undistort: bool) -> PointCloud:
        """Return the cloud as its sensor would have seen it at another time (``undistort.carried``).

        Raises:
            ValueError: as ``at_stamp``.
        """
        frame = cloud.frame
        return carried(cloud, lambda t: self.through(fixed, frame, stamp_ns, frame, t), stamp_ns, undistort)

    def _found(self, target: str, source: str, look_up: Callable[[], Any]) -> NDArray[np.float64]:
        try:
            return matrix(look_up())
        except TransformException as error:
            raise ValueError(
                f"no transform from '{source}' to '{target}' at the stamp within "
                f"{self.timeout_s:g} s ({error}); check that /tf has both frames, or raise tf_timeout_s"
            ) from None

    def move(self, cloud: PointCloud, target: str) -> tuple[PointCloud, NDArray[np.float64]]:
        """Return ``cloud`` in the frame ``target`` and (3,) where its sensor stands there.

        Raises:
            ValueError: as ``at_stamp``.
        """
        T_target_cloud = self.at_stamp(target, cloud.frame, cloud.stamp_ns)
        return replace(cloud, xyz=transform(T_target_cloud, cloud.xyz), frame=target), T_target_cloud[:3, 3]
