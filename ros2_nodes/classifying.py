# SPDX-License-Identifier: Apache-2.0
"""The sweep's way through the classification node: decoded, placed, its objects found and followed, published."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.instances import InstanceOptions
from pc_perception.inference.live import invalid_share
from pc_perception.inference.live_segmenter import device_values
from pc_perception.inference.loading import load_classifier, load_segmenter
from pc_perception.inference.object_messages import detections, instance_cloud, object_markers
from pc_perception.inference.object_results import ObjectsResult
from pc_perception.inference.objects import ObjectOptions, SweepObjects
from pc_perception.inference.practice import practice_cloud
from pc_perception.io.pointcloud2 import cloud_from_msg, encode_cloud

from .conversions import Detection3DArray, labelled_message, new_message
from .node_worker import NodeWorker
from .outputs import Outputs
from .perception_node import PerceptionNode
from .runtime import OK, WARN, Report, Stopwatch
from .transforms import Transforms

RETRY_S = 1.0
"""So long after a transform was missing, sweeps do not wait for one."""


class ObjectFinder(NodeWorker[PointCloud2]):
    """Finds the objects of clouds, names and tracks them."""

    def __init__(self, node: PerceptionNode) -> None:
        """Load the models and make the publishers.

        Raises:
            FileNotFoundError, ValueError: as ``load_classifier`` and ``load_segmenter``.
        """
        values = node.values
        self._sweeps = _load(values)
        topics = {"object_markers": MarkerArray, "instances": PointCloud2}
        if Detection3DArray is not None:
            topics["objects"] = Detection3DArray
        super().__init__(node, Outputs(node, topics, reliable=("objects", "object_markers")))
        self._transforms = Transforms(node, values["tf_timeout_s"]) if values["fixed_frame"] else None
        self._retry_at = float("-inf")
        self._adrift = "no cloud yet"  # why objects are not tracked in the fixed frame
        self._counts = {"objects": 0, "confirmed": 0}

    def load(self) -> None:
        """Read the model files again; where that raises, the old ones stay. Tracks begin anew."""
        self._sweeps = _load(self.values)
        self._announce()

    def describe(self) -> str:
        """Return the models' names, the device and the number of classes."""
        classifier, segmenter = self._sweeps.classifier, self.values["segmenter"]
        found = f"things of model '{segmenter}'" if segmenter else "all above the ground"
        n_classes = len(classifier.label_set)
        return f"model '{self.values['model']}' on {classifier.device} with {n_classes} classes, for {found}"

    def apply(self, values: dict[str, Any]) -> None:
        """Take over parameters that were changed."""
        super().apply(values)
        self._sweeps.options = _options(values)
        if self._transforms is not None:
            self._transforms.timeout_s = values["tf_timeout_s"]
        self._announce()

    def start(self) -> None:
        """Start the thread, with no tracks, and say what the classes are."""
        self._sweeps.forget()
        super().start()
        self._announce()

    def close(self) -> None:
        """Destroy publishers and subscriptions."""
        super().close()
        if self._transforms is not None:
            self._transforms.close()

    def reports(self) -> dict[str, Report]:
        """Return the diagnostics since the last call: the stream, and in which frame objects are tracked."""
        reports = super().reports()
        reports[self.words.doing].values.update(device_values(self._sweeps.classifier.device))
        reports[self.words.doing].values.update(self._counts)
        if self._transforms is None:
            told = Report(
                OK, "in the sensor's own frame, as fixed_frame is empty: speeds are relative to it", {}
            )
        elif self._adrift:
            told = Report(WARN if self.vitals.counts[self.words.done] else OK, self._adrift, {})
        else:
            told = Report(OK, f"in '{self.values['fixed_frame']}'", {})
        return {**reports, "tracking": told}

    def _announce(self) -> None:
        self.outputs.send_label_info(self._sweeps.classifier.label_set, self.values["score_threshold"])

    # What follows runs on the worker's thread.

    def process(self, msg: PointCloud2, watch: Stopwatch) -> None:
        """Find the objects of one sweep and publish them."""
        cloud = cloud_from_msg(msg)
        T_fixed_cloud = self._pose(cloud)
        watch.mark()
        result = self._sweeps(cloud, T_fixed_cloud)
        watch.mark()
        self._send(msg, cloud, result)
        watch.mark()
        self._counts = {"objects": len(result), "confirmed": int(result.confirmed.sum())}
        spent = dict(result.milliseconds)
        model_ms = {
            "prepare": spent.pop("prepare"),
            "finish": spent.pop("track"),
            "network": sum(spent.values()),
        }
        self.account(cloud.stamp_ns, invalid_share(cloud), watch.stages(model_ms))
        if self.values["publish_legend"]:
            self.outputs.send_legend(result.label_set, cloud.frame)

    def _pose(self, cloud: PointCloud) -> NDArray[np.float64] | None:
        """Return T_fixed_cloud, None without: an object that cannot be followed is still worth telling."""
        if self._transforms is None or time.monotonic() < self._retry_at:
            return None
        try:
            T = self._transforms.at_stamp(self.values["fixed_frame"], cloud.frame, cloud.stamp_ns)
        except ValueError as error:
            self._retry_at = time.monotonic() + RETRY_S
            self._adrift = f"in the sensor's own frame: {error}"
            self.node.get_logger().warning(f"tracking {self._adrift}", throttle_duration_sec=5.0)
            return None
        self._adrift = ""
        return T

    def _send(self, msg: PointCloud2, cloud: PointCloud, result: ObjectsResult) -> None:
        """Publish what somebody listens to."""
        where = (cloud.frame, cloud.stamp_ns, new_message)
        if Detection3DArray is not None and self.outputs.wanted("objects"):
            self.outputs.send("objects", detections(result, *where))
        if self.outputs.wanted("object_markers"):
            self.outputs.send("object_markers", object_markers(result, *where))
        if self.outputs.wanted("instances"):
            values = encode_cloud(instance_cloud(cloud, result))
            self.outputs.send("instances", labelled_message(values, msg, cloud.frame))


def _load(values: Mapping[str, Any]) -> SweepObjects:
    """Load the models and run them twice, so that the first live sweep is as quick as the others."""
    where = (values["device"], values["precision"])
    classifier = load_classifier(values["model"], *where)
    segmenter = load_segmenter(values["segmenter"], *where) if values["segmenter"] else None
    for things in (segmenter, None):  # without, since nothing in the practice cloud may be a thing
        practice = SweepObjects(classifier, things, replace(_options(values), score_threshold=0.0))
        for _ in range(2):
            practice(practice_cloud())
    return SweepObjects(classifier, segmenter, _options(values))


def _options(values: Mapping[str, Any]) -> ObjectOptions:
    box = tuple(values["ego_box"])
    names = (
        "distance_m",
        "min_points",
        "min_height_m",
        "max_height_m",
        "max_extent_m",
        "max_range_m",
        "max_objects",
    )
    return ObjectOptions(
        InstanceOptions(**{name: values[name] for name in names}),
        values["score_threshold"],
        box if any(box) else None,
        values["undistort"],
        values["complete"],
    )
