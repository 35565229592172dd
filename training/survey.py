# SPDX-License-Identifier: Apache-2.0
"""A look at some training clouds before the run: what the contract says it saw, how common classes are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pc_perception.inference.architectures import Contract
from pc_perception.inference.object_contract import ObjectContract
from pc_perception.inference.sensor_check import describe, pool
from pc_perception.inference.shape_contract import ShapeContract

from .batch import IGNORE, voxel_labels
from .data.boxes import BoxCloud
from .data.dataset import Picker, warn_of_few_labels
from .methods.method import Task
from .methods.segmentation import standing
from .objects import object_label


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        contract: of scenes, with ``seen`` of the raw clouds.
        class_counts: (C,) int64 voxels, boxes or objects of each class; all ones without labels.
    """

    contract: Contract
    class_counts: NDArray[np.int64]


def survey(picker: Picker, task: Task, n_clouds: int) -> Survey:
    """Read ``n_clouds`` of the stream's clouds, evenly through its first pass; 0: find nothing, of objects.

    Raises:
        ValueError: none of them can be read.
    """
    n_clouds = min(n_clouds, len(picker.joined))
    if isinstance(task.contract, ShapeContract):
        return Survey(task.contract, np.ones(task.n_classes, np.int64))
    if isinstance(task.contract, ObjectContract):
        return Survey(task.contract, _count_objects(picker, task, n_clouds))
    stride = max(len(picker.joined) // n_clouds, 1)
    found, problem = [], "no cloud has a point"
    counts, n_voxels = np.zeros(task.n_classes, np.int64), 0
    for k in range(n_clouds):
        try:
            cloud = picker.joined[picker.pick(k * stride)]
            upright_cloud = standing(cloud, task)
            prepared = task.contract.prepare(upright_cloud, task.n_levels)
        except (ValueError, OSError) as error:
            problem = str(error)
            continue
        if not len(prepared.features):
            continue
        found.append(describe(upright_cloud))
        if isinstance(cloud, BoxCloud):
            counts += np.bincount(cloud.box_labels, minlength=task.n_classes)
        elif task.n_classes and "label" in cloud.fields:
            target = voxel_labels(
                np.asarray(cloud.fields["label"]), prepared.inverse, len(prepared.features), task.n_classes
            ).numpy()
            counts += np.bincount(target[target != IGNORE], minlength=task.n_classes)
            n_voxels += len(target)
    if not found:
        raise ValueError(
            f"none of the first {n_clouds} training clouds can be used; the last problem: {problem}"
        )
    if task.n_classes and not counts.any():
        raise ValueError(
            "nothing in the first training clouds has a label of the target set; check label_set and label_source"
        )
    warn_of_few_labels(int(counts.sum()), n_voxels, "voxels of the first training clouds")
    return Survey(replace(task.contract, seen=pool(found)), counts)


def _count_objects(picker: Picker, task: Task, n_objects: int) -> NDArray[np.int64]:
    """Return how many of the stream's first objects each class has.

    Raises:
        ValueError: labels are needed and none of the objects has one.
    """
    counts, problem = np.zeros(task.n_classes, np.int64), ""
    for k in range(n_objects if task.n_classes else 0):
        try:
            counts[object_label(picker.joined[picker.pick(k)], task.n_classes)] += 1
        except (ValueError, OSError) as error:
            problem = str(error)
    if task.n_classes and n_objects and not counts.any():
        raise ValueError(
            f"none of the first {n_objects} training objects can be used; the last problem: {problem}"
        )
    return counts
