# SPDX-License-Identifier: Apache-2.0
"""Noisy teacher: trajectories with feedback gains teach a policy what to do around them, too."""

from collections.abc import Callable
from dataclasses import dataclass

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.messages import Plan, TimeStep
from mbrl_policy.imitation.base import ImitationAlgorithm, ImitationConfig
from mbrl_policy.imitation.labels import LabelBook, Labels
from mbrl_policy.imitation.teacher import Teacher
from mbrl_policy.training import TRAINERS, Rollout


@dataclass(frozen=True)
class NoisyTeacherConfig(ImitationConfig):
    """Parameters of the noisy teacher."""

    replan: bool = parameter(
        True, "plan anew at every step; false: one plan an episode, as long as the planner's horizon, and its feedback"
    )
    label_noise: float = parameter(
        0.1,
        "noise e on the states while the policy is fitted, answered by u + K e with the teacher's gains: its standard"
        " deviation as a share of each state variable's over the labels",
        minimum=0.0,
    )


@TRAINERS.register("noisy_teacher", NoisyTeacherConfig)
class NoisyTeacher(ImitationAlgorithm):
    """Mordatch and Todorov 2014, "Combining the benefits of function approximation and trajectory optimization", and
    Mordatch, Lowrey, Andrew, Popovic and Todorov 2015, "Interactive control of diverse complex characters with neural
    networks": a policy fitted to a trajectory alone drifts off it, so it is fitted to noisy copies of it,

        x_t + e -> u_t + K_t e,   e ~ N(0, (label_noise * deviation of the state)^2)

    with K_t the gains of the trajectory optimiser, which say what it would do there without being asked again. The
    teacher alone moves the robot; e is drawn anew for every gradient step. The papers also move the trajectories
    towards the policy; for that there is guided policy search.

    Raises ConfigurationError, in the first iteration, on a planner without gains.
    """

    kind = "noisy_teacher"
    config: NoisyTeacherConfig

    def _gather(self, keep_going: Callable[[], bool]) -> tuple[list[Rollout], list[Labels], dict[str, float]]:
        teacher = Teacher(self._planner(), self.config.replan)

        def episode(index: int) -> tuple[Rollout, Labels]:
            book = LabelBook()

            def controller(time_step: TimeStep) -> Plan:
                advice = teacher.advice(time_step)
                if advice.gain is None:
                    raise ConfigurationError(
                        f"parameter 'planner.kind': got {teacher.planner.kind!r}, expected one whose plans have"
                        " feedback gains (ilqr, ddp, lqr): trainer 'noisy_teacher' needs them"
                    )
                book.add(time_step, advice.action, advice.gain)
                return Plan(advice.action[None])

            return self.robot.rollout_controller(controller, seed=self.rollout_seed(index)), book.labels()

        rollouts, labels = self._episodes(episode, keep_going)
        return rollouts, labels, {}
