# SPDX-License-Identifier: Apache-2.0
"""A tree of coordinate frames over time, filled from the /tf and /tf_static of a recording."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.geometry import inverse, pose, quaternion_to_rotation

_TOLERANCE_NS = 200_000_000


@dataclass
class _Edge:
    """Where a frame was in its parent's, over time (one entry if static)."""

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    translations: list[NDArray] = field(default_factory=list)
    quaternions: list[NDArray] = field(default_factory=list)


class TransformTree:
    """Look up transforms between frames at a time; between two samples they are interpolated.

    Args:
        tolerance_ns: how far before the first or after the last sample the nearest one still counts;
            beyond it there is no answer, since a wrong pose is worse than none.
    """

    def __init__(self, tolerance_ns: int = _TOLERANCE_NS) -> None:
        self._edges: dict[str, _Edge] = {}
        self._tolerance_ns = tolerance_ns

    @property
    def frames(self) -> set[str]:
        """Names of all frames."""
        return set(self._edges) | {edge.parent for edge in self._edges.values()}

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: tuple[float, float, float],
        quaternion: tuple[float, float, float, float],
        static: bool = False,
    ) -> None:
        """Add one sample of T_parent_child: metres, and a quaternion (x, y, z, w) of any length.

        Raises:
            ValueError: the values are not a transform.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        t, q = np.array(translation, np.float64), np.array(quaternion, np.float64)
        norm = np.linalg.norm(q)
        if not (np.isfinite(t).all() and np.isfinite(norm) and norm > 1e-9) or parent == child:
            raise ValueError(f"the transform from '{child}' to '{parent}' is not one: {t}, {q}")
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent or static:
            edge = self._edges[child] = _Edge(parent, static)
        at = bisect_right(edge.stamps, stamp_ns)
        edge.stamps.insert(at, stamp_ns)
        edge.translations.insert(at, t)
        edge.quaternions.insert(at, q / norm)

    def add_message(self, msg: Any, static: bool) -> None:
        """Add all transforms of a tf2_msgs/TFMessage; broken ones are left out, as tf2 does."""
        for item in msg.transforms:
            stamp, t, q = item.header.stamp, item.transform.translation, item.transform.rotation
            stamp_ns = int(stamp.sec) * 10**9 + int(stamp.nanosec)
            try:
                self.add(
                    item.header.frame_id,
                    item.child_frame_id,
                    stamp_ns,
                    (t.x, t.y, t.z),
                    (q.x, q.y, q.z, q.w),
                    static,
                )
            except ValueError:
                continue

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """Return the (4, 4) T_target_source at a time.

        Raises:
            ValueError: the frames are not connected, or were not at that time.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        if target == source:
            return np.eye(4)
        up_source, up_target = self._chain(source), self._chain(target)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            raise ValueError(
                f"frames '{source}' and '{target}' are not connected; known frames: {sorted(self.frames)}"
            )
        T_common_source = self._climb(up_source, common, stamp_ns)
        return inverse(self._climb(up_target, common, stamp_ns)) @ T_common_source

    def root(self, frame: str) -> str:
        """Return the topmost frame above ``frame``; itself where nothing is above it.

        Raises:
            ValueError: the frames form a loop.
        """
        return self._chain(frame.lstrip("/"))[-1]

    def _chain(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._edges:
            parent = self._edges[chain[-1]].parent
            if parent in chain:
                raise ValueError(f"the frames {' -> '.join([*chain, parent])} form a loop")
            chain.append(parent)
        return chain

    def _climb(self, chain: list[str], top: str, stamp_ns: int) -> NDArray:
        T = np.eye(4)
        for frame in chain[: chain.index(top)]:
            T = self._sample(frame, stamp_ns) @ T
        return T

    def _sample(self, frame: str, stamp_ns: int) -> NDArray:
        edge = self._edges[frame]
        stamps = edge.stamps
        if edge.static or len(stamps) == 1:
            far = 0 if edge.static else abs(stamps[0] - stamp_ns)
            i, share = 0, 0.0
        else:
            i = min(max(bisect_right(stamps, stamp_ns) - 1, 0), len(stamps) - 2)
            share = float(np.clip((stamp_ns - stamps[i]) / max(stamps[i + 1] - stamps[i], 1), 0.0, 1.0))
            far = max(stamps[0] - stamp_ns, stamp_ns - stamps[-1], 0)
        if far > self._tolerance_ns:
            raise ValueError(
                f"the transform of '{frame}' in '{edge.parent}' is {far * 1e-9:.2f} s away from the time asked"
            )
        t, q = edge.translations[i], edge.quaternions[i]
        if share > 0.0:
            t = (1 - share) * t + share * edge.translations[i + 1]
            q = _slerp(q, edge.quaternions[i + 1], share)
        return pose(t, quaternion_to_rotation(*q))


def _slerp(a: NDArray, b: NDArray, share: float) -> NDArray:
    """Interpolate unit quaternions along the shorter arc."""
    cosine = float(a @ b)
    if cosine < 0.0:
        b, cosine = -b, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:
        return (1 - share) * a + share * b
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
