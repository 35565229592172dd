# SPDX-License-Identifier: Apache-2.0
"""What all lifecycle nodes of this package have in common."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

# OpenMP reads this when torch is loaded, which the first configure does: idle threads then sleep
# instead of taking the cores that drivers and other nodes need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from pc_perception import kernel_cache
from pc_perception.inference.memory import give_back_memory, keep_freed_memory

from . import parameters
from .cloud_input import CloudInput
from .conversions import status_message, type_name
from .datagrams import n_dropped
from .qos import LATCHED, SubscriptionEventCallbacks, sensor_qos
from .runtime import ERROR, OK, WARN, Report, Words, interrupts, limit_threads

if TYPE_CHECKING:
    from pc_perception.inference.live import LiveWorker

    from .calibrations import Trust

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class PerceptionNode(LifecycleNode):
    """Configure makes the worker, activate subscribes; docs/ros2.md has the interface.

    A subclass sets the attributes and implements ``make_worker`` and ``subscribe``.

    Attributes:
        default_name: of the node.
        table: its parameters, ``parameter_groups.LIFE_CYCLE`` among them.
        words: what its inputs and its work are called in diagnostics.
    """

    default_name: ClassVar[str]
    table: ClassVar[Sequence[parameters.Parameter]]
    words: ClassVar[Words] = Words()

    def __init__(self, **node_arguments: Any) -> None:
        """Declare the parameters; with `autostart` the first spin configures and activates.

        Raises:
            ValueError: a parameter that was given is wrong.
        """
        super().__init__(self.default_name, **node_arguments)
        self.values: dict[str, Any] = {}
        parameters.declare(self, self.table, self._apply)
        self.values = parameters.read(self, self.table)
        self._problem = "waiting for configure"
        self._worker: LiveWorker[Any] | None = None
        self._inputs: list[Any] = []
        self._optional: list[Any] = []
        self._clouds: CloudInput | None = None
        self._heard: Counter[str] = Counter()
        self._dropped = 0
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady timers: with use_sim_time and no clock yet, others would never fire.
        self.create_timer(self.values["diagnostics_period_s"], self._diagnose, clock=STEADY)
        self.create_service(Trigger, "~/reload", self._reload)
        if self.values["autostart"]:
            self._starter = self.create_timer(0.0, self._autostart, clock=STEADY)

    def make_worker(self) -> LiveWorker[Any]:
        """Return the work of this node for its ``values``; import what needs torch in here.

        Raises:
            Exception: whatever it cannot do without; the reason is told and configure fails.
        """
        raise NotImplementedError

    def subscribe(self, worker: Any) -> None:
        """Subscribe to the inputs with ``listen``; their callbacks hand them to ``worker``."""
        raise NotImplementedError

    def listen(
        self, kind: type, topic: str, callback: Callable[[Any], None], depth: int = 1, raw: bool = False
    ) -> Any:
        """Subscribe at sensor QoS, or reliably with `reliable`, until the node is deactivated.

        ``raw`` gives serialised bytes.

        A publisher with another QoS is named in a warning; an input without messages or with two publishers is
        named on /diagnostics.
        """
        name = self.resolve_topic_name(topic)

        def heard(msg: Any) -> None:
            self._heard[name] += 1
            callback(msg)

        subscription = self.create_subscription(
            kind,
            topic,
            heard,
            sensor_qos(depth, self.values["reliable"]),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=partial(self._on_incompatible, topic)
            ),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            raw=raw,
        )
        self._inputs.append(subscription)
        return subscription

    def ignore(self, subscription: Any) -> None:
        """Drop what ``listen`` returned."""
        self._inputs.remove(subscription)
        self.destroy_subscription(subscription)

    def listen_to_clouds(self, callback: Callable[[PointCloud2], None]) -> None:
        """Subscribe to `points` as ``listen`` does; Livox's own message is taken as well."""
        self._clouds = CloudInput(self, callback)

    def watch_calibration(self, trust: Trust, camera: str, topic: str) -> None:
        """Let ``trust`` know what calibrate_node says about a camera; it may never say anything."""

        def note(status: DiagnosticStatus) -> None:
            trust.note_status(camera, status.level[0] == OK, status.message)

        self._optional.append(self.create_subscription(DiagnosticStatus, topic, note, LATCHED))

    def _autostart(self) -> None:
        self._starter.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _apply(self) -> None:
        """Take over parameters that were changed at run time."""
        self.values = parameters.read(self, self.table)
        if self._worker is not None:
            self._worker.apply(self.values)

    # Life cycle. rclpy swallows what these raise, so every reason is logged here.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Make the worker with all it needs; FAILURE with the reason where that fails."""
        started = time.monotonic()
        try:
            limit_threads(self.values.get("threads", 0))  # before anything that imports torch
            keep_freed_memory()
            with kernel_cache.telling(self.get_logger().info):
                self._worker = self.make_worker()
        except Exception as error:
            if interrupts:  # a compilation that was cut short, for one
                raise KeyboardInterrupt from error
            self._problem = f"cannot configure: {error}"
            self.get_logger().error(self._problem)
            self._release()
            return FAILURE
        self.get_logger().info(f"{self._worker.describe()}, ready after {time.monotonic() - started:.1f} s")
        self._problem = "configured, waiting for activate"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        assert self._worker is not None
        done = super().on_activate(state)
        try:
            self._worker.start()
            self.subscribe(self._worker)
        except Exception as error:
            self._problem = f"cannot activate: {error}"
            self.get_logger().error(self._problem)
            self._stop()
            super().on_deactivate(state)
            return FAILURE
        topics = ", ".join(f"'{s.topic_name}'" for s in self._inputs)
        self.get_logger().info(f"{self.words.doing} {topics}")
        self._problem = ""
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop the subscriptions and finish what is at hand."""
        self._stop()
        self._problem = "deactivated, waiting for activate"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the worker and its publishers."""
        self._release()
        self._problem = "waiting for configure"
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._stop()
        self._release()
        self._problem = "shut down"
        return super().on_shutdown(state)

    def _stop(self) -> None:
        for subscription in (*self._inputs, *self._optional):
            self.destroy_subscription(subscription)
        self._inputs, self._optional, self._clouds = [], [], None
        self._heard.clear()
        if self._worker is not None:
            self._worker.stop()

    def _release(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def destroy_node(self) -> None:
        """Stop the worker before the handles go."""
        self._stop()
        super().destroy_node()

    def _reload(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Read the node's file again; work goes on with the old one meanwhile, and if that fails."""
        if self._worker is None:
            response.message = "the node is not configured: configure reads its file"
            return response
        try:
            self._worker.load()
        except Exception as error:
            response.message = f"the old {self._worker.reads} stays: {error}"
            self.get_logger().error(f"reload failed, {response.message}")
            return response
        finally:
            give_back_memory()
        response.success, response.message = True, f"read again: {self._worker.describe()}"
        self.get_logger().info(response.message)
        return response

    # What the node says about itself.

    def _on_incompatible(self, name: str, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        topic = self.resolve_topic_name(name)
        self.get_logger().warning(
            f"a publisher of '{topic}' offers a QoS that does not fit ({policy}), so nothing comes from it: "
            f"set the parameter qos_overrides.{topic}.subscription.{policy.lower()} to what it offers"
        )

    def _diagnose(self) -> None:
        if self._worker is not None and not self._problem:
            reports = {**self._worker.reports(), "inputs": self._input_report()}
        else:
            level = ERROR if self._problem.startswith("cannot") else OK
            reports = {self.words.doing: Report(level, self._problem, {})}
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        hardware = self.values.get("model", "")
        message.status = [
            status_message(f"{self.get_name()}: {name}", hardware, *report)
            for name, report in reports.items()
        ]
        self._diagnostics.publish(message)

    def _input_report(self) -> Report:
        """Warn about inputs with several publishers, whose sensors would mix, of another type, silent and lost ones."""
        values: dict[str, object] = {}
        told: list[str] = []
        missing = self._clouds.follow_publisher() if self._clouds is not None else {}
        for subscription in self._inputs:
            name, kind = subscription.topic_name, type_name(subscription.msg_type)
            types = [p.topic_type for p in self.get_publishers_info_by_topic(name)]
            values[name] = f"{self._heard[name]} messages, {len(types)} publisher(s)"
            if len(types) > 1:
                told.append(f"{len(types)} publishers on '{name}': remap one of them")
            elif types and types[0] != kind:
                told.append(missing.get(name, f"'{name}' is a {types[0]}, not a {kind}"))
            elif not self._heard[name]:
                told.append(f"nothing on '{name}' yet, which has {len(types)} publisher(s)")
        before, self._dropped = self._dropped, n_dropped()
        values["dropped_datagrams"] = self._dropped
        if self._dropped > before and not self.values["reliable"]:
            told.append(
                f"{self._dropped - before} datagrams found the receive buffer full, which loses messages: raise "
                "net.core.rmem_max and SocketReceiveBufferSize (docs/deployment.md)"
            )
        return Report(WARN if told else OK, "; ".join(told) or "every input arrives", values)
