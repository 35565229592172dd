# SPDX-License-Identifier: Apache-2.0
"""Write what was found in the clouds of a recording into an .mcap that plays beside it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.io.bags import BagReader, BagTruncated, BagWriter
from pc_perception.io.message_encoding import LabelledCloudEncoder
from pc_perception.labels import LabelSet

from .sources import Source

TOPIC = "/segmentation"
_TRANSFORMS = ("/tf", "/tf_static")


class RecordingSink:
    """An .mcap that begins with the first result: a run that is refused leaves alone what was there."""

    def __init__(self, out: Path, source: Source) -> None:
        self._out, self._source = out, source
        self._writer: BagWriter | None = None

    def begun(self, topic: str, label_set: LabelSet, frame: str, stamp_ns: int) -> BagWriter:
        """Return the open recording; it begins with the source's transforms and what labels on ``topic`` mean."""
        if self._writer is None:
            self._writer = BagWriter(self._out, overwrite=True)
            copy_transforms(self._source, self._writer)
            self._writer.write_labels_meaning(topic, label_set, frame, stamp_ns)
        return self._writer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


class BagSink(RecordingSink):
    """An .mcap with ``/segmentation``, its label info and legend, and the recording's transforms."""

    _encoder: LabelledCloudEncoder | None = None

    def write(self, name: str, cloud: PointCloud, result: SegmentationResult) -> None:
        """Add one labelled cloud at the bag stamp that ``name`` holds."""
        stamp_ns = int(name)
        if self._encoder is None:
            self._encoder = LabelledCloudEncoder(result.label_set)
        message = self._encoder.encode(cloud, result.labels, result.confidence, result.instance)
        self.begun(TOPIC, result.label_set, cloud.frame, stamp_ns).write_cloud(TOPIC, message, stamp_ns)

    def __enter__(self) -> BagSink:
        return self


def copy_transforms(source: Source, writer: BagWriter) -> None:
    """Copy /tf and /tf_static of a recording."""
    with BagReader(source.path) as reader:
        names = [n for n in _TRANSFORMS if n in reader.topics]
        try:
            for topic, stamp_ns, raw in reader.messages(names) if names else ():
                writer.copy(topic, stamp_ns, raw)
        except BagTruncated:
            pass  # the clouds break off at the same place and say so
