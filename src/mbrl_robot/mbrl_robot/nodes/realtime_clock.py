# SPDX-License-Identifier: Apache-2.0
"""Ticks on the steady clock at t0 + k * period."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from rclpy.time import Time
from rclpy.timer import Timer
from sensor_msgs.msg import JointState

from mbrl_core.messages import EndReason
from mbrl_core.specs import Array
from mbrl_msgs.srv import ResetBackend
from mbrl_robot.control import Decision
from mbrl_robot.episode import Episode, EpisodeRequest
from mbrl_robot.executor import HOMING
from mbrl_robot.nodes.clock import ControlClock
from mbrl_robot.nodes.sensor_topics import subscribe
from mbrl_robot.observed_history import ObservedHistory
from mbrl_robot.sensor_states import SensorStates
from mbrl_robot.sent_commands import SentCommands
from mbrl_robot.state_estimation import JointStatesRefused, Sample, StateEstimator
from mbrl_ros import qos
from mbrl_ros.steady import now_ns, steady_timer

if TYPE_CHECKING:
    from mbrl_robot.nodes.robot_node import RobotNode

# A tick comes this fraction of the interval of joint states after their expected arrival: late enough that the newest
# is there in spite of jitter, early enough that the sample is fresh.
PHASE_MARGIN = 0.4
LONGEST_MARGIN_NS = 1_000_000
ARRIVALS_TO_ALIGN = 5
# Share of a period that the first action of an episode is waited for: no earlier plan can have a row for it.
FIRST_WAIT = 0.75
# An interval whose samples are further than this fraction of a period from one period apart is no transition.
LARGEST_IRREGULARITY = 0.25


class RealtimeClock(ControlClock):
    """Samples joint_states and sends commands on the command topic.

    The action of interval k is sent at t_k + command_offset. A tick that comes too late for its step is left out: step
    numbers are times, and nothing is paired that is not one period apart. Between episodes the safe action is sent.
    """

    def __init__(self, node: RobotNode) -> None:
        super().__init__(node)
        self._timeout_ns = round(node.configuration.joint_states_timeout * 1e9)
        sensors = SensorStates(node.robot, self._timeout_ns)
        subscribe(node, sensors, node.health)
        self._estimator = StateEstimator(node.robot, sensors=sensors)
        self._history = ObservedHistory(node.robot.observation)
        self._offset = node.robot.command_offset
        self._origin_ns = 0
        self._arrival_ns = 0
        self._sample: Sample | None = None
        self._undecided = False
        self._sample_ns = 0
        # A command leaves some time after the sample, and acts the robot's own delay later.
        self._late_ns = 0
        self._sent = SentCommands(node.control.guard.last, self.period_ns, self.delay_ns)
        self._last_command_ns = now_ns()
        self._reset_ns = 0
        self._start: Callable[[], None] | None = None
        self._start_timer: Timer | None = None
        self._offset_timer = steady_timer(node, max(self._offset, 1e-3), self._send_at_offset)
        self._offset_timer.cancel()
        self._tick_timer = steady_timer(node, node.spec.period, node.statistics.timed(self._tick))
        node.create_subscription(
            JointState,
            "joint_states",
            self._take_joint_states,
            qos.JOINT_STATES,
            event_callbacks=qos.QUIET_SUBSCRIPTION,
        )

    @property
    def next_step(self) -> int:
        """First step of the running episode that has got no action yet."""
        episode = self.node.episode
        return 0 if episode is None else episode.step + (not self._undecided)

    def ready_to_reset(self) -> bool:
        """Nobody is waited for in realtime."""
        return True

    def begin(
        self, reset: ResetBackend.Response, request: EpisodeRequest, controller: str, started: Callable[[], None]
    ) -> None:
        """Waits for joint states newer than the reset, then starts just after the expected arrival of one."""
        self._estimator.restart(reset.stamp_ns)
        self.node.control.restart(np.array(reset.state))

        def start() -> None:
            self._first(self.node.begin_episode(request, controller), self._origin_ns)
            started()

        self._start = start

    @property
    def state(self) -> Array | None:
        """State [state_size] now; None while it is unknown."""
        return self._state_or_none(now_ns())

    def resetting(self) -> None:
        """A robot that is driven by positions hears nothing for a period: the old one would undo the reset."""
        self._reset_ns = now_ns()

    def cancel_begin(self) -> None:
        """Gives up a start that has not come to FIRST."""
        self._start = None

    def request_end(self, reason: EndReason) -> None:
        """Ends the running episode at the next tick."""
        if self.node.episode is not None:
            self.node.episode.request_end(reason)

    def plan_taken(self) -> None:
        """The next tick will see it; only the first action of an episode is waited for."""
        episode = self.node.episode
        if episode is None or not self._undecided or episode.interval is not None:
            return
        executor = self.node.control.executor
        if executor.answered(executor.selected, episode.step):
            self._send_at_offset()

    def emergency_stop(self) -> None:
        """Sends the safe action at once; LAST comes at the next tick."""
        self._undecided = False
        self._offset_timer.cancel()
        decision = self._send_safe(now_ns())
        if self.node.episode is not None:
            self.node.episode.interrupted(decision, self._last_command_ns)
            self.node.episode.request_end(EndReason.FAULT)

    def _take_joint_states(self, message: JointState) -> None:
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        try:
            sample = self._estimator.update(message.name, message.position, message.velocity, stamp_ns, now_ns())
        except JointStatesRefused as error:
            self.node.health.refuse(f"joint_states/{error.reason}", str(error))
            return
        self._arrival_ns = now_ns()
        # One arrival may be late: the phase is that of several.
        aligned = self._estimator.arrivals >= ARRIVALS_TO_ALIGN
        if sample is not None and aligned and self._start is not None and self._start_timer is None:
            self._align(sample)

    def _align(self, sample: Sample) -> None:
        margin_ns = min(round(PHASE_MARGIN * self._estimator.expected_interval_ns), LONGEST_MARGIN_NS)
        delay_ns = sample.stamp_ns + self._estimator.expected_delay_ns + margin_ns - now_ns()
        self._start_timer = steady_timer(self.node, max(delay_ns, 0) * 1e-9, self._start_now)

    def _start_now(self) -> None:
        assert self._start_timer is not None
        # Before anything else, which would take time: ticks come whole periods after this moment, without drift.
        self._tick_timer.reset()
        self._origin_ns = now_ns()
        self.node.destroy_timer(self._start_timer)
        self._start_timer = None
        start, self._start = self._start, None
        if start is not None:
            start()

    def _first(self, episode: Episode, time_ns: int) -> None:
        self._sample = self._estimator.latest
        assert self._sample is not None
        self._history.begin(self._sample.state, self.node.control.guard.last)
        self._serve(episode, time_ns)

    def _tick(self) -> None:
        time_ns = now_ns()
        episode = self.node.episode
        self.node.gate.check(states_come=time_ns - self._arrival_ns <= self._timeout_ns)
        if episode is None:
            self._between_episodes(time_ns)
            return
        step, lateness_ns = divmod(time_ns - self._origin_ns + self.period_ns // 2, self.period_ns)
        lateness_ns -= self.period_ns // 2
        if step <= episode.step:
            return
        sample = self._estimator.latest
        assert sample is not None
        sample_age_ns = time_ns - sample.arrival_ns
        self._end_interval(episode, step, sample, time_ns, lateness_ns)
        if sample_age_ns > self._timeout_ns:
            text = f"joint_states: the newest is {sample_age_ns * 1e-9:.3f} s old, expected at most"
            self.node.health.refuse("joint_states/stale", f"{text} {self._timeout_ns * 1e-9:g} s: the episode ends")
            episode.request_end(EndReason.FAULT)
        episode.advance(step)
        self._serve(episode, time_ns)

    def _end_interval(self, episode: Episode, step: int, sample: Sample, time_ns: int, lateness_ns: int) -> None:
        """Closes the interval before tick `step`, sampled by `sample`: whether it can be learned from, and figures."""
        undecided = self._undecided
        self._send_at_offset()
        before, self._sample = self._sample, sample
        assert before is not None
        missed = step - episode.step - 1
        self.node.statistics.tick(time_ns * 1e-9, lateness_ns * 1e-9, (time_ns - sample.arrival_ns) * 1e-9, missed)
        apart_ns = sample.stamp_ns - before.stamp_ns
        if undecided or abs(apart_ns - (missed + 1) * self.period_ns) > LARGEST_IRREGULARITY * self.period_ns:
            self.node.statistics.irregular += 1
            episode.invalidate()
        assert episode.interval is not None
        if not self._history.follow(sample.state, episode.interval.action, missed):
            episode.invalidate()
        episode.held(missed)

    def _serve(self, episode: Episode, time_ns: int) -> None:
        """Sends the action of the interval that begins now, then publishes the one that ended."""
        sample, interval = self._sample, episode.interval
        assert sample is not None
        self._sample_ns = self._sampled_ns(sample)
        last = episode.end_reason != EndReason.NOT_ENDED
        wait = max(self._offset, FIRST_WAIT * self.node.spec.period) if interval is None else self._offset
        self._undecided = not last and wait > 0.0
        if last:
            self._send_safe(time_ns)
        elif self._undecided:
            self._decide_after(round(wait * 1e9))
        else:
            self._decide(episode)
        committed = self.node.control.committed_actions(
            episode.step, sample.state, 0 if last else self.committed_rows, decided=not self._undecided
        )
        coming = self._sent.coming(self._sample_ns, self._late_ns, committed, decided=not self._undecided)
        time_step = episode.time_step(self._history.state, coming, interval)
        self.node.publish_time_step(time_step, time_ns, sample.stamp_ns, interval)
        if last:
            self.node.finish_episode()

    def _decide_after(self, wait_ns: int) -> None:
        self._offset_timer.timer_period_ns = wait_ns
        self._offset_timer.reset()

    def _send_at_offset(self) -> None:
        self._offset_timer.cancel()
        if self.node.episode is not None and self._undecided:
            self._undecided = False
            self._decide(self.node.episode)

    def _decide(self, episode: Episode) -> None:
        assert self._sample is not None
        decision = self.node.control.decide(
            episode.step, self._sample.state, self.node.spec.period, seen=self._history.state
        )
        self._last_command_ns = self.node.send(decision)
        self._late_ns = min(max(self._in_clock(self._last_command_ns) - self._sample_ns, 0), self.period_ns)
        self._sent.add(self._sample_ns + self._late_ns, decision.action)
        episode.executed(decision, self._last_command_ns, self._sent.executed(self._sample_ns)[0])
        if self.node.dry_run is not None:
            # Nothing was executed, so there is nothing to be learned.
            episode.invalidate()
        self.node.note_decision(decision)

    def _between_episodes(self, time_ns: int) -> None:
        if not self.node.gate.is_open:
            return
        action = self.node.homing.action(time_ns)
        if action is None:
            if self.node.robot.interface != "position" or time_ns - self._reset_ns > self.period_ns:
                self._send_safe(time_ns)
            self.node.homing.is_done()
            return
        self.node.set_active(HOMING, "on the way to the start")
        decision = self.node.control.homing(action, self._state_or_none(time_ns), self.node.spec.period)
        self._last_command_ns = self.node.send(decision)

    def _send_safe(self, time_ns: int) -> Decision:
        # A tick may come soon after an emergency stop: the slew limit counts from there.
        elapsed = min((time_ns - self._last_command_ns) * 1e-9, self.node.spec.period)
        decision = self.node.control.safe(self._state_or_none(time_ns), elapsed)
        self._last_command_ns = self.node.send(decision)
        self._sent.add(self._in_clock(self._last_command_ns), decision.action)
        return decision

    def _in_clock(self, time_ns: int) -> int:
        """A steady time in the clock that control periods are counted in."""
        return time_ns

    def _sampled_ns(self, sample: Sample) -> int:
        """When a sample was taken, in the clock of the periods: its stamp, if the source has our clock, or arrival."""
        behind_ns = self.node.get_clock().now().nanoseconds - sample.stamp_ns
        sampled_ns = now_ns() - behind_ns
        return sampled_ns if 0 <= sample.arrival_ns - sampled_ns <= self.period_ns else sample.arrival_ns

    def _state_or_none(self, time_ns: int) -> Array | None:
        sample = self._estimator.latest
        if self.node.gate.is_last_word and self.node.spec.action.interfaces[0] != "position":
            return None
        if sample is None or time_ns - sample.arrival_ns > self._timeout_ns:
            return None
        return sample.state
