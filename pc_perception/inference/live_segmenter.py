# SPDX-License-Identifier: Apache-2.0
"""Label a live stream of clouds: from a PointCloud2 message to a labelled one, whatever carries them."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.message_encoding import CloudMessage, LabelledCloudEncoder, encode_cloud
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.labels import LabelSet

from .features import FIELDS
from .live import LiveWorker, Transport, invalid_share
from .loading import load_segmenter
from .practice import practice_cloud
from .segmenter import SegmentationResult, Segmenter
from .stream import SweepOptions, SweepSegmenter
from .vitals import OK, WARN, Report, Stopwatch, Words

T = TypeVar("T")
SENSOR_CHECK_PERIOD_S = 5.0
WARM_UP_EDGES = 60
"""Voxels from the middle to the rim of the scene that a model is warmed up on: as many at each scale as in a real
one. Where every point has a voxel of its own even at the coarse scales, a sweep takes several times the memory."""


class Labelled(NamedTuple):
    """A labelled sweep, as points and as the values of its message."""

    cloud: PointCloud
    result: SegmentationResult
    message: CloudMessage


class LabelTransport(Transport, Protocol):
    """A transport of clouds."""

    def decode(self, msg: Any) -> Any:
        """Return the PointCloud2 of what ``take`` was given; where it is one already, itself.

        Raises:
            ValueError: it cannot be read.
        """

    def send_labelled(self, labelled: Labelled, source: Any) -> None:
        """Publish a labelled cloud; ``source`` is the message it came from, decoded."""

    def send_label_info(self, label_set: LabelSet, threshold: float) -> None:
        """Say which id is which class, for those who join later too."""

    def send_legend(self, label_set: LabelSet, frame: str) -> None:
        """Show class names and colours; called with every sweep, so send what changed."""


class Pipeline(NamedTuple):
    """What labels sweeps; a reload replaces it as a whole."""

    sweeps: SweepSegmenter
    encoder: LabelledCloudEncoder


class LiveModel(LiveWorker[T]):
    """Load a segmentation model, say what its labels mean, and compare inputs with its training.

    A subclass says what inputs are and how they are processed. Options beyond those of ``LiveWorker``: ``model``,
    ``device``, ``precision``, ``confidence_threshold``, ``sensor_check``; ``n_sweeps`` and ``ego_box`` (six
    numbers, all zero for none) where clouds are what comes in.
    """

    transport: LabelTransport

    def __init__(self, transport: LabelTransport, values: dict[str, Any], words: Words | None = None) -> None:
        """Load the model; where that raises, the transport is closed.

        Raises:
            FileNotFoundError, ValueError: as ``load_segmenter``.
        """
        super().__init__(transport, values, words)
        try:
            self.pipeline = self._load()
        except BaseException:
            self.close()
            raise
        self._last_check = float("-inf")

    @property
    def model(self) -> Segmenter:
        """The model in use."""
        return self.pipeline.sweeps.model

    def load(self) -> None:
        """Read the model file again; where that raises, the old model stays."""
        self.pipeline = self._load()
        self._announce()

    def describe(self) -> str:
        """Return the model's name, device and number of classes."""
        model = self.model
        return f"model '{self.values['model']}' on {model.device} with {len(model.label_set)} classes"

    def apply(self, values: dict[str, Any]) -> None:
        """Take over options that were changed."""
        threshold_changed = values["confidence_threshold"] != self.values["confidence_threshold"]
        super().apply(values)
        self.pipeline.sweeps.options = sweep_options(values)
        if threshold_changed:
            self._announce()

    def start(self) -> None:
        """Start the thread and say what the labels mean."""
        super().start()
        self._announce()

    def reports(self) -> dict[str, Report]:
        """Return the diagnostics since the last call: labelling, and the comparison with the training."""
        reports = super().reports()
        reports[self.words.doing].values.update(device_values(self.model.device))
        return {**reports, "sensor check": self._sensor_report()}

    def _sensor_report(self) -> Report:
        """Return what the last check found, as long as clouds are labelled."""
        found, silent_s = self.vitals.sensor, time.monotonic() - self._last_check
        if not self.values["sensor_check"]:
            return Report(OK, "off", {})
        if silent_s > 2 * SENSOR_CHECK_PERIOD_S:
            since = "yet" if math.isinf(silent_s) else f"for {silent_s:.0f} s"
            return Report(OK, f"no {self.words.item} was {self.words.done} {since}", {})
        return Report(WARN if found else OK, "; ".join(found.values()) or "nothing unlike the training", {})

    def _load(self) -> Pipeline:
        model, device, precision = (self.values[name] for name in ("model", "device", "precision"))
        segmenter = load_segmenter(model, device, precision)
        return warm_pipeline(segmenter, sweep_options(self.values), self.practice(segmenter))

    def practice(self, segmenter: Segmenter) -> PointCloud:
        """Return a cloud of the kind that comes in, for the model to be warmed up on."""
        return practice_cloud(WARM_UP_EDGES * segmenter.contract.grid_m)

    def _announce(self) -> None:
        self.transport.send_label_info(self.model.label_set, self.values["confidence_threshold"])

    def check_sensor(self, pipeline: Pipeline, cloud: PointCloud, origin: NDArray | None = None) -> None:
        """Compare the cloud with the model's training every few seconds; log when other quantities stop fitting."""
        now = time.monotonic()
        if not self.values["sensor_check"]:
            self.vitals.sensor = {}
        elif now - self._last_check > SENSOR_CHECK_PERIOD_S:
            found, before = pipeline.sweeps.check_sensor(cloud, origin), self.vitals.sensor
            self.vitals.sensor, self._last_check = found, now
            if found.keys() - before.keys():
                told = "; ".join(found.values())
                self.transport.warn(f"the sensor is not like those of the model's training: {told}")


