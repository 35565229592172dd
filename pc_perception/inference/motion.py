# SPDX-License-Identifier: Apache-2.0
"""How the sensor moves while it sweeps: points are brought to where they would be seen from at the stamp.

The motion during a sweep is taken to be that since the sweep before (constant velocity; Vizzo et al., "KISS-ICP",
RA-L 2023, section III-A).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse
from pc_perception.undistort import sweep_time

from .stream import MAX_GAP_S


@dataclass(frozen=True)
class Motion:
    """The sensor's velocity in its own frame, and where it stands.

    Attributes:
        linear: (3,) m/s.
        angular: (3,) rad/s, rotation vector.
        origin: (3,) metres, the sensor in the fixed frame; zeros where its pose is unknown.
    """

    linear: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    angular: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    def undistorted(self, cloud: PointCloud) -> PointCloud:
        """Return the points as seen from the sensor's pose at the stamp; to first order in the angle."""
        time_s = sweep_time(cloud)
        if time_s is None or not (self.linear.any() or self.angular.any()):
            return cloud
        with np.errstate(invalid="ignore"):  # NaN and Inf stay what they are, or become NaN
            moved = np.cross(self.angular.astype(np.float32), cloud.xyz) + self.linear.astype(np.float32)
        return replace(cloud, xyz=cloud.xyz + time_s[:, None] * moved)


class SweepMotion:
    """The motion of one sensor from the poses of its sweeps. Not thread-safe."""

    def __init__(self) -> None:
        self._before: tuple[int, NDArray] | None = None

    def forget(self) -> None:
        """Take the next pose for the first one."""
        self._before = None

    def __call__(self, stamp_ns: int, T_fixed_cloud: NDArray | None) -> Motion:
        """Return the motion at a sweep; none at the first one, after a jump, and without a pose."""
        if T_fixed_cloud is None:
            self._before = None
            return Motion()
        T = np.asarray(T_fixed_cloud, np.float64)
        before, self._before = self._before, (stamp_ns, T)
        dt = (stamp_ns - before[0]) * 1e-9 if before else 0.0
        if before is None or not 0 < dt <= MAX_GAP_S:
            return Motion(origin=T[:3, 3])
        step = inverse(before[1]) @ T
        turn = Rotation.from_matrix(step[:3, :3]).as_rotvec()
        return Motion(step[:3, 3] / dt, turn / dt, T[:3, 3])
