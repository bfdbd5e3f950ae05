# SPDX-License-Identifier: Apache-2.0
"""One start condition of guided policy search: its controller, its rollouts, and its trajectory step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mbrl_core.checkpoint import under
from mbrl_core.policies import TimeVaryingLinearPolicy
from mbrl_core.specs import Array, RobotSpec
from mbrl_dynamics.local_linear import Chart, LocalDynamics, covariance_roots
from mbrl_planner.expansion import Ended, Reward
from mbrl_policy.couplings import Coupling, TrajectoryTerms
from mbrl_policy.kl_step import KlStep, KlStepConfig, KlStepError, adapted_epsilon, kl_constrained_step
from mbrl_policy.linear_gaussian import LinearGaussianController
from mbrl_policy.local_problem import local_problem
from mbrl_policy.training.rollouts import Rollout

ARRAYS = ("gains", "offsets", "covariances", "reference")


@dataclass(frozen=True)
class Batch:
    """Rollouts of one start condition, angles counted as the condition's reference counts them.

    states [R, H + 1, n], wanted and executed actions [R, H, m] of those that kept together; returns [number of all].
    """

    states: Array
    wanted: Array
    executed: Array
    returns: Array

    def first(self) -> "Batch":
        """A teacher's first rollout by itself."""
        return Batch(self.states[:1], self.wanted[:1], self.executed[:1], self.returns[:1])


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


@dataclass(frozen=True)
class StepTask:
    """What all conditions' trajectory steps share. `reward` is with soft limits, `lower`, `upper` [m] the limits."""

    reward: Reward
    ended: Ended
    start_covariance: Array
    lower: Array
    upper: Array
    config: KlStepConfig
    convex: bool
    expansions: int
    samples: int


@dataclass(frozen=True)
class Simulated:
    """Trajectories under local dynamics: states [R, H + 1, n], wanted actions [R, H, m]; the median of returns."""

    states: Array
    wanted: Array
    median_return: float


