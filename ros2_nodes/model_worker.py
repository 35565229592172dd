# SPDX-License-Identifier: Apache-2.0
"""What nodes share that label points with a segmentation model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import Segmenter
from pc_perception.inference.stream import SweepOptions

from .node_worker import NodeWorker
from .outputs import Outputs
from .perception_node import PerceptionNode
from .pipeline import Pipeline, device_values, load_pipeline
from .runtime import OK, WARN, Report

SENSOR_CHECK_PERIOD_S = 5.0
T = TypeVar("T")


class ModelWorker(NodeWorker[T]):
    """Loads a model, says what its labels mean, and compares the input with the model's training."""

    def __init__(self, node: PerceptionNode, topics: Mapping[str, type]) -> None:
        """Load the model and make the publishers of ``topics``.

        Raises:
            FileNotFoundError, ValueError: as ``load_segmenter``.
        """
        self.pipeline = self._load(node.values)
        super().__init__(node, Outputs(node, topics))
        self._last_check = float("-inf")

    @property
    def model(self) -> Segmenter:
        """The model in use."""
        return self.pipeline.sweeps.model

    def options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``SweepOptions`` that the parameters ask for and that may change at run time."""
        return {"confidence_threshold": values["confidence_threshold"]}

    def _load(self, values: Mapping[str, Any]) -> Pipeline:
        options = SweepOptions(n_sweeps=values.get("n_sweeps", 1), **self.options(values))
        return load_pipeline(values["model"], values["device"], values["precision"], options)

    def load(self) -> None:
        """Read the model file again; where that raises, the old model stays."""
        self.pipeline = self._load(self.values)
        self._announce()

    def describe(self) -> str:
        """Return the model's name, device and number of classes."""
        model = self.model
        return f"model '{self.values['model']}' on {model.device} with {len(model.label_set)} classes"

    def apply(self, values: dict[str, Any]) -> None:
        """Take over parameters that were changed."""
        threshold_changed = values["confidence_threshold"] != self.values["confidence_threshold"]
        super().apply(values)
        if threshold_changed:
            self._announce()
        sweeps = self.pipeline.sweeps
        sweeps.options = replace(sweeps.options, **self.options(values))

    def start(self) -> None:
        """Start the thread and say what the labels mean."""
        super().start()
        self._announce()

    def reports(self) -> dict[str, Report]:
        """Return the diagnostics since the last call: labelling, and the comparison with the training."""
        reports = super().reports()
        reports[self.words.doing].values.update(device_values(self.model.device))
        found = self.vitals.sensor
        sensor = Report(WARN if found else OK, "; ".join(found) or "nothing unlike the training", {})
        return {**reports, "sensor check": sensor}

    def _announce(self) -> None:
        self.outputs.send_label_info(self.model.label_set, self.values["confidence_threshold"])

    def check_sensor(self, pipeline: Pipeline, cloud: PointCloud, origin: NDArray | None = None) -> None:
        """Compare the cloud with the model's training every few seconds; log when it stops fitting."""
        now = time.monotonic()
        if not self.values["sensor_check"]:
            self.vitals.sensor = []
        elif now - self._last_check > SENSOR_CHECK_PERIOD_S:
            self._last_check = now
            found, before = pipeline.sweeps.check_sensor(cloud, origin), self.vitals.sensor
            self.vitals.sensor = found
            if found and not before:
                self.node.get_logger().warning(
                    "the sensor is not like those of the model's training: " + "; ".join(found)
                )


def invalid_share(cloud: PointCloud) -> float:
    """Return the share of points that are not finite; 0 for no points."""
    return 1.0 - float(cloud.finite().mean()) if len(cloud) else 0.0
