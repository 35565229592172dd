# SPDX-License-Identifier: Apache-2.0
"""The fixed tables of a nuScenes-format data set and the map from simulation_street's ids to its 32."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]

CATEGORIES = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child",
    "human.pedestrian.construction_worker", "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer", "human.pedestrian.stroller", "human.pedestrian.wheelchair",
    "movable_object.barrier", "movable_object.debris", "movable_object.pushable_pullable",
    "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle", "vehicle.bus.bendy",
    "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck",
    "flat.driveable_surface", "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade",
    "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip
"""Names of the lidarseg classes 0..31."""

# Raw simulation_street id -> lidarseg id. Kerbs belong to the sidewalk; nuScenes knows no poles or signs.
NUSCENES32 = {
    1: 24, 2: 26, 3: 26, 4: 27, 5: 30, 6: 30, 7: 30, 8: 28, 9: 28, 10: 28, 11: 17, 12: 23, 13: 16,
    14: 22, 15: 2, 16: 14, 17: 14, 18: 28, 19: 28, 20: 28, 21: 12,
}  # fmt: skip

ANNOTATED = (11, 12, 13, 14, 15, 16, 17, 21)
"""Raw ids whose objects get boxes."""

ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
    "pedestrian.sitting_lying_down", "pedestrian.standing", "pedestrian.moving",
)  # fmt: skip


def nuscenes32_table() -> NDArray[np.uint8]:
    """(65536,) uint8 table from raw simulation_street ids to lidarseg ids, 0 ("noise") for everything else."""
    table = np.zeros(65536, dtype=np.uint8)
    for raw, index in NUSCENES32.items():
        table[raw] = index
    return table


def token(*parts: object) -> str:
    """Return a token that is always the same for the same parts: 32 hexadecimal digits."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def fixed_tables() -> dict[str, list[Row]]:
    """Return the tables that do not depend on the data: category, attribute, visibility."""
    category = [
        {"token": token("category", n), "name": n, "description": "", "index": k}
        for k, n in enumerate(CATEGORIES)
    ]
    attribute = [{"token": token("attribute", n), "name": n, "description": ""} for n in ATTRIBUTES]
    levels = ("v0-40", "v40-60", "v60-80", "v80-100")
    visibility = [
        {"token": str(k + 1), "level": level, "description": f"visibility of whole object is {level}"}
        for k, level in enumerate(levels)
    ]
    return {"category": category, "attribute": attribute, "visibility": visibility}


def attribute_of(raw_class: int, speed: float) -> str:
    """Name the attribute of an object with a raw class id and a speed in m/s; empty where it has none."""
    moving = speed > 0.2
    if raw_class in (11, 12, 13, 14):
        return "vehicle.moving" if moving else "vehicle.parked"
    if raw_class == 15:
        return "pedestrian.moving" if moving else "pedestrian.standing"
    return {16: "cycle.with_rider", 17: "cycle.without_rider"}.get(raw_class, "")
