# SPDX-License-Identifier: Apache-2.0
"""Time per model call of our MPPI and iCEM beside pytorch-mppi and pytorch-icem, on the very same stepwise dynamics."""

import time
from typing import Any

import numpy as np
import torch
from _episodes import BASELINES, population, preset_of, robot_of, task_of
from _planners_baselines import BaselinePlanner

from mbrl_core.specs import Array
from mbrl_core.tasks import Task
from mbrl_planner.planner import Objective
from mbrl_planner.registry import make_planner

ROBOT, HORIZON, ITERATIONS = "cartpole", 25, 2
ROUNDS, PLANS = 12, 4  # of each planner and budget, in turn with the others
PAIRS = {"mppi": "pytorch_mppi", "icem": "pytorch_icem"}
# A cart-pole near its hanging rest, one control period: as cheap as dynamics in torch can be, so that the planners'
# own work shows.
TRANSITION = torch.tensor(
    [[1.0, 0.0, 0.04, 0.0], [0.0, 0.99, 0.0, 0.04], [0.0, 0.06, 0.99, 0.0], [0.0, -0.7, 0.02, 0.97]]
).T.contiguous()
EFFECT = torch.tensor([[0.01, 0.02, 0.2, 0.4]])


class CheapDynamics:
    """Linear dynamics; counts the states that it steps."""

    def __init__(self) -> None:
        self.calls = 0

    def step(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Next states [K, 4] of states [K, 4] under actions [K, 1]."""
        self.calls += len(states)
        return torch.addmm(actions * EFFECT, states, TRANSITION)


class StepwiseObjective(Objective):
    """Returns of action sequences through a stepwise function, as the other planners roll it out themselves."""

    def __init__(self, dynamics: CheapDynamics, task: Task) -> None:
        self.dynamics, self.task = dynamics, task

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        count, horizon, _ = actions.shape
        states = torch.empty(horizon + 1, count, len(state))
        states[0] = torch.as_tensor(state, dtype=torch.float32)
        for index in range(horizon):
            states[index + 1] = self.dynamics.step(states[index], actions[:, index])
        rewards: torch.Tensor = self.task.reward(states[:-1], actions.transpose(0, 1), states[1:])
        return rewards.sum(dim=0)

    def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
        raise NotImplementedError("nothing here asks for predictions")


def time_per_call(budgets: list[int]) -> list[dict[str, Any]]:
    """Rows with the median microseconds a model call of each planner at each budget."""
    torch.set_num_threads(1)
    rows = []
    for budget in budgets:
        planners = {kind: _planner(kind, budget) for pair in PAIRS.items() for kind in pair}
        samples: dict[str, list[float]] = {kind: [] for kind in planners}
        state, step = np.array([0.0, 0.1, 0.0, 0.0]), 0
        for index in range(ROUNDS + 1):
            for kind, (planner, dynamics) in planners.items():
                calls, started = dynamics.calls, time.perf_counter()
                for repeat in range(PLANS):
                    planner.plan(state, step_key=(1, step + repeat))
                if index > 0:  # the first one warms up
                    samples[kind].append((time.perf_counter() - started) / (dynamics.calls - calls))
            step += PLANS
        for kind, values in samples.items():
            rows.append({"planner": kind, "budget": budget, "us_per_call": 1e6 * float(np.median(values))})
    return rows


def _planner(kind: str, budget: int) -> tuple[Any, CheapDynamics]:
    dynamics, spec, task = CheapDynamics(), robot_of(ROBOT).spec, task_of(ROBOT, 0)
    values = {**preset_of(kind), "horizon": HORIZON, "iterations": ITERATIONS}
    values = population(kind, values, budget // HORIZON)
    if kind in BASELINES:
        return BaselinePlanner(kind, values, spec, dynamics.step, task, 0), dynamics
    return make_planner(values, spec, StepwiseObjective(dynamics, task), 0), dynamics
