# SPDX-License-Identifier: Apache-2.0
"""What all algorithms that imitate a planner share: labels that add up, asked of a teacher."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.policies import ChunkPolicy
from mbrl_planner.planner import Objective, Planner
from mbrl_planner.registry import configure_planner
from mbrl_policy.imitation.labelled import LabelledConfig, LabelledTraining
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.training import Progress, Rollout, RolloutError, TrainingInterrupted, TrainingRobot
from mbrl_policy.training.predictive_teacher import planner_of


@dataclass(frozen=True)
class ImitationConfig(LabelledConfig):
    """Parameters of all that imitate a planner."""

    rollouts: int = parameter(4, "episodes an iteration in which the teacher is asked", minimum=1, maximum=10_000)


class ImitationAlgorithm(LabelledTraining):
    """Gathers labels, fits the policy to all of them, tries it; kinds say how labels are gathered.

    The teacher plans with the settings `planner` through `model`, known or learned, or through any `objective` that is
    given instead; it sees the whole state, the policy what its settings say. Demonstrations are labels to begin with.
    `Progress.information` has `failures`, episodes of this iteration's gathering that the task ended, `labels`, all so
    far, and `lost_rollouts`, those that the robot could not do.

    Raises ConfigurationError on a planner that does not fit, without model and objective, and on a policy of chunks
    where the teacher does not move the robot itself: what it would have done next is then not known.
    """

    needs = ("planner",)
    teacher_moves = False  # from every label to the next
    config: ImitationConfig

    def __init__(
        self, config: Any, robot: TrainingRobot, seed: int, *, objective: Objective | None = None, **sources: Any
    ) -> None:
        super().__init__(config, robot, seed, **sources)
        if self.model is None and objective is None:
            raise ConfigurationError(f"trainer {self.kind!r}: got no model, expected one: its teacher plans through it")
        if isinstance(self.network, ChunkPolicy) and not self.teacher_moves:
            raise ConfigurationError(
                f"parameter 'policy.kind': got 'chunks' for trainer {self.kind!r}, expected another kind, or trainer"
                " behavioural_cloning, noise_injection or gated_dagger: here a teacher says one action a state"
            )
        self.objective = objective
        assert self.planner is not None
        configure_planner(self.planner)

    @abstractmethod
    def _gather(self, keep_going: Callable[[], bool]) -> tuple[list[Rollout], list[Labels], dict[str, float]]:
        """New rollouts, their labels, and what else there is to tell. Raises TrainingError, RolloutError,
        TrainingInterrupted.
        """

    def _iterate(self, keep_going: Callable[[], bool]) -> Progress:
        if not self.fitted and len(self.labels) >= 2:
            self._fit(keep_going)  # to the demonstrations
        rollouts, labels, information = self._gather(keep_going)
        self.labels = Labels.joined([self.labels, *labels])
        loss = self._fit(keep_going)
        mean_return = self._tried(keep_going)
        told = {
            "failures": float(sum(rollout.terminated for rollout in rollouts)),
            "labels": float(len(self.labels)),
            "lost_rollouts": float(self.config.rollouts - len(rollouts)),
            **information,
        }
        return Progress(0, mean_return, told.get("divergence", math.nan), loss, information=told)

    def _planner(self, objective: Objective | None = None) -> Planner:
        """A new one: what a planner learns from episode to episode would otherwise be lost when training resumes."""
        assert self.planner is not None
        robot = self.robot
        return planner_of(
            self.planner, robot.spec, self.model, robot.task, self.torch_seed("planner"), objective or self.objective
        )

    def _episodes(
        self, episode: Callable[[int], tuple[Rollout, Labels]], keep_going: Callable[[], bool]
    ) -> tuple[list[Rollout], list[Labels]]:
        """As many as the configuration says, less those that the robot could not do. Raises RolloutError when it could
        do none, TrainingInterrupted.
        """
        done: list[tuple[Rollout, Labels]] = []
        lost: RolloutError | None = None
        for index in range(self.config.rollouts):
            if not keep_going():
                raise TrainingInterrupted
            try:
                done.append(episode(index))
            except RolloutError as error:
                lost = error
            else:
                self.rollouts += 1
        if not done:
            assert lost is not None
            raise lost
        return [rollout for rollout, _ in done], [labels for _, labels in done]
