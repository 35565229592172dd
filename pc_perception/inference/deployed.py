# SPDX-License-Identifier: Apache-2.0
"""What all models that are run have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import torch

from pc_perception.cloud import PointCloud
from pc_perception.labels import LabelSet
from pc_perception.models.linear import set_precision

Network = TypeVar("Network", bound=torch.nn.Module)
Contract = TypeVar("Contract")


class Deployed(Generic[Network, Contract]):
    """A network that is trained no further, with its contract and classes, on one device.

    Args:
        network: moved to ``device``, set to evaluation and frozen.
        contract: what turns a cloud into the network's input.
        label_set: the classes that it knows.
        precision: of its linear layers, as ``load_model`` takes it; what was chosen is kept under this name.

    Raises:
        ValueError: the precision is unknown.
    """

    def __init__(
        self,
        network: Network,
        contract: Contract,
        label_set: LabelSet,
        device: torch.device,
        precision: str = "auto",
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.precision = set_precision(self.network, precision, device)
        self.contract, self.label_set, self.device = contract, label_set, device


def clouds_of(given: PointCloud | Iterable[PointCloud]) -> Iterator[PointCloud]:
    """Yield the clouds that a model was called with, one or several.

    Raises:
        TypeError: it was something else.
    """
    several = isinstance(given, Iterable) and not isinstance(given, PointCloud)
    for cloud in given if several else [given]:  # type: ignore[union-attr]
        if not isinstance(cloud, PointCloud):
            raise TypeError(
                f"a model takes a PointCloud or a list of them, not {type(cloud).__name__}; pc_perception.read_cloud "
                "reads a file, PointCloud(xyz) holds an array"
            )
        yield cloud
