# SPDX-License-Identifier: Apache-2.0
"""The sweep's way through the node: the executor takes a message, the worker labels and publishes it."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import PointCloud2

from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import Segmenter
from pc_perception.inference.stream import SweepOptions, Worker
from pc_perception.io.pointcloud2 import cloud_from_msg

from .conversions import labelled_message
from .outputs import Outputs
from .pipeline import Arrival, Pipeline, Stopwatch, load_pipeline
from .runtime import OK, WARN, RateLimiter, Report, Vitals
from .transforms import Transforms

SENSOR_CHECK_PERIOD_S = 5.0


class Labeller:
    """Model, publishers and transforms of a configured node; labels between ``start`` and ``stop``.

    Importing this module loads torch: set the thread count first (``runtime.limit_threads``).
    """

    def __init__(self, node: LifecycleNode, values: dict[str, Any]) -> None:
        """Load the model and make the publishers; ``values`` are the node's parameters.

        Raises:
            FileNotFoundError, ValueError: as ``load_segmenter``.
        """
        self._node, self._values = node, values
        self._pipeline = self._load()
        self._vitals, self._limiter = Vitals(), RateLimiter()
        self._outputs = Outputs(node)
        needs_tf = bool(values["target_frame"]) or values["n_sweeps"] > 1
        self._transforms = Transforms(node, values["tf_timeout_s"]) if needs_tf else None
        self._worker: Worker[Arrival] | None = None
        self._free_at = self._last_sent = self._last_check = float("-inf")

    @property
    def model(self) -> Segmenter:
        """The model in use."""
        return self._pipeline.sweeps.model

    def load(self) -> None:
        """Read the model file again; where that raises, the old model stays."""
        self._pipeline = self._load()
        self._announce()

    def apply(self, values: dict[str, Any]) -> None:
        """Take over parameters that were changed."""
        threshold_changed = values["confidence_threshold"] != self._values["confidence_threshold"]
        self._values = values
        if threshold_changed:
            self._announce()
        sweeps = self._pipeline.sweeps
        sweeps.options = replace(sweeps.options, **_changeable_options(values))
        if self._transforms is not None:
            self._transforms.timeout_s = values["tf_timeout_s"]

    def start(self) -> None:
        """Start the worker and say what the labels mean."""
        self._worker = Worker(self._label, self._on_error)
        self._announce()

    def stop(self) -> None:
        """Finish the sweep at hand and end the worker."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def close(self) -> None:
        """Destroy publishers and subscriptions."""
        self._outputs.close()
        if self._transforms is not None:
            self._transforms.close()

    def take(self, msg: PointCloud2) -> None:
        """Hand a message to the worker; the subscription's callback."""
        now = time.perf_counter()
        self._vitals.arrived()
        if not self._outputs.wanted:
            self._vitals.counts["unheard"] += 1
        elif not self._limiter.admit(self._values["max_rate_hz"], now):
            self._vitals.counts["limited"] += 1
        elif self._worker is not None:
            self._worker.slot.put(Arrival(msg, now))

    def reports(self) -> dict[str, Report]:
        """Return the diagnostics since the last call, by name."""
        stream = self._vitals.report(self._worker.slot.dropped if self._worker else 0)
        device = self.model.device
        stream.values["device"] = device
        if device.type == "cuda":
            import torch

            stream.values["cuda_memory_mb"] = torch.cuda.memory_allocated(device) // 2**20
        found = self._vitals.sensor
        sensor = Report(WARN if found else OK, "; ".join(found) or "nothing unlike the training", {})
        return {"labelling": stream, "sensor check": sensor}

    def _load(self) -> Pipeline:
        options = SweepOptions(n_sweeps=self._values["n_sweeps"], **_changeable_options(self._values))
        model, device, precision = (self._values[name] for name in ("model", "device", "precision"))
        return load_pipeline(model, device, precision, options)

    def _announce(self) -> None:
        self._outputs.send_label_info(self.model.label_set, self._values["confidence_threshold"])

    # What follows runs on the worker's thread.

    def _label(self, arrival: Arrival) -> None:
        pipeline, watch = self._pipeline, Stopwatch(arrival.at, self._free_at)
        cloud, T_fixed_cloud, origin = self._placed(cloud_from_msg(arrival.msg))
        watch.mark()
        result = pipeline.sweeps(cloud, T_fixed_cloud, origin)
        watch.mark()
        values = pipeline.encoder.encode(cloud, result.labels, result.confidence)
        self._outputs.clouds.publish(labelled_message(values, arrival.msg, cloud.frame))
        watch.mark()
        self._account(cloud, watch.stages(result.milliseconds))
        if self._values["publish_legend"]:
            self._outputs.send_legend(result.label_set, cloud.frame)
        self._check_sensor(pipeline, cloud, origin)
        self._free_at = time.perf_counter()

    def _placed(self, cloud: PointCloud) -> tuple[PointCloud, NDArray | None, NDArray | None]:
        """Bring a cloud where the parameters want it; return it, T_fixed_cloud and the sensor's origin."""
        T_fixed_cloud = origin = None
        if self._transforms is not None:
            if self._values["target_frame"]:
                cloud, origin = self._transforms.move(cloud, self._values["target_frame"])
            if self._values["n_sweeps"] > 1:
                T_fixed_cloud = self._transforms.at_stamp(self._values["fixed_frame"], cloud)
        return cloud, T_fixed_cloud, origin

    def _account(self, cloud: PointCloud, stages: dict[str, float]) -> None:
        """Keep and publish how long one sweep took."""
        now = time.perf_counter()
        age_ms = (self._node.get_clock().now().nanoseconds - cloud.stamp_ns) / 1e6
        self._vitals.sent(age_ms, self._values["max_age_ms"], **stages)
        self._vitals.invalid_share = 1.0 - float(cloud.finite().mean()) if len(cloud) else 0.0
        if self._values["publish_debug"]:
            cyclic_ms = 1e3 * (now - self._last_sent)
            self._outputs.send_debug(cyclic_time=cyclic_ms, pipeline_latency=age_ms, **stages)
        self._last_sent = now

    def _check_sensor(self, pipeline: Pipeline, cloud: PointCloud, origin: NDArray | None) -> None:
        """Compare the cloud with the model's training every few seconds; log when it stops fitting."""
        now = time.monotonic()
        if not self._values["sensor_check"]:
            self._vitals.sensor = []
        elif now - self._last_check > SENSOR_CHECK_PERIOD_S:
            self._last_check = now
            found, before = pipeline.sweeps.check_sensor(cloud, origin), self._vitals.sensor
            self._vitals.sensor = found
            if found and not before:
                self._node.get_logger().warning(
                    "the sensor is not like those of the model's training: " + "; ".join(found)
                )

    def _on_error(self, error: Exception) -> None:
        self._vitals.failed(str(error))
        if isinstance(error, ValueError):
            self._node.get_logger().warning(f"sweep skipped: {error}", throttle_duration_sec=5.0)
        else:
            told = "".join(traceback.format_exception(error))
            self._node.get_logger().error(f"sweep skipped: {told}", throttle_duration_sec=5.0)


def _changeable_options(values: dict[str, Any]) -> dict[str, Any]:
    box = tuple(values["ego_box"])
    return {"ego_box": box if any(box) else None, "confidence_threshold": values["confidence_threshold"]}
