# SPDX-License-Identifier: Apache-2.0
"""The robot of a running graph, as training algorithms see it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from mbrl_core.policies import Policy
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_core.tasks import Task
from mbrl_core.trial import Controller
from mbrl_policy.live_rollout import Answerer, Disturbed, controller_answers, policy_answers
from mbrl_policy.training import Rollout, RolloutError, TrainingInterrupted, TrainingRobot
from mbrl_policy.training.rollouts import action_noise

WAKE_SECONDS = 0.1


@dataclass
class RolloutRequest:
    """A rollout that a training thread waits for. Whoever runs it sets `rollout` or `error`, then `done`."""

    answer: Answerer
    start: Array
    exact_start: bool
    steps: int
    seed: int
    start_index: int | None
    rollout: Rollout | None = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def finish(self, result: Rollout | Exception) -> None:
        """Hands the result over."""
        if isinstance(result, Rollout):
            self.rollout = result
        else:
            self.error = result
        self.done.set()


class GraphRobot(TrainingRobot):
    """Rollouts of the robot in the graph. Its methods belong to the training thread: they wait, `submit` does not.

    A rollout that was disturbed (a lost time step, too many steps that another controller had to serve, somebody who
    ended the episode) is tried again, `attempts` times in all. In lockstep a rollout is that of `SimulatedRobot`.
    """

    def __init__(
        self,
        robot: Robot,
        task: Task,
        steps: int | None,
        submit: Callable[[RolloutRequest], object],
        keep_going: Callable[[], bool],
        attempts: int = 3,
    ) -> None:
        """`submit` passes a request to the thread that runs the node. Raises ConfigurationError, ValueError."""
        super().__init__(robot, task, steps)
        self._submit = submit
        self._keep_going = keep_going
        self._attempts = attempts
        self.disturbed = 0  # rollouts so far

    def rollout(
        self,
        policy: Policy,
        start: Array | None = None,
        steps: int | None = None,
        seed: int = 0,
        sampled: bool = False,
        start_index: int | None = None,
    ) -> Rollout:
        """See `TrainingRobot.rollout`. Raises TrainingInterrupted beside what that does."""
        length = self.checked_steps(steps, policy)
        noise = action_noise(seed, length, self.spec.action.size) if sampled else None
        return self._run(lambda: policy_answers(policy, noise), start, length, seed, start_index)

    def rollout_controller(
        self,
        controller: Controller,
        start: Array | None = None,
        steps: int | None = None,
        seed: int = 0,
        start_index: int | None = None,
    ) -> Rollout:
        """See `TrainingRobot.rollout_controller`; the time steps' episode number is the robot's own. Raises
        TrainingInterrupted beside what that does.
        """
        length = self.checked_steps(steps)
        return self._run(lambda: controller_answers(controller, self.spec), start, length, seed, start_index)

    def _run(
        self, make_answers: Callable[[], Answerer], start: Array | None, steps: int, seed: int, start_index: int | None
    ) -> Rollout:
        state = self.checked_start(start, seed)
        for _ in range(self._attempts):
            request = RolloutRequest(make_answers(), state, start is not None, steps, seed, start_index)
            self._submit(request)
            while not request.done.wait(WAKE_SECONDS):
                if not self._keep_going():
                    request.cancelled.set()
                    raise TrainingInterrupted("a rollout was under way")
            if request.rollout is not None:
                return request.rollout
            assert request.error is not None
            if not isinstance(request.error, Disturbed):
                raise request.error
            self.disturbed += 1
        assert isinstance(request.error, RolloutError)
        raise RolloutError(f"{request.error}; tried {self._attempts} times")
