# SPDX-License-Identifier: Apache-2.0
"""One start condition of guided policy search: its controller, its rollouts, and its trajectory step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_core.policies import TimeVaryingLinearPolicy
from mbrl_core.specs import Array, RobotSpec, state_difference
from mbrl_dynamics.local_linear import Chart, LocalDynamics
from mbrl_policy.couplings import Coupling, TrajectoryTerms
from mbrl_policy.kl_step import KlStep, KlStepConfig, adapted_epsilon, kl_constrained_step
from mbrl_policy.linear_gaussian import LinearGaussianController
from mbrl_policy.local_problem import LocalProblem
from mbrl_policy.training.rollouts import Rollout

ARRAYS = ("gains", "offsets", "covariances", "reference")


@dataclass(frozen=True)
class Batch:
    """Rollouts of one start condition, angles counted as the condition's reference counts them.

    states [R, H + 1, n], wanted and executed actions [R, H, m], returns [R].
    """

    states: Array
    wanted: Array
    executed: Array
    returns: Array


@dataclass(frozen=True)
class Law:
    """A controller and the trajectory [H + 1, n] that it was made about."""

    controller: LinearGaussianController
    reference: Array

    def policy(self, spec: RobotSpec) -> TimeVaryingLinearPolicy:
        """As a robot executes it: feedback about the reference, angles the shorter way round."""
        about = self.reference[:-1]
        controller = self.controller
        return TimeVaryingLinearPolicy.from_arrays(
            spec, controller.means(about), controller.gains, about, controller.covariances
        )

    def arrays(self) -> dict[str, Array]:
        """Copies, by the names of ARRAYS."""
        controller = self.controller
        values = controller.gains, controller.offsets, controller.covariances, self.reference
        return {name: np.array(value) for name, value in zip(ARRAYS, values, strict=True)}

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> "Law":
        """From `arrays`. Raises KeyError, ValueError."""
        gains, offsets, covariances, reference = (np.array(arrays[name]) for name in ARRAYS)
        return Law(LinearGaussianController(gains, offsets, covariances), reference)


@dataclass(frozen=True)
class StepSizes:
    """epsilon to begin with, and the least and most that it may become, nats a trajectory."""

    first: float
    least: float
    most: float


class Condition:
    """What guided policy search keeps of a start condition from iteration to iteration.

    `start` [n] is where its rollouts begin; `law` its present controller, `best` the one with the largest return so
    far and `best_return` that.
    """

    def __init__(self, index: int, start: Array, law: Law, coupling: Coupling, sizes: StepSizes) -> None:
        self.index, self.start, self.law, self.coupling, self.sizes = index, start, law, coupling, sizes
        self.epsilon = sizes.first
        self.multiplier: float | None = None
        self.best, self.best_return = law, -math.inf
        self.promised: tuple[float, float] | None = None  # expected returns before and after the last step
        self.fresh = True  # no rollout has been near the reference yet

    def take(self, rollouts: Sequence[Rollout], spec: RobotSpec) -> Batch:
        """The rollouts of `law`; the reference becomes their mean. Raises ValueError on rollouts of other lengths."""
        horizon = self.law.controller.horizon
        for rollout in rollouts:
            if len(rollout) != horizon:
                raise ValueError(f"rollouts: got one of {len(rollout)} steps, expected all {horizon}: local models need"
                                 " whole episodes, and the task ended this one")  # fmt: skip
        raw = np.stack([rollout.states for rollout in rollouts])
        angular = spec.state.angular
        chart = Chart.around(raw, angular) if self.fresh else Chart(self.law.reference, angular)
        states = self.law.reference + state_difference(raw, self.law.reference, angular)
        if self.fresh:
            states = chart.unwrapped(raw)
        self.fresh = False
        batch = Batch(
            states, np.stack([rollout.wanted for rollout in rollouts]),
            np.stack([rollout.actions for rollout in rollouts]),
            np.array([rollout.total_return for rollout in rollouts]),
        )  # fmt: skip
        mean = float(batch.returns.mean())
        if mean > self.best_return:
            self.best, self.best_return = self.law, mean
        self.law = Law(self.law.controller, states.mean(axis=0))
        return batch

    def improve(
        self,
        problem: LocalProblem,
        terms: TrajectoryTerms,
        subject: LinearGaussianController,
        config: KlStepConfig,
    ) -> KlStep:
        """A step within epsilon nats, whose size follows what the last one brought.

        `subject` is what was executed since: the present controller, or under mirror descent the policy that was to
        follow it. Raises KlStepError; then nothing has changed.
        """
        now = float(problem.expected_rewards(subject).sum())
        if self.promised is not None:
            before, after = self.promised
            sizes = self.sizes
            self.epsilon = adapted_epsilon(self.epsilon, after - before, now - before, sizes.least, sizes.most)
        step = kl_constrained_step(problem, terms.reference, self.epsilon, config, terms.added, self.multiplier)
        self.promised = now, float(problem.expected_rewards(step.controller).sum())
        self.multiplier = step.multiplier
        self.law = Law(step.controller, self.law.reference)
        return step

    def state_arrays(self) -> dict[str, Array]:
        """Everything that a checkpoint needs."""
        promised = (math.nan, math.nan) if self.promised is None else self.promised
        multiplier = math.nan if self.multiplier is None else self.multiplier
        numbers = np.array([self.epsilon, multiplier, *promised, self.best_return, float(self.fresh)])
        return {
            "start": np.array(self.start),
            "numbers": numbers,
            **{f"law/{name}": value for name, value in self.law.arrays().items()},
            **{f"best/{name}": value for name, value in self.best.arrays().items()},
            **{f"coupling/{name}": value for name, value in self.coupling.state_arrays().items()},
        }

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Goes on from `state_arrays`. Raises KeyError, ValueError."""

        def under(prefix: str) -> dict[str, Array]:
            return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}

        law, best = Law.of(under("law/")), Law.of(under("best/"))
        epsilon, multiplier, before, after, best_return, fresh = (float(value) for value in arrays["numbers"])
        self.coupling.load_arrays(under("coupling/"))
        self.start, self.law, self.best, self.best_return = np.array(arrays["start"]), law, best, best_return
        self.epsilon, self.multiplier = epsilon, None if math.isnan(multiplier) else multiplier
        self.promised = None if math.isnan(before) else (before, after)
        self.fresh = bool(fresh)


def first_controller(
    spec: RobotSpec, horizon: int, std: float, push: float, push_period: float
) -> LinearGaussianController:
    """Noise of `std` half ranges about a push of `push` half ranges to either side, one after the other, in turns of
    `push_period` steps: a robot at rest is a saddle of many tasks, and what does not move teaches nothing.
    """
    lower, upper = np.array(spec.action.lower), np.array(spec.action.upper)
    centre, half_range = 0.5 * (lower + upper), 0.5 * (upper - lower)
    turn = np.sin(2.0 * np.pi * np.arange(horizon) / push_period)
    offsets = centre + push * half_range * turn[:, None]
    covariances = np.tile(np.diag((std * half_range) ** 2), (horizon, 1, 1))
    return LinearGaussianController(np.zeros((horizon, spec.action.size, spec.state.size)), offsets, covariances)


def about(local: LocalDynamics, batch: Batch) -> Array:
    """States [R, H + 1, n] of a batch as `local` counts their angles."""
    return batch.states if local.chart is None else local.chart.unwrapped(batch.states)
