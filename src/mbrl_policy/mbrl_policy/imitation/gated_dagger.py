# SPDX-License-Identifier: Apache-2.0
"""Gated DAgger: the policy acts until somebody who knows better takes over; what that one does is learned."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.specs import Array
from mbrl_policy.imitation.base import ImitationAlgorithm, ImitationConfig
from mbrl_policy.imitation.labels import LabelBook, Labels
from mbrl_policy.imitation.teacher import Teacher
from mbrl_policy.policy_controller import PolicyController
from mbrl_policy.training import TRAINERS, Rollout


@dataclass(frozen=True)
class GatedDaggerConfig(ImitationConfig):
    """Parameters of gated DAgger."""

    takeover: float = parameter(
        0.3, "difference between policy and teacher, in any action's half range, above which the teacher takes over",
        minimum=0.0, maximum=10.0,
    )  # fmt: skip
    release: float = parameter(
        0.1, "difference below which it gives the robot back; no more than `takeover`", minimum=0.0, maximum=10.0
    )
    least_steps: int = parameter(
        3, "steps at least that the teacher keeps the robot: a person is not faster", minimum=1, maximum=10_000
    )

    def __post_init__(self) -> None:
        if self.release > self.takeover:
            raise ConfigurationError(
                f"parameter 'release': got {self.release:g}, expected at most 'takeover', {self.takeover:g}"
            )


@TRAINERS.register("gated_dagger", GatedDaggerConfig)
class GatedDagger(ImitationAlgorithm):
    """Kelly, Sidrane, Driggs-Campbell and Kochenderfer 2019, "HG-DAgger: Interactive imitation learning with human
    experts" (arXiv:1810.02890), algorithm 1, with a planner in the person's place.

    The policy acts. The teacher takes over where it sees fit, moves the robot to where it gives it back, and only the
    steps of its own are labels: it is never asked about states in which another moves the robot, which persons answer
    badly. The gate, a person's judgement in the paper, is here the difference between what the two would do, with
    hysteresis (as in Hoque et al. 2021, "LazyDAgger", arXiv:2104.00053). Before there is a policy the teacher has
    the robot all the time.

    With a person, nothing of this is needed: who takes over by selecting another controller leaves corrections in the
    bag (`mbrl_policy.imitation.corrections`), and `behavioural_cloning` learns from those and the demonstrations.

    `Progress.information` has `interventions` and `teacher_share`, of the steps.
    """

    kind = "gated_dagger"
    teacher_moves = True
    config: GatedDaggerConfig

    def _gather(self, keep_going: Callable[[], bool]) -> tuple[list[Rollout], list[Labels], dict[str, float]]:
        teacher = Teacher(self._planner())
        gates: list[Gate] = []

        def episode(index: int) -> tuple[Rollout, Labels]:
            own = PolicyController(self.network.fast(), self.robot.spec) if self.fitted else None
            gate, book = Gate(self.config, self._half_range()), LabelBook()

            def controller(time_step: TimeStep) -> Plan:
                advice = teacher.advice(time_step)
                answer = None if own is None else own.answer(time_step)
                before = gate.closed
                if answer is not None and not gate.closes(answer.plan.actions[0], advice.action):
                    return answer.plan
                if answer is None:
                    gate.close()
                book.add(time_step, advice.action, advice.gain, follows=before and len(book) > 0)
                return Plan(advice.action[None])

            rollout = self.robot.rollout_controller(controller, seed=self.rollout_seed(index))
            gates.append(gate)
            return rollout, book.labels() if len(book) else Labels.none(self.robot.spec)

        rollouts, labels = self._episodes(episode, keep_going)
        steps = sum(len(rollout) for rollout in rollouts)
        told = {
            "interventions": float(sum(gate.interventions for gate in gates)),
            "teacher_share": sum(len(part) for part in labels) / steps,
        }
        return rollouts, labels, told

    def _half_range(self) -> Array:
        action = self.robot.spec.action
        return np.asarray(0.5 * (np.array(action.upper) - np.array(action.lower)))


class Gate:
    """Who has the robot: `closed` while it is the teacher."""

    def __init__(self, config: GatedDaggerConfig, half_range: Array) -> None:
        self.closed = False
        self.interventions = 0
        self._config, self._half_range = config, half_range
        self._steps = 0  # since it closed

    def closes(self, own: Array, advice: Array) -> bool:
        """Whether the teacher has the robot in this step, by the actions [m] of both."""
        difference = float(np.max(np.abs(own - advice) / self._half_range))
        if not self.closed:
            if difference > self._config.takeover:
                self.close()
        else:
            self._steps += 1
            if self._steps >= self._config.least_steps and difference < self._config.release:
                self.closed = False
        return self.closed

    def close(self) -> None:
        """The teacher takes over, where it has not yet."""
        if not self.closed:
            self.closed, self._steps = True, 0
            self.interventions += 1
