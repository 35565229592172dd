# SPDX-License-Identifier: Apache-2.0
"""ROS 2 topics without ROS: DDS through the ``cyclonedds`` wheel, under the names that ROS 2 gives them.

ROS 2's middleware is DDS with three conventions (known from rmw's sources, no REP states them): topic ``/points``
is ``rt/points``, type ``sensor_msgs/msg/PointCloud2`` is ``sensor_msgs::msg::dds_::PointCloud2_``, and a
message is plain CDR of version 1. A peer that keeps them is seen by ``ros2 topic list``, ``echo`` and RViz.

The wheel's own (de)serialisation walks a sequence byte by byte: 28-236 ms for one cloud. Messages cross
this module as the bytes they are on the wire; rosbags' CDR reads and writes them in under half a
millisecond, since a cloud's data are one view there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from pc_perception.io.message_types import typestore

BEST_EFFORT, RELIABLE, LATCHED = "best_effort", "reliable", "latched"
"""Quality of service as ROS 2 names it; ``LATCHED`` is reliable and transient local."""

_SETTINGS = (
    "<CycloneDDS><Domain><General><MaxMessageSize>65500B</MaxMessageSize></General>"
    "<Internal><SocketReceiveBufferSize max='16MB'/></Internal></Domain></CycloneDDS>"
)
"""Large datagrams, as Fast DDS sends by default: a cloud costs a tenth of the system calls. And a receive
buffer for several clouds, as far as net.core.rmem_max allows. CYCLONEDDS_URI has the last word."""
_NS_PER_S = 10**9


class Endpoint(NamedTuple):
    """A publisher somewhere in the domain: ROS 2 topic and message type."""

    topic: str
    msgtype: str


def dds_topic(topic: str) -> str:
    """Return DDS's name of an absolute ROS 2 topic.

    Raises:
        ValueError: the name is not absolute or has characters that ROS 2 does not allow.
    """
    if not topic.startswith("/") or not topic.replace("/", "").replace("_", "").isalnum():
        raise ValueError(f"'{topic}' is not a ROS 2 topic's full name, such as /points or /robot/points")
    return f"rt{topic}"


def dds_type(msgtype: str) -> str:
    """Return DDS's name of a ROS 2 message type such as ``sensor_msgs/msg/PointCloud2``."""
    package, _, name = msgtype.rpartition("/")
    return f"{package.replace('/', '::')}::dds_::{name}_"


def _ros_name(topic: str, type_name: str) -> Endpoint | None:
    package, found, name = type_name.partition("::dds_::")
    if not topic.startswith("rt/") or not found:
        return None
    return Endpoint(topic.removeprefix("rt"), f"{package.replace('::', '/')}/{name.removesuffix('_')}")


@cache
def sample_type(msgtype: str) -> Any:
    """Return the class that ``cyclonedds`` wants for a type; its instances hold bytes in ``cdr``.

    The members serve DDS's description of the type alone: the wheel's codec is replaced by one that takes
    the bytes as they are on the wire, their four bytes of CDR header included.
    """
    made = _idl.__wrapped__(msgtype)

    def of(cls: Any, cdr: bytes, *_: Any, **__: Any) -> Any:
        sample = cls.__new__(cls)
        sample.cdr = cdr
        return sample

    made.serialize = lambda sample, *_, **__: sample.cdr
    made.of = made.deserialize = classmethod(of)
    return made


@cache
def _idl(msgtype: str) -> Any:
    from cyclonedds.idl import make_idl_struct

    _, fields = typestore().fielddefs[msgtype]
    members = {name: _idl_member(kind) for name, kind in fields}
    return make_idl_struct(msgtype.rpartition("/")[2], dds_type(msgtype), members)


def _idl_member(kind: Any) -> Any:
    from cyclonedds.idl import types
    from rosbags.interfaces import Nodetype

    node, detail = kind
    if node == Nodetype.NAME:
        return _idl(detail)
    if node == Nodetype.BASE:
        plain = {"string": str, "bool": bool, "byte": types.uint8, "char": types.uint8}
        return plain.get(detail[0]) or getattr(types, detail[0])
    inner, length = detail
    if node == Nodetype.ARRAY:
        return types.array[_idl_member(inner), length]  # type: ignore[misc]
    return types.sequence[_idl_member(inner)]  # type: ignore[misc]