class LiveSegmenter(LiveModel[Any]):
    """Label the points of PointCloud2 messages; one more option is ``publish_legend``."""

    def process(self, msg: Any, watch: Stopwatch) -> None:
        """Label one sweep and publish it."""
        pipeline = self.pipeline
        source = self.transport.decode(msg)
        cloud, T_fixed_cloud, origin = self.placed(cloud_from_msg(source, FIELDS))
        watch.mark()
        result = pipeline.sweeps(cloud, T_fixed_cloud, origin)
        watch.mark()
        message = pipeline.encoder.encode(cloud, result.labels, result.confidence, result.instance)
        self.transport.send_labelled(Labelled(cloud, result, message), source)
        watch.mark()
        self.account(cloud.stamp_ns, invalid_share(cloud), watch.stages(result.milliseconds))
        if self.values["publish_legend"]:
            self.transport.send_legend(result.label_set, cloud.frame)
        self.check_sensor(pipeline, cloud, origin)

    def placed(self, cloud: PointCloud) -> tuple[PointCloud, NDArray | None, NDArray | None]:
        """Return the cloud where it is wanted, T_fixed_cloud and the sensor's origin (``SweepSegmenter``)."""
        return cloud, None, None


def sweep_options(values: dict[str, Any]) -> SweepOptions:
    """Return the options of ``SweepSegmenter`` among a worker's."""
    box = tuple(values.get("ego_box", ()))
    return SweepOptions(box if any(box) else None, values.get("n_sweeps", 1), values["confidence_threshold"])


def warm_pipeline(segmenter: Segmenter, options: SweepOptions, practice: PointCloud) -> Pipeline:
    """Return what labels sweeps, run twice already, so that the first live sweep is as quick as the others."""
    pipeline = Pipeline(SweepSegmenter(segmenter, options), LabelledCloudEncoder(segmenter.label_set))
    message = encode_cloud(practice)
    for _ in range(2):
        cloud = cloud_from_msg(message, FIELDS)
        result = segmenter(cloud)
        pipeline.encoder.encode(cloud, result.labels, result.confidence, result.instance)
    return pipeline


def device_values(device: torch.device) -> dict[str, object]:
    """Return what diagnostics say about where a model runs."""
    values: dict[str, object] = {"device": device}
    if device.type == "cuda":
        values["cuda_memory_mb"] = torch.cuda.memory_allocated(device) // 2**20
    return values
