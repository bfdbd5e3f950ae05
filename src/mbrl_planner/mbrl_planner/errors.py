# SPDX-License-Identifier: Apache-2.0
"""What keeps a planner from answering."""


class PlanningError(RuntimeError):
    """No candidate has a finite return: the model predicts non-finite states, or the reward is not finite there."""


class OutOfTime(PlanningError):
    """The deadline came before there was anything to answer."""