def _qos(kind: str, depth: int, msgtype: str) -> Any:
    from cyclonedds.qos import Policy, Qos

    reliable = kind != BEST_EFFORT
    type_hash = typestore().hash_rihs01(msgtype)  # ROS 2's rmw looks for it and warns without
    return Qos(
        Policy.Userdata(f"typehash={type_hash};".encode()),
        Policy.Reliability.Reliable(_NS_PER_S // 10) if reliable else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if kind == LATCHED else Policy.Durability.Volatile,
        Policy.History.KeepLast(depth),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    )


class Publisher:
    """Send messages of one type to one topic."""

    def __init__(self, participant: Any, topic: str, msgtype: str, qos: str, depth: int) -> None:
        from cyclonedds.pub import DataWriter
        from cyclonedds.topic import Topic

        self.topic, self._msgtype, self._type = topic, msgtype, sample_type(msgtype)
        dds = Topic(participant, dds_topic(topic), self._type)
        self._writer = DataWriter(participant, dds, qos=_qos(qos, depth, msgtype))

    @property
    def n_subscribers(self) -> int:
        """How many subscribers are matched now."""
        return int(self._writer.get_publication_matched_status().current_count)

    def publish(self, msg: Any) -> None:
        """Send a message object of rosbags' kind (``message_types.new_message``)."""
        self.publish_raw(bytes(typestore().serialize_cdr(msg, self._msgtype)))

    def publish_raw(self, cdr: bytes) -> None:
        """Send serialised bytes."""
        self._writer.write(self._type.of(cdr))


class Subscription:
    """Take messages of one type from one topic."""

    def __init__(
        self, participant: Any, topic: str, msgtype: str, take: Callable[[bytes], None], qos: str, depth: int
    ) -> None:
        from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState
        from cyclonedds.sub import DataReader
        from cyclonedds.topic import Topic

        self.topic, self.take = topic, take
        dds = Topic(participant, dds_topic(topic), sample_type(msgtype))
        self.reader = DataReader(participant, dds, qos=_qos(qos, depth, msgtype))
        alive = ViewState.Any | InstanceState.Any | SampleState.NotRead
        self.condition = ReadCondition(self.reader, alive)

    @property
    def n_publishers(self) -> int:
        """How many publishers are matched now."""
        return int(self.reader.get_subscription_matched_status().current_count)

    @property
    def n_lost(self) -> int:
        """How many messages DDS knows to have missed: gaps in the publishers' numbering."""
        return int(self.reader.get_sample_lost_status().total_count)

    @property
    def n_incompatible(self) -> int:
        """How many publishers offer less than this subscription asks for, and therefore send it nothing."""
        return int(self.reader.get_requested_incompatible_qos_status().total_count)

    def drain(self) -> None:
        """Hand over what has arrived."""
        for sample in self.reader.take(N=16, condition=self.condition):
            if sample.sample_info.valid_data:  # else news that a publisher has gone
                self.take(sample.cdr)


@cache
def _configure(domain: int) -> Any:
    """Make a domain known to this process, once: its settings then hold for every participant."""
    from cyclonedds.domain import Domain

    return Domain(
        domain, ",".join(part for part in (_SETTINGS, os.environ.get("CYCLONEDDS_URI", "")) if part)
    )


class Participant:
    """One member of a DDS domain, as a ROS 2 node would be; a context manager.

    Args:
        domain: ROS_DOMAIN_ID of the robot.

    The environment's CYCLONEDDS_URI is honoured (interfaces, peers, sizes).

    Raises:
        ImportError: the wheel is not installed.
        ValueError: DDS cannot start, with its reason.
    """

    def __init__(self, domain: int = 0) -> None:
        try:
            from cyclonedds.core import DDSException, WaitSet
            from cyclonedds.domain import DomainParticipant
        except ImportError as error:
            raise ImportError(
                "live topics without ROS need cyclonedds: pip install 'pc_perception[dds]'"
            ) from error
        if not 0 <= domain <= 232:
            raise ValueError(f"a ROS domain lies in 0 .. 232, got {domain}")
        try:
            _configure(domain)
            self._participant = DomainParticipant(domain)
        except DDSException as error:
            raise ValueError(f"DDS does not start in domain {domain}: {error}; see CYCLONEDDS_URI") from error
        self._waitset = WaitSet(self._participant)
        self._subscriptions: list[Subscription] = []
        self._found: Any = None
        self._there: Any = None

    def publisher(self, topic: str, msgtype: str, qos: str = BEST_EFFORT, depth: int = 5) -> Publisher:
        """Offer a topic."""
        return Publisher(self._participant, topic, msgtype, qos, depth)

    def subscribe(
        self,
        topic: str,
        msgtype: str,
        take: Callable[[bytes], None],
        qos: str = BEST_EFFORT,
        depth: int = 5,
    ) -> Subscription:
        """Have ``take`` called by ``spin`` with every message's bytes; decode them with ``decode``.

        Up to ``depth`` messages wait for ``spin``; older ones are replaced without being counted.
        """
        subscription = Subscription(self._participant, topic, msgtype, take, qos, depth)
        self._waitset.attach(subscription.condition)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Take no more of a topic."""
        self._subscriptions.remove(subscription)
        self._waitset.detach(subscription.condition)

    def spin(self, timeout_s: float) -> None:
        """Wait for messages at most so long and hand them over."""
        if self._waitset.wait(int(timeout_s * _NS_PER_S)):
            for subscription in self._subscriptions:
                subscription.drain()

    def publishers(self) -> set[Endpoint]:
        """Return the ROS 2 publishers in the domain that are found and not gone, our own included."""
        from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
        from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState

        if self._found is None:
            self._found = BuiltinDataReader(self._participant, BuiltinTopicDcpsPublication)
            there = ViewState.Any | InstanceState.Alive | SampleState.Any
            self._there = ReadCondition(self._found, there)
        items = self._found.read(N=1000, condition=self._there)
        seen = (_ros_name(item.topic_name, item.type_name) for item in items)
        return {endpoint for endpoint in seen if endpoint is not None}

    def close(self) -> None:
        """Leave the domain."""
        self._subscriptions.clear()
        del self._waitset, self._there, self._found, self._participant

    def __enter__(self) -> Participant:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def decode(cdr: bytes, msgtype: str) -> Any:
    """Return the message object of serialised bytes.

    Raises:
        ValueError: the bytes are not such a message.
    """
    try:
        return typestore().deserialize_cdr(cdr, msgtype)
    except Exception as error:  # rosbags' deserialisers fail in many ways on damaged bytes
        raise ValueError(f"the bytes are not a {msgtype}: {error}") from error
