# SPDX-License-Identifier: Apache-2.0
"""Write recordings as mcap, with no ROS installed: what ROS 2, Foxglove and RViz read."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation_to_quaternion
from pc_perception.io import label_messages
from pc_perception.io.bag_sources import Topic
from pc_perception.io.image_messages import fill_camera_info, fill_image
from pc_perception.io.label_messages import set_header
from pc_perception.io.mcap_writer import McapChannel, McapWriter
from pc_perception.io.message_encoding import CloudMessage, encode_cloud
from pc_perception.io.message_types import CLOUD, cloud_message, new_message, typestore
from pc_perception.labels import LabelSet

_FOREVER = {"sec": 9223372036, "nsec": 854775807}


def _qos(latched: bool, depth: int) -> list[dict[str, Any]]:
    """Return the offered QoS as rosbag2's metadata of version 9 spells it."""
    return [
        {
            "history": "keep_last",
            "depth": depth,
            "reliability": "reliable",
            "durability": "transient_local" if latched else "volatile",
            "deadline": dict(_FOREVER),
            "lifespan": dict(_FOREVER),
            "liveliness": "automatic",
            "liveliness_lease_duration": dict(_FOREVER),
            "avoid_ros_namespace_conventions": False,
        }
    ]


class BagWriter:
    """Write a recording; a context manager.

    A path ending in ``.mcap`` becomes that one file (opens in Foxglove, plays with ``ros2 bag play``);
    any other a rosbag2 folder with ``metadata.yaml``. Data goes to the disk chunk by chunk, so that after
    a crash everything but the last half second is there; after an exception the file is complete.

    Args:
        path: where to write.
        overwrite: replace what is there; only a file or folder of this form is ever removed.

    Raises:
        FileExistsError: the path exists and ``overwrite`` is False.
    """

    def __init__(self, path: str | Path, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._is_folder = self.path.suffix != ".mcap"
        self._file = self.path / f"{self.path.name}_0.mcap" if self._is_folder else self.path
        if self.path.exists() and not overwrite:
            raise FileExistsError(f"'{self.path}' exists already; choose another name or remove it")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        for old in (self._file, self.path / "metadata.yaml"):
            if old.is_file():
                old.unlink()
        self._writer = McapWriter(self._file)
        self._store = typestore()
        self._channels: dict[str, int] = {}
        self._topics: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Complete the file; writing afterwards is an error."""
        self._writer.close()
        if self._is_folder:
            text = yaml.safe_dump(self._metadata(), sort_keys=False)
            (self.path / "metadata.yaml").write_text(text, encoding="utf-8")

    def write(self, topic: str, msgtype: str, msg: Any, stamp_ns: int, latched: bool = False) -> None:
        """Write a message object with the attributes of ``msgtype`` (``message_types.new_message``)."""
        channel = self._channel(topic, msgtype, latched)
        self._writer.write(channel, int(stamp_ns), self._store.serialize_cdr(msg, msgtype))

    def write_cloud(self, topic: str, cloud: PointCloud | CloudMessage, stamp_ns: int | None = None) -> None:
        """Write a cloud as PointCloud2; its bag stamp is the cloud's own unless given."""
        values = encode_cloud(cloud) if isinstance(cloud, PointCloud) else cloud
        header_ns = values.header.stamp.sec * 10**9 + values.header.stamp.nanosec
        self.write(topic, CLOUD, cloud_message(values), header_ns if stamp_ns is None else stamp_ns)

    def write_transform(
        self, parent: str, child: str, T_parent_child: NDArray, stamp_ns: int, static: bool = False
    ) -> None:
        """Write one (4, 4) transform to /tf, or to /tf_static, latched."""
        item = new_message("geometry_msgs/msg/TransformStamped")
        set_header(item, parent, stamp_ns)
        item.child_frame_id = child
        t, q = item.transform.translation, item.transform.rotation
        t.x, t.y, t.z = (float(v) for v in T_parent_child[:3, 3])
        q.x, q.y, q.z, q.w = (float(v) for v in rotation_to_quaternion(T_parent_child[:3, :3]))
        msg = new_message("tf2_msgs/msg/TFMessage")
        msg.transforms = [item]
        self.write("/tf_static" if static else "/tf", "tf2_msgs/msg/TFMessage", msg, stamp_ns, static)

    def write_labels_meaning(
        self, topic: str, label_set: LabelSet, frame: str, stamp_ns: int, text_height: float = 0.8
    ) -> None:
        """Write ``topic``/label_info (LabelInfo) and ``topic``/legend (text markers), both latched."""
        info = label_messages.label_info(label_set, frame, stamp_ns, new_message)
        self.write(f"{topic}/label_info", label_messages.LABEL_INFO, info, stamp_ns, latched=True)
        markers = label_messages.legend(label_set, frame, stamp_ns, new_message, text_height)
        self.write(f"{topic}/legend", label_messages.LEGEND, markers, stamp_ns, latched=True)

    def write_image(self, topic: str, image: NDArray, frame: str, stamp_ns: int) -> None:
        """Write (H, W, 3) uint8 rgb, (H, W) uint16 millimetres, or (H, W) float32 metres of depth."""
        msg = fill_image(new_message("sensor_msgs/msg/Image"), image, frame, stamp_ns)
        self.write(topic, "sensor_msgs/msg/Image", msg, stamp_ns)

    def write_compressed_image(
        self, topic: str, data: bytes, frame: str, stamp_ns: int, picture_format: str = "jpeg"
    ) -> None:
        """Write an encoded picture (``jpeg`` or ``png``) as CompressedImage."""
        msg = new_message("sensor_msgs/msg/CompressedImage")
        set_header(msg, frame, stamp_ns)
        msg.format, msg.data = picture_format, np.frombuffer(data, np.uint8)
        self.write(topic, "sensor_msgs/msg/CompressedImage", msg, stamp_ns)

    def write_camera_info(
        self, topic: str, K: NDArray, width: int, height: int, frame: str, stamp_ns: int
    ) -> None:
        """Write the CameraInfo of an undistorted pinhole camera with (3, 3) intrinsics in pixels."""
        msg = new_message("sensor_msgs/msg/CameraInfo")
        fill_camera_info(msg, K, width, height, frame, stamp_ns)
        self.write(topic, "sensor_msgs/msg/CameraInfo", msg, stamp_ns)

    def copy(self, topic: Topic, stamp_ns: int, raw: bytes) -> None:
        """Write a serialised ROS 2 message of another bag unchanged, whatever its type.

        Raises:
            ValueError: the bag it is from does not say how the type is defined.
        """
        if topic.name not in self._channels:
            definition, encoding = topic.definition, topic.encoding
            if not definition:
                if topic.msgtype not in self._store.fielddefs:
                    raise ValueError(
                        f"'{topic.name}' cannot be copied: {topic.msgtype} is not defined in the bag"
                    )
                definition, encoding = self._store.generate_msgdef(topic.msgtype, ros_version=2)[0], "ros2msg"
            latched = topic.latched or topic.name == "/tf_static"
            self._announce(topic.name, topic.msgtype, definition, encoding, latched, "")
        self._writer.write(self._channels[topic.name], int(stamp_ns), raw)

    def _channel(self, topic: str, msgtype: str, latched: bool) -> int:
        if topic not in self._channels:
            definition, _ = self._store.generate_msgdef(msgtype, ros_version=2)
            digest = self._store.hash_rihs01(msgtype)
            self._announce(topic, msgtype, definition, "ros2msg", latched, digest)
        elif self._topics[topic]["type"] != msgtype:
            raise ValueError(f"topic '{topic}' is a {self._topics[topic]['type']}, not a {msgtype}")
        return self._channels[topic]

    def _announce(
        self, topic: str, msgtype: str, definition: str, encoding: str, latched: bool, digest: str
    ) -> None:
        qos = _qos(latched, depth=100 if topic == "/tf" else 1 if latched else 10)
        text = yaml.safe_dump(qos, sort_keys=False)
        metadata = {"offered_qos_profiles": text, "topic_type_hash": digest}
        channel = McapChannel(topic, msgtype, definition, encoding, metadata)
        self._channels[topic] = self._writer.add_channel(channel)
        self._topics[topic] = {
            "name": topic,
            "type": msgtype,
            "serialization_format": "cdr",
            "offered_qos_profiles": qos,
            "type_description_hash": digest,
        }

    def _metadata(self) -> dict[str, Any]:
        writer = self._writer
        count = sum(writer.counts)
        start = writer.start if count else 0
        span = {
            "duration": {"nanoseconds": max(writer.end - start, 0)},
            "starting_time": {"nanoseconds_since_epoch": start},
            "message_count": count,
        }
        topics = [
            {"topic_metadata": meta, "message_count": writer.counts[self._channels[name]]}
            for name, meta in self._topics.items()
        ]
        information = {
            "version": 9,
            "storage_identifier": "mcap",
            **span,
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._file.name],
            "files": [{"path": self._file.name, **span}],
            "custom_data": None,
            "ros_distro": "jazzy",
        }
        return {"rosbag2_bagfile_information": information}