@dataclass(frozen=True)
class Noise:
    """Standard normal numbers for the same trajectories of different controllers: of starts [R, n], actions
    [R, H, m] and states [R, H, n].
    """

    starts: Array
    actions: Array
    states: Array

    @staticmethod
    def of(random: np.random.Generator, count: int, dynamics: LocalDynamics) -> "Noise":
        """Half of the trajectories are drawn, the others have minus their noise."""
        horizon, size, width = dynamics.control.shape
        half = (count + 1) // 2
        drawn = [
            random.standard_normal(shape) for shape in ((half, size), (half, horizon, width), (half, horizon, size))
        ]
        return Noise(*(np.concatenate([each, -each]) for each in drawn))

    def simulated(
        self, task: StepTask, dynamics: LocalDynamics, controller: LinearGaussianController, mean: Array
    ) -> Simulated:
        """From starts about `mean` [n], actions clipped as the robot's limits do it."""
        horizon, size, width = dynamics.control.shape
        states, wanted = np.empty((len(self.starts), horizon + 1, size)), np.empty((len(self.starts), horizon, width))
        roots, own = covariance_roots(dynamics.covariance), covariance_roots(controller.covariances)
        states[:, 0] = mean + self.starts @ covariance_roots(task.start_covariance).T
        for step in range(horizon):
            at = states[:, step]
            wanted[:, step] = (
                at @ controller.gains[step].T + controller.offsets[step] + self.actions[:, step] @ own[step].T
            )
            action = np.clip(wanted[:, step], task.lower, task.upper)
            states[:, step + 1] = (
                at @ dynamics.matrix[step].T + action @ dynamics.control[step].T + dynamics.offset[step]
                + self.states[:, step] @ roots[step].T
            )  # fmt: skip
        parts = (torch.from_numpy(each) for each in (states[:, :-1], wanted, states[:, 1:]))
        return Simulated(states, wanted, float(np.median(task.reward(*parts).sum(dim=-1).numpy())))


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
        self.promised: tuple[float, float] | None = None  # gain of the last step, and the return before it
        self.fresh = True  # no rollout has been near the reference yet
        self.visited = np.zeros((0, law.controller.horizon + 1, len(start)))  # by networks, angles as they came

    def visit(self, rollout: Rollout, most: int) -> None:
        """A network's rollout from here; the newest `most` are kept. One of another length is passed over."""
        if most and len(rollout) == self.law.controller.horizon:
            self.visited = np.concatenate([self.visited, rollout.states[None]])[-most:]

    def take(self, rollouts: Sequence[Rollout], spec: RobotSpec, spread: Array, least: int, taught: bool) -> Batch:
        """The rollouts of `law`, whose reference becomes their median; where `taught`, those of a teacher, the first
        of which becomes the reference.

        A rollout that has lost the trajectory says nothing about its neighbourhood, and moves every mean: those that
        were not `near` the reference all the way, by `spread` [n], are left out as long as `least` and half of them
        remain. Raises ValueError on rollouts of other lengths.
        """
        horizon = self.law.controller.horizon
        for rollout in rollouts:
            if len(rollout) != horizon:
                raise ValueError(f"rollouts: got one of {len(rollout)} steps, expected all {horizon}: local models need"
                                 " whole episodes, and the task ended this one")  # fmt: skip
        raw, angular = np.stack([rollout.states for rollout in rollouts]), spec.state.angular
        if taught:
            chart = Chart.around(raw[:1], angular)
        else:
            chart = Chart.around(raw, angular) if self.fresh else Chart(self.law.reference, angular)
        states, self.fresh = chart.unwrapped(raw), False
        reference = states[0] if taught else np.median(states, axis=0)
        together = near(states, reference, spread)[:, -1]
        if together.sum() < max(least, 0.5 * len(states)):
            together[:] = True
        batch = Batch(
            states[together],
            np.stack([rollout.wanted for rollout in rollouts])[together],
            np.stack([rollout.actions for rollout in rollouts])[together],
            np.array([rollout.total_return for rollout in rollouts]),
        )
        mean = float(batch.returns.mean())
        if mean > self.best_return and not taught:
            self.best, self.best_return = self.law, mean
        self.law = Law(self.law.controller, reference)
        return batch

    def improve(
        self,
        task: StepTask,
        batch: Batch,
        dynamics: LocalDynamics,
        terms: TrajectoryTerms,
        mirrored: LinearGaussianController | None,
        random: np.random.Generator,
    ) -> KlStep:
        """A step within epsilon nats, whose size follows what the last one brought.

        The reward is known, only the dynamics are local: the controller moves until epsilon in `task.expansions` equal
        parts, before each of which the reward is expanded about what the controller so far will do, as long as the
        return of sampled trajectories rises. `mirrored` is the policy under mirror descent: promises then count from
        its return, and what came of them is told by it (Montgomery and Levine 2016). Raises KlStepError and ValueError
        when there is not even a small step; then nothing has changed.
        """
        before = self.law.controller
        mean, noise = batch.states[:, 0].mean(axis=0), Noise.of(random, task.samples, dynamics)
        old = noise.simulated(task, dynamics, before if mirrored is None else mirrored, mean)
        now = float(batch.returns.mean()) if mirrored is None else old.median_return
        epsilon, sizes = self.epsilon, self.sizes
        if self.promised is not None:
            gain, earlier = self.promised
            epsilon = adapted_epsilon(epsilon, gain, now - earlier, sizes.least, sizes.most)
        states, wanted = batch.states, batch.wanted
        best: tuple[float, KlStep] | None = None
        for number in range(1, task.expansions + 1):
            problem = local_problem(
                task.reward, states, wanted, dynamics, task.start_covariance, task.ended, task.convex
            )
            within = epsilon * (number / task.expansions) ** 2
            try:
                step = kl_constrained_step(problem, terms.reference, within, task.config, terms.added, self.multiplier)
            except (KlStepError, ValueError):
                if best is None:
                    raise
                break
            new = noise.simulated(task, dynamics, step.controller, mean)
            if best is not None and not new.median_return > best[0]:
                break
            best = new.median_return, step
            self.multiplier = step.multiplier
            states, wanted = new.states, new.wanted
        assert best is not None
        self.epsilon, self.promised = epsilon, (best[0] - old.median_return, now)
        self.law = Law(best[1].controller, self.law.reference)
        return best[1]

    def state_arrays(self) -> dict[str, Array]:
        """Everything that a checkpoint needs."""
        promised = (math.nan, math.nan) if self.promised is None else self.promised
        multiplier = math.nan if self.multiplier is None else self.multiplier
        numbers = np.array([self.epsilon, multiplier, *promised, self.best_return, float(self.fresh)])
        return {
            "start": np.array(self.start),
            "numbers": numbers,
            "visited": np.array(self.visited),
            **{f"law/{name}": value for name, value in self.law.arrays().items()},
            **{f"best/{name}": value for name, value in self.best.arrays().items()},
            **{f"coupling/{name}": value for name, value in self.coupling.state_arrays().items()},
        }

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Goes on from `state_arrays`. Raises KeyError, ValueError."""
        law, best = Law.of(under("law/", arrays)), Law.of(under("best/", arrays))
        epsilon, multiplier, before, after, best_return, fresh = (float(value) for value in arrays["numbers"])
        self.coupling.load_arrays(under("coupling/", arrays))
        self.start, self.law, self.best, self.best_return = np.array(arrays["start"]), law, best, best_return
        self.epsilon, self.multiplier = epsilon, None if math.isnan(multiplier) else multiplier
        self.promised = None if math.isnan(before) else (before, after)
        self.fresh, self.visited = bool(fresh), np.array(arrays["visited"])


def near(states: Array, reference: Array, spread: Array) -> NDArray[np.bool_]:
    """[R, T] whether trajectories [R, T, n] have kept to where a linear law about `reference` [T, n] says something: as
    long as no variable is further from it than `spread` [n], what is usual on this robot. One that has left stays so.
    """
    return np.logical_and.accumulate((np.abs(states - reference) <= spread).all(axis=2), axis=1)


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
