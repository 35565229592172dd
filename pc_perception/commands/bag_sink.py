# SPDX-License-Identifier: Apache-2.0
"""Write the labelled clouds of a recording into an .mcap that plays beside it."""

from __future__ import annotations

from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.io.bags import BagReader, BagTruncated, BagWriter
from pc_perception.io.message_encoding import LabelledCloudEncoder

from .sources import Source

TOPIC = "/segmentation"
_TRANSFORMS = ("/tf", "/tf_static")


class BagSink:
    """An .mcap with ``/segmentation``, its label info and legend, and the recording's transforms."""

    def __init__(self, out: Path, source: Source) -> None:
        self._writer = BagWriter(out, overwrite=True)
        self._encoder: LabelledCloudEncoder | None = None
        copy_transforms(source, self._writer)

    def write(self, name: str, cloud: PointCloud, result: SegmentationResult) -> None:
        """Add one labelled cloud at the bag stamp that ``name`` holds."""
        stamp_ns = int(name)
        if self._encoder is None:
            self._encoder = LabelledCloudEncoder(result.label_set)
            self._writer.write_labels_meaning(TOPIC, result.label_set, cloud.frame, stamp_ns)
        message = self._encoder.encode(cloud, result.labels, result.confidence, result.instance)
        self._writer.write_cloud(TOPIC, message, stamp_ns)

    def __enter__(self) -> BagSink:
        return self

    def __exit__(self, kind, error, trace) -> None:  # type: ignore[no-untyped-def]
        self._writer.close()


def copy_transforms(source: Source, writer: BagWriter) -> None:
    """Copy /tf and /tf_static of a recording."""
    with BagReader(source.path) as reader:
        names = [n for n in _TRANSFORMS if n in reader.topics]
        try:
            for topic, stamp_ns, raw in reader.messages(names) if names else ():
                writer.copy(topic, stamp_ns, raw)
        except BagTruncated:
            pass  # the clouds break off at the same place and say so
