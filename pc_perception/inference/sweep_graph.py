# SPDX-License-Identifier: Apache-2.0
"""Whole sweeps as CUDA graphs: some hundred kernels, from points to labels, started by one call.

A sweep on a GPU costs more in Python and launches than in arithmetic. A graph holds the launches, with buffers for one
number of points and of voxels; sweeps of about that size replay it. What does not fit goes the ordinary way, which
gives the same labels, and the next graph is larger.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from operator import le
from threading import Lock
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pc_perception.cloud import PointCloud
from pc_perception.models.layers import GatedDeltaNet
from pc_perception.models.linear import Linear
from pc_perception.models.pyramid import Pyramid
from pc_perception.models.scene_encoder import SceneSegmenter
from pc_perception.ops.backend import resolve
from pc_perception.ops.padded import classes_of
from pc_perception.ops.repeats import first_equal

from .contract import UNLABELED_BITS, InputContract
from .features import fields_of
from .padded_cloud import fits, prepare_padded
from .upright import upright

MOST_KEYS = 128
"""Of a mixer; the delta rule of larger ones has no kernel (``ops.gpu.recurrence``)."""
SPARE = 1.3
"""Voxels that a graph has room for, by those of the largest sweep so far."""
ROWS = 256
"""Room for voxels comes in multiples of this."""
POINTS = 2048
"""Room for points comes in multiples of this."""
LARGEST = 1 << 19
"""Points beyond which the launches do not matter, and buffers would be large."""
FEWER, PATIENCE = 4, 8
"""Clouds of so many times fewer points than a graph is for go the ordinary way; so many of them in a row, and the graph
is made for them."""


_capture = Lock()
"""One capture at a time in this process, whatever the model."""


class Labelled(NamedTuple):
    """What a graph says: labels (N,) uint16, confidence (N,) float32, and the stages' milliseconds."""

    labels: NDArray[np.uint16]
    confidence: NDArray[np.float32]
    milliseconds: dict[str, float]


