# SPDX-License-Identifier: Apache-2.0
"""Steps the backend by service and waits for every answer: same seed, same bytes."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from rclpy.task import Future

from mbrl_core.messages import EndReason
from mbrl_core.specs import Array
from mbrl_msgs.msg import LearnerStatus
from mbrl_msgs.srv import ResetBackend, StepBackend
from mbrl_robot.control import Decision
from mbrl_robot.episode import EpisodeRequest
from mbrl_robot.executor import SAFE
from mbrl_robot.nodes.clock import ControlClock
from mbrl_robot.sent_commands import SentCommands
from mbrl_ros import qos
from mbrl_ros.conversions import to_doubles
from mbrl_ros.steady import now_ns, steady_timer

if TYPE_CHECKING:
    from mbrl_robot.nodes.robot_node import RobotNode

WATCH_PERIOD = 0.1


class Waiting(Enum):
    """What the clock waits for."""

    NOTHING = "nothing"
    PLAN = "a plan"
    BACKEND = "the backend"
    LEARNER = "learner_status"
    PACE = "its pace"


class LockstepClock(ControlClock):
    """At step k: publish, wait for the selected controller's answer to k, step the backend, wait for the learner.

    The row of step k comes from plans that answer k - delay_steps or earlier, as it would in realtime with that delay.
    A wait that takes longer than lockstep_timeout ends the episode with FAULT.
    """

    def __init__(self, node: RobotNode) -> None:
        super().__init__(node)
        configuration = node.configuration
        self._delay = configuration.delay_steps
        self._timeout_ns = round(configuration.lockstep_timeout * 1e9)
        self._synchronise = configuration.synchronise_learner
        self._pace_ns = round(self.period_ns / configuration.lockstep_pace) if configuration.lockstep_pace > 0.0 else 0
        self._waiting = Waiting.NOTHING
        self._deadline_ns = 0
        self._next_publication_ns = 0
        self._sent = SentCommands(node.control.guard.last, self.period_ns, self.delay_ns)
        self._observation = node.robot.observation
        # Whole, and what everybody sees of it.
        self._state: Array = np.zeros(self._observation.whole.size)
        self._seen: Array = self._observation.first(self._state)
        self._sample_time_ns = 0
        # Newest (episode, step) that the learner has digested, its model version then, and the last one published.
        self._digested = (0, 0)
        self._model_version = 0
        self._published = (0, 0)
        self._backend = node.create_client(StepBackend, "step_backend")
        self._pace_timer = steady_timer(node, 1.0, self._pace_over)
        self._pace_timer.cancel()
        # Signals are served between callbacks, so this also bounds how long one has to wait.
        steady_timer(node, WATCH_PERIOD, self._watch)
        if self._synchronise:
            node.create_subscription(
                LearnerStatus,
                "learner_status",
                self._take_learner_status,
                qos.STATUS,
                event_callbacks=qos.QUIET_SUBSCRIPTION,
            )

    @property
    def next_step(self) -> int:
        """First step of the running episode that has got no action yet."""
        episode = self.node.episode
        return 0 if episode is None else episode.step + (self._waiting != Waiting.PLAN)

    def ready_to_reset(self) -> bool:
        """Whether the learner has digested all that was published."""
        return not self._synchronise or self._digested >= self._published

    def begin(
        self, reset: ResetBackend.Response, request: EpisodeRequest, controller: str, started: Callable[[], None]
    ) -> None:
        """Publishes FIRST at once."""
        episode = self.node.begin_episode(request, controller)
        if self._synchronise:
            episode.required_model_version = max(request.required_model_version, self._model_version)
        self.node.control.guard.restart()
        self._state = np.array(reset.state)
        self.node.control.restart(self._state)
        self._sent.restart(self.node.control.guard.last)
        self._seen = self._observation.first(self._state, self.node.control.guard.last)
        self._sample_time_ns = now_ns()
        self._next_publication_ns = self._sample_time_ns
        self._publish()
        started()

    def cancel_begin(self) -> None:
        """Nothing is pending between the reset and FIRST."""

    def request_end(self, reason: EndReason) -> None:
        """Ends the episode at the next tick; what is executed until then is what the chain has."""
        if self.node.episode is not None:
            self.node.episode.request_end(reason)
            self.plan_taken()

    def plan_taken(self) -> None:
        """Steps on when the plan that is waited for has come."""
        episode = self.node.episode
        if episode is None or self._waiting != Waiting.PLAN:
            return
        executor = self.node.control.executor
        ending = episode.end_reason != EndReason.NOT_ENDED
        if ending or executor.selected == SAFE or executor.answered(executor.selected, episode.step):
            self._step()

    def emergency_stop(self) -> None:
        """The step under way gets the safe action unless it has been sent; LAST follows it."""
        self.request_end(EndReason.FAULT)

    def _publish(self) -> None:
        episode = self.node.episode
        assert episode is not None
        last = episode.end_reason != EndReason.NOT_ENDED
        committed = self.node.control.committed_actions(
            episode.step, self._state, 0 if last else self.committed_rows, decided=False,
            newest_answer=episode.step - self._delay,
        )  # fmt: skip
        coming = self._sent.coming(episode.step * self.period_ns, 0, committed, decided=False)
        time_step = episode.time_step(self._seen, coming, episode.interval)
        self._published = (episode.number, episode.step)
        self._wait(Waiting.NOTHING if last else Waiting.PLAN)
        stamp_ns = self.node.get_clock().now().nanoseconds
        self.node.publish_time_step(time_step, self._sample_time_ns, stamp_ns, episode.interval)
        self._next_publication_ns += self._pace_ns
        if last:
            self.node.finish_episode()
        else:
            self.plan_taken()

    def _step(self) -> None:
        episode = self.node.episode
        assert episode is not None
        period = self.node.spec.period
        decision: Decision
        if episode.end_reason == EndReason.FAULT:
            decision = self.node.control.safe(self._state, period)
        else:
            decision = self.node.control.decide(
                episode.step, self._state, period, episode.step - self._delay, self._seen
            )
        self._wait(Waiting.BACKEND)
        request = StepBackend.Request(
            episode=episode.number, expected_step=episode.step, command=to_doubles(decision.command)
        )
        time_ns = now_ns()
        future = self._backend.call_async(request)
        # The backend takes the command from the request; the topic shows it to whoever listens.
        self.node.send(decision)
        begin_ns = episode.step * self.period_ns
        self._sent.add(begin_ns, decision.action)
        episode.executed(decision, time_ns, self._sent.executed(begin_ns)[0])
        self.node.note_decision(decision)
        expected = self._published
        future.add_done_callback(lambda done: self._stepped(done, expected))

    def _stepped(self, future: Future, expected: tuple[int, int]) -> None:
        episode = self.node.episode
        if self._waiting != Waiting.BACKEND or episode is None or expected != self._published:
            return
        response = future.result()
        if response is None or not response.success or response.step != episode.step + 1:
            text = "no answer" if response is None else response.message or f"is at step {response.step}"
            self._fault(f"step_backend: {text}, expected step {episode.step + 1}")
            return
        state = np.array(response.state)
        if state.shape != self._state.shape or not np.isfinite(state).all():
            self._fault(f"step_backend: state {state.tolist()}, expected {self._state.size} finite numbers")
            return
        self._state, self._sample_time_ns = state, now_ns()
        assert episode.interval is not None
        self._seen = self._observation.following(self._seen, state, episode.interval.action)
        self._wait(Waiting.LEARNER)
        self._learner_done()

    def _learner_done(self) -> None:
        episode = self.node.episode
        if self._waiting != Waiting.LEARNER or episode is None:
            return
        if self._synchronise:
            if self._digested < self._published:
                return
            episode.required_model_version = max(episode.request.required_model_version, self._model_version)
        if self._pace_ns:
            self._wait(Waiting.PACE)
            delay_ns = self._next_publication_ns - now_ns()
            if delay_ns > 0:
                self._pace_timer.timer_period_ns = delay_ns
                self._pace_timer.reset()
                return
        self._next()

    def _pace_over(self) -> None:
        self._pace_timer.cancel()
        if self._waiting == Waiting.PACE:
            self._next()

    def _next(self) -> None:
        episode = self.node.episode
        assert episode is not None
        self.node.statistics.tick(now_ns() * 1e-9, 0.0, 0.0, 0)
        episode.advance(episode.step + 1)
        self._publish()

    def _take_learner_status(self, message: LearnerStatus) -> None:
        if message.interface_hash != self.node.interface_hash:
            self.node.health.refuse("learner_status/other_interface", "learner_status: another interface")
            return
        digested = (message.episode, message.step)
        if digested > self._published:
            # From a learner that has outlived an earlier robot_node.
            self.node.health.refuse(
                "learner_status/from_the_future", f"learner_status: {digested}, expected at most {self._published}"
            )
            return
        self._digested, self._model_version = digested, message.model_version
        self._learner_done()

    def _wait(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._deadline_ns = now_ns() + self._timeout_ns

    def _watch(self) -> None:
        if self._waiting in (Waiting.NOTHING, Waiting.PACE) or now_ns() < self._deadline_ns:
            return
        episode = self.node.episode
        assert episode is not None
        executor = self.node.control.executor
        whose = f" from {executor.selected!r}" if self._waiting == Waiting.PLAN else ""
        waited = f"waited {self._timeout_ns * 1e-9:g} s for {self._waiting.value}{whose}"
        text = f"step {episode.step} of episode {episode.number}: {waited}"
        if self._waiting == Waiting.PLAN:
            # The backend still answers: the last time step can carry a true state.
            self.node.health.refuse("lockstep_timeout", text + ": the episode ends")
            self.request_end(EndReason.FAULT)
        else:
            self._fault(text)

    def _fault(self, text: str) -> None:
        """Publishes LAST with the last known state: no true one will come any more."""
        episode = self.node.episode
        assert episode is not None
        self.node.health.refuse("lockstep_fault", text + ": the episode ends")
        if self._waiting == Waiting.BACKEND:
            episode.invalidate()
        episode.request_end(EndReason.FAULT)
        episode.advance(episode.step + 1)
        self._publish()
