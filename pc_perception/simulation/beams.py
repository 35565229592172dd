# SPDX-License-Identifier: Apache-2.0
"""Elevation angles of the spinning LiDARs that the simulator imitates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PANDAR64 = np.concatenate(
    [[-25, -19, -14, -13, -12, -11, -10, -9, -8, -7], np.arange(48) / 6 - 6 + 1 / 12, [2, 3, 5, 8, 11, 15]]
)
_HDL64 = np.concatenate([np.linspace(-24.9, -8.9, 32), np.linspace(-8.4, 2.0, 32)])
_TABLES = {
    "uniform": np.linspace(-25, 15, 64),
    "pandar64": _PANDAR64,
    "hdl64": _HDL64,
    "hdl32": np.linspace(-30.67, 10.67, 32),
    "vlp16": np.linspace(-15, 15, 16),
    "vlp32": np.concatenate(
        [[-25, -15.6, -11.3, -8.8, -7.3, -6.1], np.linspace(-5.3, 1.7, 20), [2.3, 3.3, 4.7, 7, 10.3, 15]]
    ),
    "ouster": np.linspace(-22.5, 22.5, 128),
}
PATTERNS = tuple(_TABLES)


def elevations_deg(pattern: str, n_beams: int) -> NDArray[np.float64]:
    """(n_beams,) elevations in degrees, lowest first; resampled where the sensor has another number.

    Raises:
        ValueError: no such pattern, or fewer than one beam.
    """
    if pattern not in _TABLES:
        raise ValueError(f"no beam pattern '{pattern}'; there are {', '.join(PATTERNS)}")
    if n_beams < 1:
        raise ValueError(f"a LiDAR needs at least one beam, got {n_beams}")
    table = _TABLES[pattern]
    return np.interp(np.linspace(0, 1, n_beams), np.linspace(0, 1, len(table)), table)
