# SPDX-License-Identifier: Apache-2.0
"""Managed nodes that start themselves unless told otherwise."""

from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from mbrl_core.config import ConfigurationError
from mbrl_ros.steady import steady_timer


class ManagedNode(LifecycleNode):
    """A lifecycle node with a parameter `autostart` (default true): it configures and activates itself once spun.

    Subclasses override the `on_*` callbacks and call super() in on_activate and on_deactivate.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        override = self._parameter_overrides.get("autostart")
        if override is not None and override.type_ != Parameter.Type.BOOL:
            raise ConfigurationError(f"parameter 'autostart': got {override.value!r}, expected bool")
        autostart = bool(self.declare_parameter("autostart", True).value)
        self._start_timer = steady_timer(self, 0.0, self._start) if autostart else None

    def _start(self) -> None:
        assert self._start_timer is not None
        self._start_timer.cancel()
        self.destroy_timer(self._start_timer)
        self._start_timer = None
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                self.get_logger().error(f"{self.get_name()} did not start; set it right and use `ros2 lifecycle`")
                return

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Nothing to do unless a subclass has something."""
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Nothing to do unless a subclass has something."""
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Nothing to do unless a subclass has something."""
        return TransitionCallbackReturn.SUCCESS
