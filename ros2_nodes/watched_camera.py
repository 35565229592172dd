# SPDX-License-Identifier: Apache-2.0
"""A camera whose calibration is watched: what was gathered, what was found, what is to be said. Without ROS."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from calibration.check import Drift
from calibration.frames import Frame

from .camera_feed import CameraFeed
from .runtime import OK, WARN, Report


@dataclass
class WatchedCamera:
    """One camera: its messages, the pairs gathered for the next measurement, and what the last one found."""

    feed: CameraFeed
    frames: list[Frame] = field(default_factory=list)
    last_pair: float = float("-inf")
    due: float = float("-inf")
    drift: Drift | None = None
    measuring: bool = False
    problem: str = ""

    def judgement(self, doubt: str) -> Report:
        """Return what is to be said about this camera's calibration; ``doubt`` is what its file gives rise to."""
        drift = self.drift
        figures = asdict(drift) if drift else {}
        measured = {name: f"{v:.3f}" if isinstance(v, float) else v for name, v in figures.items()}
        against = [doubt] if doubt else []
        if drift is not None and drift.verdict == "drifted":
            against.append(f"drifted by {drift.drift_deg:.2f} deg and {drift.drift_mm:.0f} mm")
        if against:
            return Report(WARN, "; ".join(against), measured)
        if self.problem:
            return Report(WARN, f"not measured: {self.problem}", measured)
        if drift is None:
            gathered = "being measured" if self.measuring else f"{len(self.frames)} pairs gathered"
            return Report(OK, f"not measured yet, {gathered}", measured)
        return Report(OK, "holds" if drift.verdict == "good" else "the scenes say nothing clear", measured)
