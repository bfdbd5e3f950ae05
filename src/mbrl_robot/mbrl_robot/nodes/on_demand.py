# SPDX-License-Identifier: Apache-2.0
"""A subscription that is looked at when its message is needed."""

from typing import Any

from rclpy.callback_groups import CallbackGroup


class OnDemand(CallbackGroup):
    """Keeps a subscription out of the executor: the middleware holds the newest message until somebody takes it.

    To wake up for every message where some are needed now and then would be most of what a small process costs.
    """

    def can_execute(self, entity: Any) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing has begun."""
