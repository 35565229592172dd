# SPDX-License-Identifier: Apache-2.0
"""From what a ray meets to what a sensor reports: intensity, dropout, rough and mixed ranges, ghosts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation.materials import MaterialTable
from pc_perception.simulation.raycast import Hits


@dataclass(frozen=True)
class Echo:
    """How far a sensor is from a perfect one.

    Attributes:
        range_noise_m: standard deviation of a range.
        sensitivity_m: range at which a plain surface of reflectivity 0.1 is lost half the time.
        gain: intensity of a white wall nearby, 0..255.
        gamma: exponent of the intensity scale.
        range_exponent: how much intensity falls with range (0: the sensor compensates it fully).
        edge: share of pixels at a depth edge whose beam meets both sides.
        pulse_m: depth difference up to which the two echoes melt into one between them.
        stray: share of rays that report nonsense.
        lost: share of rays that are lost for no reason.
    """

    range_noise_m: float = 0.015
    sensitivity_m: float = 110.0
    gain: float = 120.0
    gamma: float = 0.9
    range_exponent: float = 0.3
    edge: float = 0.3
    pulse_m: float = 1.5
    stray: float = 5e-4
    lost: float = 0.005

    @classmethod
    def random(cls, rng: np.random.Generator) -> Echo:
        """Draw a sensor's quality."""
        return cls(
            rng.uniform(0.003, 0.035), rng.uniform(75, 190), float(np.exp(rng.uniform(np.log(15), np.log(250)))),
            rng.uniform(0.6, 1.4), rng.uniform(0.0, 0.9), rng.uniform(0.05, 0.6), rng.uniform(0.4, 3.0),
            float(10 ** rng.uniform(-4.5, -2.7)), float(10 ** rng.uniform(-3, -1.3)),
        )  # fmt: skip


@dataclass(frozen=True)
class Returns:
    """R reported echoes; distance inf where there is none."""

    distance: NDArray[np.float32]
    intensity: NDArray[np.float32]
    label: NDArray[np.uint16]
    instance: NDArray[np.uint16]
    part: NDArray[np.uint8]


def reflect(
    echo: Echo,
    hits: Hits,
    materials: MaterialTable,
    directions: NDArray[np.float32],
    shape: tuple[int, int],
    rng: np.random.Generator | None,
) -> Returns:
    """Turn hits into reported echoes.

    Args:
        hits: of R = W x H rays.
        directions: (R, 3) float32 unit vectors, world frame.
        shape: (W, H): azimuths, beams.
        rng: noise; None for a perfect sensor.
    """
    distance, row = hits.distance.copy(), hits.material
    # Rounding makes grazing hits slightly negative; the floor also keeps the divisions below finite.
    incidence = np.maximum(-np.einsum("ij,ij->i", hits.normal, directions), 0.02)
    gloss = materials.gloss[row]
    diffuse = materials.reflectivity[row] * (1 - 0.8 * gloss) * np.sqrt(incidence)
    mirror = 0.6 * gloss * incidence**60
    strength = diffuse + mirror + 4 * materials.retro[row] * np.sqrt(incidence)
    strength[hits.passed] *= 0.35  # the pane takes its share on both ways
    labels = (hits.raw_class.copy(), hits.instance.copy(), hits.part.copy())
    if rng is not None:
        strength *= 1 + 0.12 * rng.standard_normal(len(strength), dtype=np.float32)
        _roughen(distance, materials.roughness[row], incidence, rng)
        _mix(echo, distance, strength, labels, shape, rng)
        distance += echo.range_noise_m * rng.standard_normal(len(distance), dtype=np.float32)
        _drop(echo, distance, strength, rng)
        _ghosts(echo, distance, gloss, labels, rng)
    near = np.minimum(distance, 1e4)
    level = np.maximum(strength, 0) ** echo.gamma * (10 / np.maximum(near, 10)) ** echo.range_exponent
    intensity = np.clip(np.rint(echo.gain * level), 0, 255).astype(np.float32)
    return Returns(distance, intensity, *labels)


def _roughen(distance: NDArray, roughness: NDArray, incidence: NDArray, rng: np.random.Generator) -> None:
    """Move ranges as an uneven surface does: more at a grazing angle, less where a wide beam averages."""
    height = roughness * rng.standard_normal(len(distance), dtype=np.float32)
    finite = np.isfinite(distance)
    wide = np.where(finite, 1 + 0.03 * np.where(finite, distance, 0), 1)
    distance += np.clip(height / np.maximum(incidence, 0.06) / wide, -0.6, 0.6)


def _mix(
    echo: Echo,
    distance: NDArray,
    strength: NDArray,
    labels: tuple[NDArray, NDArray, NDArray],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    """Let beams at depth edges see both sides: melt near ranges, choose between far ones."""
    image = distance.reshape(shape)
    n = len(distance)
    index = np.arange(n).reshape(shape)
    other = np.where(
        rng.random(shape, dtype=np.float32) < 0.5, np.roll(index, 1, 0), np.roll(index, -1, 0)
    ).ravel()
    with np.errstate(invalid="ignore"):
        gap = image.ravel()[other] - distance
        pick = np.flatnonzero((np.abs(gap) > 0.12) & (rng.random(n, dtype=np.float32) < echo.edge))
    melt = np.abs(gap[pick]) < echo.pulse_m
    share = np.where(melt, rng.random(len(pick), dtype=np.float32), 0.0)
    # Only the nearer side can take a pixel over for good; what lies behind is not seen through it.
    jump = ~melt & (gap[pick] < 0) & (rng.random(len(pick), dtype=np.float32) < 0.3)
    share[jump] = 1.0
    source = other[pick]
    takes = share > 0.5
    with np.errstate(invalid="ignore"):
        moved = distance[pick] + share * np.where(share > 0, gap[pick], 0)
    new = [(array, array[source[takes]].copy()) for array in labels]
    strength[pick] = (1 - share) * strength[pick] + share * strength[source]
    distance[pick] = moved
    for array, values in new:
        array[pick[takes]] = values


def _drop(echo: Echo, distance: NDArray, strength: NDArray, rng: np.random.Generator) -> None:
    """Lose what returns too little light."""
    with np.errstate(over="ignore", invalid="ignore"):
        budget = np.maximum(strength, 1e-6) / 0.1 * (echo.sensitivity_m / np.maximum(distance, 1.0)) ** 2
        # A near surface always saturates a little light back, unless it is as black as glass.
        chance = budget**2 / (1 + budget**2)
    lost = rng.random(len(distance), dtype=np.float32) > chance * (1 - echo.lost)
    dark = rng.random(len(distance), dtype=np.float32) > strength / 0.008
    distance[lost | dark] = np.inf


def _ghosts(
    echo: Echo,
    distance: NDArray,
    gloss: NDArray,
    labels: tuple[NDArray, NDArray, NDArray],
    rng: np.random.Generator,
) -> None:
    """Put a few returns where nothing is: behind mirrors, and anywhere."""
    u = rng.random(len(distance), dtype=np.float32)
    mirrored = u < 0.015 * gloss**2
    stray = u > 1 - echo.stray
    distance[mirrored] += rng.uniform(0.5, 8.0, int(mirrored.sum())).astype(np.float32)
    distance[stray] = rng.uniform(1.0, 40.0, int(stray.sum())).astype(np.float32)
    for array in labels:
        array[mirrored | stray] = 0
