# SPDX-License-Identifier: Apache-2.0
"""DAgger: a policy learns a planner's actions in the states that it brings about itself."""

from collections.abc import Callable
from dataclasses import dataclass

from mbrl_core.config import parameter
from mbrl_core.messages import Plan, TimeStep
from mbrl_policy.imitation.base import ImitationAlgorithm, ImitationConfig
from mbrl_policy.imitation.labels import LabelBook, Labels
from mbrl_policy.imitation.teacher import Teacher
from mbrl_policy.training import TRAINERS, Rollout


@dataclass(frozen=True)
class DaggerConfig(ImitationConfig):
    """Parameters of DAgger."""

    mixing: float = parameter(1.0, "beta of the first iteration: share of steps that the teacher executes",
                              minimum=0.0, maximum=1.0)  # fmt: skip
    mixing_decay: float = parameter(
        0.5, "beta of an iteration over that of the one before; 0: only the first has a teacher", minimum=0.0,
        maximum=1.0,
    )  # fmt: skip


@TRAINERS.register("dagger", DaggerConfig)
class Dagger(ImitationAlgorithm):
    """Ross, Gordon and Bagnell 2011, "A reduction of imitation learning and structured prediction to no-regret online
    learning", algorithm 3.1, with a planner as the expert pi*.

    Iteration i executes beta_i pi* + (1 - beta_i) pi_i, drawn at every step, adds all states that it meets with pi*'s
    actions to the data, and fits pi_(i+1) to all data. beta_i = mixing * mixing_decay^i; the paper has p^i, and 1
    followed by zeros.
    """

    kind = "dagger"
    config: DaggerConfig

    @property
    def share(self) -> float:
        """beta of the iteration to come."""
        return float(self.config.mixing * self.config.mixing_decay**self.iteration)

    def _gather(self, keep_going: Callable[[], bool]) -> tuple[list[Rollout], list[Labels], dict[str, float]]:
        policy, share = self.network.fast(), self.share
        teacher = Teacher(self._planner())

        def episode(index: int) -> tuple[Rollout, Labels]:
            coins = self.random("mixing", index).random(self.robot.steps)
            book = LabelBook()

            def controller(time_step: TimeStep) -> Plan:
                advice = teacher.advice(time_step)
                book.add(time_step, advice.action, advice.gain)
                own = coins[time_step.step] >= share
                return Plan((policy.action(time_step.state, time_step.step) if own else advice.action)[None])

            return self.robot.rollout_controller(controller, seed=self.rollout_seed(index)), book.labels()

        rollouts, labels = self._episodes(episode, keep_going)
        return rollouts, labels, {"mixing": share}
