# SPDX-License-Identifier: Apache-2.0
"""Where the objects of scenes go on the command line: an .mcap that plays beside a bag, or labelled clouds."""

from __future__ import annotations

from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.inference.object_messages import (
    DETECTIONS,
    MARKERS,
    detections,
    instance_cloud,
    object_markers,
)
from pc_perception.inference.object_results import ObjectsResult
from pc_perception.io.message_types import new_message

from .bag_sink import RecordingSink
from .sinks import Sink, open_file_sink, refuse_input
from .sources import Source

OBJECTS, OBJECT_MARKERS, INSTANCES = "/objects", "/object_markers", "/instances"


class ObjectBagSink(RecordingSink):
    """An .mcap with ``/objects``, ``/object_markers``, ``/instances``, and the recording's transforms."""

    def write(self, name: str, cloud: PointCloud, result: ObjectsResult) -> None:
        """Add the objects of one sweep at the bag stamp that ``name`` holds."""
        stamp_ns = int(name)
        writer = self.begun(OBJECTS, result.label_set, cloud.frame, stamp_ns)
        where = (cloud.frame, cloud.stamp_ns, new_message)
        writer.write(OBJECTS, DETECTIONS, detections(result, *where), stamp_ns)
        writer.write(OBJECT_MARKERS, MARKERS, object_markers(result, *where), stamp_ns)
        writer.write_cloud(INSTANCES, instance_cloud(cloud, result), stamp_ns)

    def __enter__(self) -> ObjectBagSink:
        return self


def with_instances(cloud: PointCloud, result: ObjectsResult) -> PointCloud:
    """Return the cloud with its fields ``instance`` (uint32) and ``label`` (uint16), same order."""
    found = instance_cloud(cloud, result).fields
    return cloud.with_fields(instance=found["instance"], label=found["label"])


def open_object_sink(out: Path, source: Source) -> Sink:
    """Choose the writer that fits the source and the name of ``out``.

    Raises:
        ValueError: ``out`` cannot hold what the source gives.
    """
    if source.is_bag and out.suffix == ".mcap":
        refuse_input(out, source)
        return ObjectBagSink(out, source)
    return open_file_sink(out, source, with_instances)
