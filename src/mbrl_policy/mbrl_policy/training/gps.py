# SPDX-License-Identifier: Apache-2.0
"""Guided policy search: controllers that are easy to find teach a network that is fast to run."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mbrl_core.checkpoint import under
from mbrl_core.config import ConfigurationError
from mbrl_core.policies import NetworkPolicy, Policy, TimeVaryingLinearPolicy, policy_arrays, policy_from_arrays
from mbrl_core.specs import Array
from mbrl_core.trial import Controller
from mbrl_dynamics.local_linear import Chart, LocalDynamics
from mbrl_policy.couplings import make_coupling
from mbrl_policy.kl_step import KlStepConfig, KlStepError
from mbrl_policy.linear_gaussian import LinearGaussianController
from mbrl_policy.linearise import linearise_policy
from mbrl_policy.local_problem import with_soft_limits
from mbrl_policy.training.algorithm import (
    TRAINERS,
    KeepGoing,
    Progress,
    TrainingAlgorithm,
    TrainingError,
    TrainingInterrupted,
)
from mbrl_policy.training.condition import Batch, Condition, Law, Noise, StepSizes, StepTask, first_controller, near
from mbrl_policy.training.distillation import Lesson, answers, distil, limited
from mbrl_policy.training.feedback import states_spread, tracking_gains
from mbrl_policy.training.gps_config import GpsConfig, check_config
from mbrl_policy.training.local_models import LocalModels
from mbrl_policy.training.predictive_teacher import predictive_control, with_noise
from mbrl_policy.training.rollouts import Rollout, TrainingRobot, action_noise

STEP_TOLERANCE = 0.2  # a step has 0.8 epsilon at least: fewer backward passes than for more
LEAST_START_VARIANCE = 1e-8  # of a state that all rollouts begin in, SI units squared


@TRAINERS.register("gps", GpsConfig)
class GuidedPolicySearch(TrainingAlgorithm):
    """Levine and Abbeel 2014, "Learning neural network policies with guided policy search under unknown dynamics";
    Levine et al. 2016, "End-to-end training of deep visuomotor policies"; Montgomery and Levine 2016, "Guided policy
    search as approximate mirror descent".

    An iteration: rollouts of each start condition's linear-Gaussian controller, local dynamics from them, a trajectory
    step within epsilon nats, coupled to the network, and the supervised step of the network towards all controllers.
    Controllers see the whole state, the network what its settings let it see. Raises ConfigurationError on settings
    that do not go together, see `GpsConfig`.
    """

    kind = "gps"
    config: GpsConfig

    def __init__(self, config: GpsConfig, robot: TrainingRobot, seed: int, **sources: Any) -> None:
        if sources.get("policy") is None:
            sources["policy"] = {"kind": "mlp", "squash": False, "covariance": "full"}
        super().__init__(config, robot, seed, **sources)
        spec = robot.spec
        check_config(config, spec, self.model, self.planner)
        self.horizon = config.horizon or robot.steps
        self._half_range = 0.5 * (np.array(spec.action.upper) - np.array(spec.action.lower))
        self._teacher_std = config.teacher_std * self._half_range
        network = self.new_policy()
        if not isinstance(network, NetworkPolicy):
            raise ConfigurationError(
                f"parameter 'policy.kind': got {network.kind!r}, expected a function of the observed state: mlp, rbf or"
                " linear"
            )
        self.network: NetworkPolicy = network
        self.conditions = [self._condition(index, start) for index, start in enumerate(self._starts())]
        self.local = LocalModels(config.dynamics, spec, self.model, self.dataset, config.memory, seed)
        self._task = StepTask(
            with_soft_limits(robot.task.reward, spec.action, config.limit_weight), robot.task.terminated,
            self._start_covariance(), np.array(spec.action.lower), np.array(spec.action.upper),
            KlStepConfig(tolerance=STEP_TOLERANCE, entropy_weight=config.entropy_weight), config.convex,
            config.expansions, config.samples,
        )  # fmt: skip

    def local_policies(self) -> list[TimeVaryingLinearPolicy]:
        """The best controller of each start condition, with its noise."""
        return [condition.best.policy(self.robot.spec) for condition in self.conditions]

    def _starts(self) -> list[Array]:
        config, size = self.config, self.robot.spec.state.size
        if not config.start_states:
            return [self.robot.drawn_start(self.torch_seed("start", index)) for index in range(config.conditions)]
        return list(np.array(config.start_states).reshape(config.conditions, size))

    def _condition(self, index: int, start: Array) -> Condition:
        config, spec = self.config, self.robot.spec
        coupling = make_coupling(config.coupling_settings(), self.horizon, self._half_range)
        first = first_controller(spec, self.horizon, config.initial_std, config.push, config.push_period)
        law = Law(first, np.tile(start, (self.horizon + 1, 1)))
        sizes = StepSizes(
            *(self.horizon * each for each in (config.epsilon, config.least_epsilon, config.most_epsilon))
        )
        return Condition(index, start, law, coupling, sizes)

    def _iterate(self, keep_going: KeepGoing) -> Progress:
        def check() -> None:
            if not keep_going():
                raise TrainingInterrupted

        rollouts = [self._collect(condition, check) for condition in self.conditions]
        spread, least = self.local.spread(), self.local.least_rollouts
        batches = []
        for condition, own in zip(self.conditions, rollouts, strict=True):
            with failing_at(condition):
                batches.append(condition.take(own, self.robot.spec, spread, least, self._taught))
        self.local.learn(min(len(batch.states) for batch in batches), self.torch_seed("local"), keep_going)
        if self._taught:
            for condition, batch in zip(self.conditions, batches, strict=True):
                with failing_at(condition):
                    self._follow(condition, batch)
        if self.iteration == 0:
            self._begin(batches, check)
        lessons, divergences, failed = [], [], 0
        for condition, batch in zip(self.conditions, batches, strict=True):
            check()
            with failing_at(condition):
                dynamics = self.local.about(batch, condition.law.reference)
            if not self._taught:
                try:
                    divergences.append(self._improve(condition, batch, dynamics))
                except (KlStepError, ValueError):
                    failed += 1
            lessons.append(self._lesson(condition, dynamics, batch, spread))
        loss = self._distil(lessons, check)
        for condition, batch in () if self._taught else zip(self.conditions, batches, strict=True):
            states = batch.states[:, :-1]
            # They disagree by what the robot would do otherwise: beyond the limits all wishes are one.
            wanted, answered = condition.law.controller.means(states), answers(self.network, states)[0]
            means = wanted + self._limited(answered) - self._limited(wanted)
            condition.coupling.update(condition.law.controller, self._linearised(batch), states, means)
        mean_return = self._evaluate(check)
        information = {
            "controller_return": float(np.mean([batch.returns.mean() for batch in batches])),
            "epsilon": float(np.mean([condition.epsilon for condition in self.conditions])),
            "failed_steps": float(failed),
        }
        kl = float(np.mean(divergences)) if divergences else math.nan
        return Progress(0, mean_return, kl, loss, information=information)

    def teacher(self, seed: int) -> Controller:
        """Model predictive control by the `planner` settings through the `model`. Raises ConfigurationError."""
        assert self.planner is not None and self.model is not None
        return predictive_control(self.planner, self.model, self.robot, self.config.teacher_reserve, seed)

    @property
    def _taught(self) -> bool:
        """Whether this iteration's rollouts are the teacher's."""
        return self.iteration < self.config.teacher_iterations

    def _collect(self, condition: Condition, check: Callable[[], None]) -> list[Rollout]:
        """Rollouts of a condition's controller, or of the teacher; `wanted` is then without its noise."""
        taught, spec = self._taught, self.robot.spec
        policy = condition.law.policy(spec)
        rollouts = []
        for index in range(self.config.rollouts):
            check()
            number = condition.index * self.config.rollouts + index
            start, seed = self._start(condition, number), self.rollout_seed(number)
            if taught:
                # The first is what the controller is to follow, the others show what lies beside it.
                start = start if index else condition.start
                noise = (self._teacher_std if index else 0.0) * action_noise(seed, self.horizon, spec.action.size)
                controller = with_noise(self.teacher(self.torch_seed("teacher", condition.index)), noise, check)
                rollout = self.robot.rollout_controller(controller, start, self.horizon, seed, condition.index)
                rollout = replace(rollout, wanted=rollout.wanted - noise[: len(rollout)])
            else:
                rollout = self.robot.rollout(policy, start, self.horizon, seed, True, condition.index)
            self._count(rollout)
            rollouts.append(rollout)
        return rollouts

    def _follow(self, condition: Condition, batch: Batch) -> None:
        """The controller becomes feedback along the teacher's first trajectory, with the noise that the others had."""
        states = condition.law.reference
        along = batch if self.local.model is None else batch.first()
        dynamics = self.local.about(along, states)
        covariances = np.tile(np.diag(np.square(self._teacher_std)), (self.horizon, 1, 1))
        prices = states_spread(states) ** -2.0, self.config.teacher_weight * self._half_range**-2.0
        gains = tracking_gains(dynamics.matrix, dynamics.control, *(np.diag(price) for price in prices))
        condition.law = Law(LinearGaussianController.around(states, batch.wanted[0], gains, covariances), states)
        # What the planner returned says nothing of it.
        condition.best, condition.best_return = condition.law, -math.inf

    def _improve(self, condition: Condition, batch: Batch, dynamics: LocalDynamics) -> float:
        """A condition's trajectory step, its divergence in nats. Raises KlStepError and ValueError."""
        policy = self._linearised(batch)
        terms = condition.coupling.trajectory_terms(condition.law.controller, policy)
        mirrored = policy if self.config.coupling == "mirror_descent" else None
        random = self.random("step", condition.index)
        return condition.improve(self._task, batch, dynamics, terms, mirrored, random).divergence

    def _start(self, condition: Condition, number: int) -> Array:
        if not self.config.start_std:
            return condition.start
        std = np.array(self.config.start_std)
        return condition.start + std * self.random("start", number).standard_normal(len(std))

    def _count(self, rollout: Rollout) -> None:
        self.rollouts += 1
        self.local.remember(rollout)

    def _begin(self, batches: list[Batch], check: Callable[[], None]) -> None:
        """The network takes its scales from the first rollouts, and begins as the first controllers."""
        states = np.concatenate([batch.states.reshape(-1, batch.states.shape[-1]) for batch in batches])
        self.network.normalise(torch.from_numpy(states).float())
        lessons = []
        for condition, batch in zip(self.conditions, batches, strict=True):
            at = batch.states[:, :-1]
            lessons.append(Lesson.of(at, condition.coupling.targets(condition.law.controller, at)))
        self._distil(lessons, check)

    def _start_covariance(self) -> Array:
        size = self.robot.spec.state.size
        std = np.array(self.config.start_std) if self.config.start_std else np.zeros(size)
        return np.diag(np.maximum(np.square(std), LEAST_START_VARIANCE))

    def _linearised(self, batch: Batch) -> LinearGaussianController:
        means, covariances = answers(self.network, batch.states[:, :-1])
        return linearise_policy(batch.states, means, covariances)

    def _lesson(self, condition: Condition, dynamics: LocalDynamics, batch: Batch, spread: Array) -> Lesson:
        """What the coupling asks for at the rollouts' states, where networks have been, and where the new controller
        will go.
        """
        config, controller = self.config, condition.law.controller
        parts = [batch.states[:, :-1], self._visited(condition)]
        if config.imagined:
            noise = Noise.of(self.random("imagined", condition.index), config.imagined, dynamics)
            mean = batch.states[:, 0].mean(axis=0)
            parts.append(noise.simulated(self._task, dynamics, controller, mean).states[:, :-1])
        states = np.concatenate(parts)
        lesson = Lesson.of(states, condition.coupling.targets(controller, states))
        return lesson.only(near(states, condition.law.reference[:-1], spread).ravel())

    def _visited(self, condition: Condition) -> Array:
        """Where networks have been from this start [R, H, n]."""
        chart = Chart(condition.law.reference, self.robot.spec.state.angular)
        return chart.unwrapped(condition.visited)[:, :-1]

    def _distil(self, lessons: list[Lesson], check: Callable[[], None]) -> float:
        config, lesson = self.config, Lesson.together(lessons)
        if not len(lesson.states):
            raise TrainingError("no state of any rollout is near its controller's trajectory: nothing to learn from")
        precisions = limited(lesson.precisions, config.most_precision)
        lesson = Lesson(lesson.states, self._limited(lesson.means), precisions, lesson.weights)
        return distil(
            self.network, lesson, self.torch_seed("distil"), config.supervised_steps, config.batch_size,
            config.learning_rate, check,
        )  # fmt: skip

    def _limited(self, actions: Array) -> Array:
        return np.clip(actions, self._task.lower, self._task.upper)

    def _evaluate(self, check: Callable[[], None]) -> float:
        if (self.iteration + 1) % self.config.evaluate_every:
            if self._best is None:
                self._consider(self.network, math.nan)
            return math.nan
        returns = []
        for condition in self.conditions:
            check()
            seed = self.rollout_seed(-1 - condition.index)
            rollout = self.robot.rollout(self.network, condition.start, self.horizon, seed, False, condition.index)
            self._count(rollout)
            condition.visit(rollout, self.config.remembered)
            returns.append(rollout.total_return)
        mean = float(np.mean(returns))
        self._consider(self.network, mean)
        return mean

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays = {f"network/{name}": value for name, value in policy_arrays(self.network).items()}
        for condition in self.conditions:
            arrays |= {f"condition{condition.index}/{name}": value for name, value in condition.state_arrays().items()}
        arrays |= {f"local/{name}": value for name, value in self.local.state_arrays().items()}
        return arrays, {}

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        settings = {name: value for name, value in self.policy_settings.items() if name != "kind"}
        network: Policy = policy_from_arrays(
            self.policy_settings["kind"], settings, under("network/", arrays), self.robot.spec, "trainer's network"
        )
        assert isinstance(network, NetworkPolicy)
        for condition in self.conditions:
            condition.load_arrays(under(f"condition{condition.index}/", arrays))
        self.local.load_arrays(under("local/", arrays))
        self.network = network


@contextmanager
def failing_at(condition: Condition) -> Iterator[None]:
    """What cannot be computed about a start condition is a TrainingError that names it."""
    try:
        yield
    except (ValueError, np.linalg.LinAlgError) as error:
        raise TrainingError(f"start condition {condition.index}: {error}") from None
