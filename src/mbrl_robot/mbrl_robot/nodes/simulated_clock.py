# SPDX-License-Identifier: Apache-2.0
"""Ticks when a stamp of joint_states crosses k * period: the control periods are those of the simulator's time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from rclpy.time import Time
from sensor_msgs.msg import JointState

from mbrl_core.messages import EndReason
from mbrl_msgs.srv import ResetBackend
from mbrl_robot.episode import Episode, EpisodeRequest
from mbrl_robot.nodes.realtime_clock import RealtimeClock
from mbrl_robot.simulated_time import SimulatedTime
from mbrl_robot.state_estimation import JointStatesRefused, Sample
from mbrl_ros.steady import now_ns

if TYPE_CHECKING:
    from mbrl_robot.nodes.robot_node import RobotNode

# A command is repeated after a control period of steady time, so that neither watchdog nor splitter hears silence while
# the simulator is slow or paused. It is looked for this often in that time.
LOOKS_PER_PERIOD = 2


class SimulatedClock(RealtimeClock):
    """For a simulator that runs by itself, at whatever real-time factor, and may pause, jump ahead or begin anew.

    All that counts periods counts stamps: ticks, the offset of commands, the wait for the first plan. Nothing happens
    while they stand still, but that the last command is repeated. An episode ends with FAULT when time goes back in its
    course, or when nobody publishes joint_states any more.
    """

    def __init__(self, node: RobotNode) -> None:
        self._time = SimulatedTime(round(node.spec.period * 1e9))
        self._decide_at_ns: int | None = None
        # Newest stamp before the reset, and how often time had begun anew.
        self._before_reset: tuple[int | None, int] = (None, 0)
        super().__init__(node)
        self._tick_timer.timer_period_ns = self.period_ns // LOOKS_PER_PERIOD
        self._tick_timer.reset()

    def ready_to_reset(self) -> bool:
        """Nobody is waited for. Time may begin anew from here on."""
        self._before_reset = (self._time.stamp_ns, self._time.beginnings)
        return True

    def begin(
        self, reset: ResetBackend.Response, request: EpisodeRequest, controller: str, started: Callable[[], None]
    ) -> None:
        """Waits for joint states newer than the reset; FIRST is the first of them."""
        stamp_ns, beginnings = self._before_reset
        if stamp_ns is not None and reset.stamp_ns < stamp_ns and self._time.beginnings == beginnings:
            # What is still on its way here is from before, and has newer stamps than what comes after.
            self._time.expect_restart(now_ns())
        self._estimator.restart(reset.stamp_ns)
        self.node.control.restart(np.array(reset.state))

        def start() -> None:
            self._first(self.node.begin_episode(request, controller), now_ns())
            started()

        self._start = start

    def _take_joint_states(self, message: JointState) -> None:
        stamp_ns, arrival_ns = Time.from_msg(message.header.stamp).nanoseconds, now_ns()
        if self._time.standing_ns(arrival_ns) > self._timeout_ns and stamp_ns != self._time.stamp_ns:
            self._time.resumed(arrival_ns)
        if self._time.update(stamp_ns, arrival_ns):
            self._begun_anew(stamp_ns)
        if self._time.awaits_restart(arrival_ns):
            return
        try:
            sample = self._estimator.update(message.name, message.position, message.velocity, stamp_ns, arrival_ns)
        except JointStatesRefused as error:
            self.node.health.refuse(f"joint_states/{error.reason}", str(error))
            return
        self.node.health.set("real_time_factor", self._time.factor)
        if sample is not None:
            self._pass(sample)

    def _begun_anew(self, stamp_ns: int) -> None:
        """The simulator has been reset, by us between two episodes or by anybody at any time."""
        self._estimator.restart(stamp_ns)
        self._sent.restart(self.node.control.guard.last)
        episode = self.node.episode
        if episode is not None:
            text = f"joint_states: time went back to {stamp_ns * 1e-9:.3f} s in the course of an episode"
            self.node.health.refuse("joint_states/time_backwards", f"{text}: it ends")
            episode.request_end(EndReason.FAULT)
            self._end_now(episode)

    def _pass(self, sample: Sample) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            self._origin_ns = sample.stamp_ns
            start()
            return
        episode = self.node.episode
        if episode is None:
            return
        # The stamp that is nearest to the tick's time, not the first one after it: they need not divide the period.
        half_ns = min(self._estimator.expected_interval_ns // 2, self.period_ns // 4)
        step = (sample.stamp_ns - self._origin_ns + half_ns) // self.period_ns
        if step > episode.step:
            self._advance(episode, step, sample)
        elif self._decide_at_ns is not None and sample.stamp_ns + half_ns >= self._decide_at_ns:
            self._send_at_offset()

    def _advance(self, episode: Episode, step: int, sample: Sample) -> None:
        time_ns = now_ns()
        self._end_interval(episode, step, sample, time_ns, sample.stamp_ns - self._origin_ns - step * self.period_ns)
        episode.advance(step)
        self._serve(episode, time_ns)

    def _tick(self) -> None:
        """On the steady clock: what has to go on while simulated time stands still."""
        time_ns = now_ns()
        episode = self.node.episode
        if time_ns - self._last_command_ns >= self.period_ns - self.period_ns // LOOKS_PER_PERIOD // 2:
            if episode is None:
                self._between_episodes(time_ns)
            elif episode.interval is None:
                self._send_safe(time_ns)
            else:
                self._last_command_ns = self.node.send(episode.interval.decision)
        if episode is None or self._time.standing_ns(time_ns) <= self._timeout_ns:
            return
        if not self.node.count_publishers("joint_states"):
            self.node.health.refuse("joint_states/stale", "joint_states: nobody publishes them: the episode ends")
            episode.request_end(EndReason.FAULT)
        if episode.end_reason != EndReason.NOT_ENDED:
            self._end_now(episode)

    def _end_now(self, episode: Episode) -> None:
        """LAST with the last known state: no tick will come, or none of this episode."""
        self._undecided = False
        self._decide_at_ns = None
        episode.invalidate()
        episode.advance(episode.step + 1)
        self._serve(episode, now_ns())

    def _decide_after(self, wait_ns: int) -> None:
        assert self._sample is not None
        self._decide_at_ns = self._sample.stamp_ns + wait_ns

    def _send_at_offset(self) -> None:
        self._decide_at_ns = None
        super()._send_at_offset()

    def _in_clock(self, time_ns: int) -> int:
        return self._time.now_ns(time_ns)

    def _sampled_ns(self, sample: Sample) -> int:
        return sample.stamp_ns
