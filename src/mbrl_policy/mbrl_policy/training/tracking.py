# SPDX-License-Identifier: Apache-2.0
"""The best of what a planner has done, with feedback along it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mbrl_core.config import parameter
from mbrl_core.policies import TimeVaryingLinearPolicy
from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import Array, RobotSpec
from mbrl_dynamics.model import DynamicsModel
from mbrl_planner.errors import PlanningError
from mbrl_planner.expansion import Trajectory, TrajectoryProblem
from mbrl_planner.ilqr import Ilqr, IlqrConfig
from mbrl_planner.objective import ModelObjective
from mbrl_policy.training.algorithm import (
    TRAINERS,
    KeepGoing,
    Progress,
    TrainerConfig,
    TrainingAlgorithm,
    TrainingError,
    TrainingInterrupted,
)
from mbrl_policy.training.feedback import states_spread, tracking_gains
from mbrl_policy.training.predictive_teacher import narrowed
from mbrl_policy.training.rollouts import Rollout, TrainingRobot

COLUMNS = ("states", "wanted", "actions", "rewards")  # of a rollout, in order


@dataclass(frozen=True)
class TrackingConfig(TrainerConfig):
    """Parameters of tracking."""

    iterations: int = parameter(3, "demonstrations that are tried, the best first", minimum=1, maximum=1000)
    improvements: int = parameter(
        30, "steps of iLQR through the model, at most, that make a demonstration better before it is followed",
        minimum=0, maximum=1000,
    )  # fmt: skip
    reserve: float = parameter(
        0.15, "share of the action range that the improved trajectory leaves to the feedback", minimum=0.0, maximum=0.9
    )
    action_weight: float = parameter(
        0.3, "what leaving the demonstration's action by half a range costs, against leaving its state by as much as"
        " the state varies along it",
        minimum=1e-6,
    )  # fmt: skip
    evaluation_rollouts: int = parameter(
        3, "episodes of a trial on the robot, from the same starts every time", minimum=1, maximum=10_000
    )


@TRAINERS.register("tracking", TrackingConfig)
class Tracking(TrainingAlgorithm):
    """Time-varying linear feedback along demonstrations.

    What a planner did on the robot is a trajectory that the robot can follow. Iteration i takes the i-th best episode,
    makes it smoother and better by iLQR through the learned model (`mbrl_planner.ilqr`, which starts there), linearises
    the model along the result, x̂_t and û_t, and solves

        min sum_t (x_t - x̂_t)' Q (x_t - x̂_t) + (u_t - û_t)' R (u_t - û_t),   x_t+1 - x̂_t+1 = A_t (x_t - x̂_t) + ...

    by the Riccati recursion (Anderson and Moore 1990, "Optimal control: linear quadratic methods", chapter 2), with Q
    and R diagonal: the inverse squares of each state's standard deviation along the trajectory and of half an action's
    range, times `action_weight`. The policy is u = û_t + K_t (x - x̂_t), tried on the robot; the best one is kept. It
    needs no network and no gradient steps, and holds for episodes that start as the demonstration did. `Progress` has
    as `loss` the standard deviation of the returns; as `demonstration` the return of the episode, as `predicted` what
    the model expects of the trajectory.

    Raises ConfigurationError without a model or demonstrations.
    """

    kind = "tracking"
    needs = ("model", "demonstrations")
    config: TrackingConfig

    def __init__(self, config: TrackingConfig, robot: TrainingRobot, seed: int, **sources: Any) -> None:
        super().__init__(config, robot, seed, **sources)
        whole = [rollout for rollout in self.demonstrations if len(rollout) >= robot.steps]
        self._ranked = sorted(whole, key=lambda rollout: -rollout.total_return)

    def _iterate(self, keep_going: KeepGoing) -> Progress:
        if not self._ranked:
            longest = max(len(rollout) for rollout in self.demonstrations)
            raise TrainingError(
                f"demonstrations: the longest of {len(self.demonstrations)} has {longest} steps, expected one of"
                f" {self.robot.steps}"
            )
        assert self.model is not None
        demonstration = self._ranked[self.iteration % len(self._ranked)]
        steps, predicted = self.robot.steps, float("nan")
        states, actions = demonstration.states[: steps + 1], demonstration.actions[:steps]
        # A trajectory that needs its limits cannot spare anything.
        for reserve in (self.config.reserve, 0.0) if self.config.improvements else ():
            better = self._improved(states, actions, reserve)
            if better[2] >= demonstration.total_return:
                states, actions, predicted = better
                break
        policy = follow(states, actions, self.model, self.robot.spec, self.config.action_weight)
        returns = []
        for index in range(self.config.evaluation_rollouts):
            if not keep_going():
                raise TrainingInterrupted
            rollout = self.robot.rollout(policy, seed=stream_seed(self.seed, 0, index, "evaluation"))
            returns.append(rollout.total_return)
            self.rollouts += 1
        self._consider(policy, float(np.mean(returns)))
        information = {"demonstration": demonstration.total_return, "predicted": predicted}
        return Progress(0, float(np.mean(returns)), loss=float(np.std(returns)), information=information)

    def _improved(self, states: Array, actions: Array, reserve: float) -> tuple[Array, Array, float]:
        """What iLQR makes of a trajectory within limits less `reserve`, as the model has it, and its return there."""
        assert self.model is not None
        spec, config = self.robot.spec, IlqrConfig(horizon=len(actions), iterations=self.config.improvements)
        objective = ModelObjective(self.model, self.robot.task, config.particles, config.propagation, config)
        gains = feedback_along(states, actions, self.model, spec, self.config.action_weight)
        planner = _Improvement(
            config, dataclasses.replace(spec, action=narrowed(spec.action, reserve)), objective, self.seed
        )
        planner.given = (states, actions, gains)
        try:
            plan = planner.plan(states[0], None, (self.iteration, 0))
        except PlanningError as error:
            raise TrainingError(f"demonstration: {error}") from error
        assert plan.predicted_states is not None
        return plan.predicted_states, plan.actions.astype(np.float64), plan.predicted_return

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The demonstrations, so that what is resumed goes on with the same."""
        arrays = {
            f"{index}/{name}": getattr(rollout, name)
            for index, rollout in enumerate(self._ranked[: self.config.iterations])
            for name in COLUMNS
        }
        return arrays, {"count": min(len(self._ranked), self.config.iterations)}

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        ranked = []
        for index in range(int(information["count"])):
            states, wanted, actions, rewards = (np.array(arrays[f"{index}/{name}"]) for name in COLUMNS)
            ranked.append(Rollout(states, wanted, actions, rewards))
        self._ranked = ranked


