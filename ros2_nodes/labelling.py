# SPDX-License-Identifier: Apache-2.0
"""The sweep's way through the segmentation node: decoded, moved, labelled, published."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import Segmenter
from pc_perception.inference.stream import SweepOptions
from pc_perception.io.pointcloud2 import cloud_from_msg

from .conversions import labelled_message
from .node_worker import NodeWorker
from .outputs import Outputs
from .perception_node import PerceptionNode
from .pipeline import Pipeline, device_values, load_pipeline
from .runtime import OK, WARN, Report, Stopwatch
from .transforms import Transforms

SENSOR_CHECK_PERIOD_S = 5.0


class Labeller(NodeWorker[PointCloud2]):
    """Labels the points of clouds with a model."""

    def __init__(self, node: PerceptionNode) -> None:
        """Load the model and make the publishers.

        Raises:
            FileNotFoundError, ValueError: as ``load_segmenter``.
        """
        values = node.values
        self._pipeline = _load(values)
        super().__init__(node, Outputs(node, {"segmentation": PointCloud2}))
        needs_tf = bool(values["target_frame"]) or values["n_sweeps"] > 1
        self._transforms = Transforms(node, values["tf_timeout_s"]) if needs_tf else None
        self._last_check = float("-inf")

    @property
    def model(self) -> Segmenter:
        """The model in use."""
        return self._pipeline.sweeps.model

    def load(self) -> None:
        """Read the model file again; where that raises, the old model stays."""
        self._pipeline = _load(self.values)
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
        sweeps = self._pipeline.sweeps
        sweeps.options = replace(sweeps.options, **_changeable_options(values))
        if self._transforms is not None:
            self._transforms.timeout_s = values["tf_timeout_s"]

    def start(self) -> None:
        """Start the thread and say what the labels mean."""
        super().start()
        self._announce()

    def close(self) -> None:
        """Destroy publishers and subscriptions."""
        super().close()
        if self._transforms is not None:
            self._transforms.close()

    def reports(self) -> dict[str, Report]:
        """Return the diagnostics since the last call: labelling, and the comparison with the training."""
        reports = super().reports()
        reports[self.words.doing].values.update(device_values(self.model.device))
        found = self.vitals.sensor
        sensor = Report(WARN if found else OK, "; ".join(found) or "nothing unlike the training", {})
        return {**reports, "sensor check": sensor}

    def _announce(self) -> None:
        self.outputs.send_label_info(self.model.label_set, self.values["confidence_threshold"])

    # What follows runs on the worker's thread.

    def process(self, msg: PointCloud2, watch: Stopwatch) -> None:
        """Label one sweep and publish it."""
        pipeline = self._pipeline
        cloud, T_fixed_cloud, origin = self._placed(cloud_from_msg(msg))
        watch.mark()
        result = pipeline.sweeps(cloud, T_fixed_cloud, origin)
        watch.mark()
        values = pipeline.encoder.encode(cloud, result.labels, result.confidence)
        self.outputs.send("segmentation", labelled_message(values, msg, cloud.frame))
        watch.mark()
        invalid = 1.0 - float(cloud.finite().mean()) if len(cloud) else 0.0
        self.account(cloud.stamp_ns, invalid, watch.stages(result.milliseconds))
        if self.values["publish_legend"]:
            self.outputs.send_legend(result.label_set, cloud.frame)
        self._check_sensor(pipeline, cloud, origin)

    def _placed(self, cloud: PointCloud) -> tuple[PointCloud, NDArray | None, NDArray | None]:
        """Bring a cloud where the parameters want it; return it, T_fixed_cloud and the sensor's origin."""
        T_fixed_cloud = origin = None
        if self._transforms is not None:
            if self.values["target_frame"]:
                cloud, origin = self._transforms.move(cloud, self.values["target_frame"])
            if self.values["n_sweeps"] > 1:
                fixed = self.values["fixed_frame"]
                T_fixed_cloud = self._transforms.at_stamp(fixed, cloud.frame, cloud.stamp_ns)
        return cloud, T_fixed_cloud, origin

    def _check_sensor(self, pipeline: Pipeline, cloud: PointCloud, origin: NDArray | None) -> None:
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


def _load(values: dict[str, Any]) -> Pipeline:
    options = SweepOptions(n_sweeps=values["n_sweeps"], **_changeable_options(values))
    return load_pipeline(values["model"], values["device"], values["precision"], options)


def _changeable_options(values: dict[str, Any]) -> dict[str, Any]:
    box = tuple(values["ego_box"])
    return {"ego_box": box if any(box) else None, "confidence_threshold": values["confidence_threshold"]}
