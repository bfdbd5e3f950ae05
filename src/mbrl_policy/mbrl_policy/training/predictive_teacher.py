# SPDX-License-Identifier: Apache-2.0
"""Planners that trainers ask, in process, and model predictive control by one as a teacher."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mbrl_core.messages import Plan, TimeStep
from mbrl_core.specs import ActionSpec, Array, RobotSpec
from mbrl_core.tasks import Task
from mbrl_core.trial import Controller
from mbrl_dynamics.model import DynamicsModel
from mbrl_planner.controller import PredictiveController
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import Objective, Planner, PlannerConfig
from mbrl_planner.registry import build_planner, configure_planner
from mbrl_policy.training.rollouts import TrainingRobot


def planning_objective(model: DynamicsModel, task: Task, config: PlannerConfig) -> ModelObjective:
    """What a planner of `config` maximises through `model`. Raises ConfigurationError."""
    return ModelObjective(
        model, task, config.particles, config.propagation, config, config.precision, config.device
    )  # fmt: skip


def planner_of(
    settings: Mapping[str, Any], spec: RobotSpec, model: DynamicsModel | None, task: Task, seed: int,
    objective: Objective | None = None,
) -> Planner:  # fmt: skip
    """The planner of a planner group, through `objective` where there is one, else through `model`.

    It says what should act in the state that it is asked in: who executes its actions sees to the robot's delay.
    Raises ConfigurationError on settings that do not fit, and where there is neither.
    """
    kind, config = configure_planner(settings)
    if objective is None:
        assert model is not None
        objective = planning_objective(model, task, config)
    return build_planner(kind, config, replace(spec, delay=0.0), objective, seed)


def predictive_control(
    planner: Mapping[str, Any], model: DynamicsModel, robot: TrainingRobot, reserve: float, seed: int
) -> Controller:
    """A planner of these settings that plans through `model` at every step, within limits less `reserve` of the range.

    Raises ConfigurationError on settings that are none.
    """
    spec = replace(robot.spec, action=narrowed(robot.spec.action, reserve))
    controller = PredictiveController(planner_of(planner, spec, model, robot.task, seed))
    return lambda time_step: controller.answer(time_step).plan


def narrowed(action: ActionSpec, reserve: float) -> ActionSpec:
    """Limits that leave the share `reserve` of the range free, half of it at either end."""
    lower, upper = np.array(action.lower), np.array(action.upper)
    kept = 0.5 * reserve * (upper - lower)
    return replace(action, lower=tuple(lower + kept), upper=tuple(upper - kept))


def with_noise(controller: Controller, noise: Array, check: Callable[[], None]) -> Controller:
    """The controller's plans plus noise [T, m], each row that of its step; `check` may raise before each. There is none
    from step T on: in real time one is asked about steps that the episode does not have any more.

    It is told that all rollouts are the same episode: a planner that draws the same in all of them leaves nothing but
    noise and start for them to differ by, and local models need rollouts that are near each other.
    """

    def answer(time_step: TimeStep) -> Plan:
        check()
        actions = np.array(controller(replace(time_step, episode=1)).actions)
        own = noise[time_step.step : time_step.step + len(actions)]
        actions[: len(own)] += own
        return Plan(actions)

    return answer
