# SPDX-License-Identifier: Apache-2.0
"""Two plans for the same step: which bits differ, and what each is expected to return."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mbrl_bringup.replay_decision import Decision
from mbrl_core.messages import Plan
from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import Array
from mbrl_planner.controller import Reply, cut_plan
from mbrl_planner.nodes.settings import PlannerSettings
from mbrl_planner.objective import ModelObjective

COMPARED = ("actions", "predicted_states", "predicted_std", "gains", "predicted_return")


def published(reply: Reply, settings: PlannerSettings) -> Plan:
    """The plan as the node publishes it."""
    rows = settings.node.plan_rows
    return cut_plan(reply.plan, 0, rows) if rows else reply.plan


@dataclass(frozen=True)
class Difference:
    """Of one part of two plans: whether all bits agree, and the largest absolute difference (NaN: not comparable)."""

    name: str
    same_bits: bool
    largest: float


def differences(first: Plan, second: Plan) -> list[Difference]:
    """Part by part; parts that neither has are left out."""
    found = []
    for name in COMPARED:
        one, other = getattr(first, name), getattr(second, name)
        if one is None and other is None:
            continue
        if one is None or other is None or np.shape(one) != np.shape(other):
            found.append(Difference(name, False, float("nan")))
            continue
        one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
        same = one.tobytes() == other.tobytes()
        found.append(Difference(name, same, 0.0 if same else float(np.abs(one - other).max())))
    return found


def expected_returns(objective: ModelObjective, state: Array, plans: Sequence[Plan], seed: int) -> list[float]:
    """Expected return of the actions of each plan from `state` [state_size], over the steps that all of them have,
    with the same random numbers.
    """
    steps = min(len(plan.actions) for plan in plans)
    actions = np.stack([plan.actions[:steps] for plan in plans]).astype(np.float32)
    objective.start(seed)
    with torch.inference_mode():
        return [float(value) for value in objective(state, torch.from_numpy(actions))]


def evaluation_seed(decision: Decision) -> int:
    """Names the random numbers that plans are compared by."""
    message = decision.recorded.message
    return stream_seed(decision.settings.node.seed, message.episode, message.start_step, "replay")
