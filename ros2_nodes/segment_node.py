# SPDX-License-Identifier: Apache-2.0
"""Lifecycle node that labels the points of a live sensor: `points` in, `segmentation` out."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

# OpenMP reads this when torch is loaded, which the first configure does: idle threads then sleep
# instead of taking the cores that drivers and other nodes need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from pc_perception.inference.memory import keep_freed_memory

from . import parameters
from .conversions import status_message
from .qos import SubscriptionEventCallbacks, sensor_qos
from .runtime import ERROR, OK, Report, limit_threads, run_node

if TYPE_CHECKING:
    from .labelling import Labeller

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class SegmentNode(LifecycleNode):
    """Configure loads and warms up the model, activate subscribes; docs/ros2.md has the interface."""

    def __init__(self, **node_arguments: Any) -> None:
        """Declare the parameters; with `autostart` the first spin configures and activates.

        Raises:
            ValueError: a parameter that was given is wrong.
        """
        super().__init__("segment_node", **node_arguments)
        self._values: dict[str, Any] = {}
        parameters.declare(self, parameters.SEGMENT_NODE, self._apply)
        self._values = parameters.read(self, parameters.SEGMENT_NODE)
        self._problem = "waiting for configure"
        self._labeller: Labeller | None = None
        self._subscription: Any = None
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady timers: with use_sim_time and no clock yet, others would never fire.
        self.create_timer(self._values["diagnostics_period_s"], self._diagnose, clock=STEADY)
        self.create_service(Trigger, "~/reload", self._reload)
        if self._values["autostart"]:
            self._starter = self.create_timer(0.0, self._autostart, clock=STEADY)

    def _autostart(self) -> None:
        self._starter.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _apply(self) -> None:
        """Take over parameters that were changed at run time."""
        self._values = parameters.read(self, parameters.SEGMENT_NODE)
        if self._labeller is not None:
            self._labeller.apply(self._values)

    # Life cycle. rclpy swallows what these raise, so every reason is logged here.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, make the publishers; FAILURE with the reason where that fails."""
        started = time.monotonic()
        try:
            limit_threads(self._values["threads"])  # before anything that imports torch
            keep_freed_memory()
            from .labelling import Labeller

            self._labeller = Labeller(self, self._values)
        except Exception as error:
            self._problem = f"cannot configure: {error}"
            self.get_logger().error(self._problem)
            self._release()
            return FAILURE
        model = self._labeller.model
        self.get_logger().info(
            f"model '{self._values['model']}' on {model.device} with {len(model.label_set)} classes, "
            f"ready after {time.monotonic() - started:.1f} s"
        )
        self._problem = "configured, waiting for activate"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        assert self._labeller is not None
        done = super().on_activate(state)
        try:
            self._labeller.start()
            self._subscription = self._subscribe(self._labeller.take)
        except Exception as error:
            self._problem = f"cannot activate: {error}"
            self.get_logger().error(self._problem)
            self._stop()
            super().on_deactivate(state)
            return FAILURE
        self.get_logger().info(f"labelling '{self._subscription.topic_name}'")
        self._problem = ""
        return done

    def _subscribe(self, take: Callable[[PointCloud2], None]) -> Any:
        return self.create_subscription(
            PointCloud2,
            "points",
            take,
            sensor_qos(depth=1),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_publisher),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop the subscription and finish the sweep at hand."""
        self._stop()
        self._problem = "deactivated, waiting for activate"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
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
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._labeller is not None:
            self._labeller.stop()

    def _release(self) -> None:
        if self._labeller is not None:
            self._labeller.close()
            self._labeller = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def destroy_node(self) -> None:
        """Stop the worker before the handles go."""
        self._stop()
        super().destroy_node()

    def _reload(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Read the model file again; sweeps go on with the old model meanwhile, and if that fails."""
        if self._labeller is None:
            response.message = "the node is not configured: configure reads the model file"
            return response
        try:
            self._labeller.load()
        except Exception as error:
            response.message = f"the old model stays: {error}"
            self.get_logger().error(f"reload failed, {response.message}")
            return response
        response.success, response.message = True, f"model '{self._values['model']}' was read again"
        self.get_logger().info(response.message)
        return response

    # What the node says about itself.

    def _on_incompatible_publisher(self, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        topic = self.resolve_topic_name("points")
        self.get_logger().warning(
            f"a publisher of '{topic}' offers a QoS that does not fit ({policy}), so nothing comes from it: "
            f"set the parameter qos_overrides.{topic}.subscription.{policy.lower()} to what it offers"
        )

    def _diagnose(self) -> None:
        if self._labeller is not None and not self._problem:
            reports = self._labeller.reports()
        else:
            level = ERROR if self._problem.startswith("cannot") else OK
            reports = {"labelling": Report(level, self._problem, {})}
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [
            status_message(f"{self.get_name()}: {name}", self._values["model"], *report)
            for name, report in reports.items()
        ]
        self._diagnostics.publish(message)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node("segment_node", SegmentNode, args)


if __name__ == "__main__":
    main()