class _Improvement(Ilqr):
    """iLQR that starts from a given trajectory, executed through the model with given feedback."""

    given: tuple[Array, Array, Array]

    def _start(self, problem: TrajectoryProblem, state: Array) -> Trajectory:
        states, actions, gains = self.given
        return problem.closed_loop(state, states, actions[None], gains)[0]


def follow(
    states: Array, actions: Array, model: DynamicsModel, spec: RobotSpec, action_weight: float
) -> TimeVaryingLinearPolicy:
    """Feedback along a trajectory of states [T + 1, n] and actions [T, m], see `Tracking`. Raises TrainingError where
    the model's derivatives are not finite.
    """
    gains = feedback_along(states, actions, model, spec, action_weight)
    return TimeVaryingLinearPolicy.from_arrays(spec, actions, gains, states[:-1])


def feedback_along(states: Array, actions: Array, model: DynamicsModel, spec: RobotSpec, action_weight: float) -> Array:
    """The gains [T, m, n] of `follow`."""
    by_state, by_action = model.jacobians(
        torch.from_numpy(states[:-1]).to(model.precision), torch.from_numpy(actions).to(model.precision)
    )
    a, b = (values.mean(dim=0).double().numpy() for values in (by_state, by_action))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise TrainingError("model: derivatives along the demonstration that are not finite")
    spread = states_spread(states)
    half_range = 0.5 * (np.array(spec.action.upper) - np.array(spec.action.lower))
    return tracking_gains(a, b, np.diag(spread**-2.0), np.diag(action_weight * half_range**-2.0))