def label_padded(
    network: nn.Module,
    contract: InputContract,
    xyz: Tensor,
    fields: Mapping[str, Tensor],
    capacities: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Label the points of one scene; never waits for the device.

    Args:
        xyz, fields, capacities: as ``prepare_padded`` takes them, on the device of ``network``.

    Returns:
        labels (N,) int16 (``InputContract.label``), confidence (N,) float32, and status (``PaddedInput.status``).
    """
    scene = prepare_padded(contract, xyz, fields, capacities)
    logits = network(scene.features, scene.pyramid)
    return *classes_of(logits, scene.inverse, UNLABELED_BITS), scene.status


class SweepGraphs:
    """The graphs of one network, one for each set of fields; safe to call from several threads.

    Attributes:
        usable: whether this network on this device can have graphs.
        graphs: by the names of the fields that it reads.
        n_made: graphs made so far.
    """

    def __init__(self, network: nn.Module, contract: InputContract, device: torch.device) -> None:
        self.network, self.contract, self.device = network, contract, device
        suits = isinstance(network, SceneSegmenter) and contract.voxels == "cartesian"
        small = all(m.d_key <= MOST_KEYS for m in network.modules() if isinstance(m, GatedDeltaNet))
        self.usable = device.type == "cuda" and suits and small
        self.graphs: dict[tuple[str, ...], _SweepGraph] = {}
        self.n_made = self._n_small = 0
        self._lock = Lock()

    def __call__(self, cloud: PointCloud) -> Labelled | None:
        """Label a cloud, or return None where there is no graph for it yet or its voxels did not fit."""
        if not self._serves(cloud):
            return None
        if not self._lock.acquire(blocking=False):
            return None  # a graph is at work or being made: the ordinary way waits for nobody
        try:
            graph = self.graphs.get(self._names(cloud))
            if graph is None or not graph.least <= len(cloud) <= graph.n_points:
                return None
            self._n_small = 0
            with torch.cuda.device(self.device):
                return graph(cloud)
        finally:
            self._lock.release()

    def learn(self, cloud: PointCloud, pyramid: Pyramid) -> None:
        """Make a graph for clouds like this one, which went the ordinary way with ``pyramid``.

        Where that fails, as for want of memory, there are no graphs any more: a warning says why.
        """
        if not self._serves(cloud):
            return
        with self._lock, torch.cuda.device(self.device):
            names, sizes = self._names(cloud), [len(level) for level in pyramid.levels]
            had = self.graphs.get(names)
            if had is not None and len(cloud) < had.least:
                self._n_small += 1
                if self._n_small < PATIENCE:
                    return
                had = None
            n_points = _round_up(len(cloud), POINTS)
            rooms = [_round_up(int(SPARE * n), ROWS) for n in sizes]
            if had is not None:
                if len(cloud) <= had.n_points and all(map(le, sizes, had.capacities)):
                    return  # there was room: it is no cloud for graphs, such as a map
                n_points = max(n_points, had.n_points)
                rooms = [max(a, b) for a, b in zip(rooms, had.capacities, strict=True)]
            try:
                self.graphs[names] = _SweepGraph(self, names, n_points, rooms)
            except Exception as error:  # labels are there already: whatever it is, they must not be lost
                self.usable = False
                self.graphs.clear()
                warnings.warn(f"sweeps are labelled without CUDA graphs from now on: {error}", stacklevel=2)
                return
            self.n_made += 1

    def __reduce__(self) -> tuple[Any, ...]:
        return SweepGraphs, (self.network, self.contract, self.device)  # graphs cannot be copied

    def _serves(self, cloud: PointCloud) -> bool:
        return self.usable and 0 < len(cloud) <= LARGEST and resolve(self.device, package="fla") == "triton"

    def _names(self, cloud: PointCloud) -> tuple[str, ...]:
        return tuple(sorted(fields_of(cloud, self.contract.features, slice(0))))


def _round_up(n: int, step: int) -> int:
    return max(-(-n // step), 1) * step


class _SweepGraph:
    """One graph with its buffers on the host (pinned) and on the device."""

    def __init__(
        self, owner: SweepGraphs, names: Sequence[str], n_points: int, capacities: Sequence[int]
    ) -> None:
        n = self.n_points = n_points
        self.least = 0 if n == POINTS else n // FEWER
        self.contract, self.capacities = owner.contract, tuple(capacities)
        shapes = {"xyz": (n, 3), **{name: (n, 3) if name == "rgb" else (n,) for name in names}}
        pinned = {name: torch.zeros(shape, pin_memory=True) for name, shape in shapes.items()}
        self.host = {name: tensor.numpy() for name, tensor in pinned.items()}
        self.labels = torch.empty(n, dtype=torch.int16, pin_memory=True)
        self.confidence = torch.empty(n, pin_memory=True)
        self.status = torch.empty(1 + len(capacities), dtype=torch.int64, pin_memory=True)
        # Kept here, as the weights are: the graph knows addresses alone, and what is free is given to others.
        device = self.device = {n: torch.zeros(s, device=owner.device) for n, s in shapes.items()}

        def run() -> None:
            for name, tensor in pinned.items():
                device[name].copy_(tensor, non_blocking=True)
            fields = {name: device[name] for name in names}
            found = label_padded(owner.network, owner.contract, device["xyz"], fields, self.capacities)
            for host, result in zip((self.labels, self.confidence, self.status), found, strict=True):
                host.copy_(result, non_blocking=True)

        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # kernels are compiled and libraries made ready before the capture
            run()
        torch.cuda.current_stream().wait_stream(aside)
        layers = [m for m in owner.network.modules() if isinstance(m, Linear)]
        self.weights = owner.network.state_dict(), [layer.factors() for layer in layers]
        self.graph = torch.cuda.CUDAGraph()
        with _capture, torch.cuda.graph(self.graph, stream=aside, capture_error_mode="thread_local"):
            run()

    def __call__(self, cloud: PointCloud) -> Labelled | None:
        start, n = perf_counter(), len(cloud)
        xyz = self.host["xyz"]
        xyz[:n], xyz[n:] = upright(cloud) if self.contract.level_camera else cloud.xyz, np.nan
        for name, values in fields_of(cloud, self.contract.features, slice(None)).items():
            self.host[name][:n] = values.numpy()
        ready = perf_counter()
        self.graph.replay()
        repeats = first_equal(cloud.xyz)  # while the device works: few sensors send points twice
        torch.cuda.current_stream().synchronize()
        if repeats is not None:
            again = (repeats != np.arange(n)) & np.isfinite(cloud.xyz).all(1)
            if again.any():
                xyz[:n][again] = np.nan
                self.graph.replay()
                torch.cuda.current_stream().synchronize()
            else:  # what is NaN is alike, and of no voxel
                repeats = None
        done = perf_counter()
        if not fits(self.status.tolist(), self.capacities):
            return None
        labels, confidence = self.labels.numpy()[:n].view(np.uint16), self.confidence.numpy()[:n]
        row = slice(None) if repeats is None else repeats
        found = labels[row].copy(), confidence[row].copy()
        spans = (ready - start, done - ready, perf_counter() - done)
        stages = zip(("prepare", "network", "finish"), spans, strict=True)
        return Labelled(*found, {stage: 1e3 * span for stage, span in stages})
