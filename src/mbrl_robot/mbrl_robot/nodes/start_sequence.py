# SPDX-License-Identifier: Apache-2.0
"""The action start_episode: end the old episode, wait for the others, reset the backend, start."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future

from mbrl_core.messages import EndReason
from mbrl_msgs.action import StartEpisode
from mbrl_msgs.srv import ResetBackend
from mbrl_robot.episode import EpisodeRequest
from mbrl_robot.executor import SAFE
from mbrl_ros.conversions import to_doubles
from mbrl_ros.qos import ANSWER_TIMEOUT
from mbrl_ros.steady import now_ns, steady_timer

if TYPE_CHECKING:
    from mbrl_robot.nodes.robot_node import RobotNode

POLL_PERIOD = 0.02
LEARNER = "learner"
# Discovery is not symmetric in time.
SETTLING_TIME = 0.2  # s

# A reset that takes its time, as a person does, is asked for again and again.
PENDING_PERIOD = 0.2  # s


class Phase(Enum):
    """Phases of a start, in order. Others are waited for before the reset, so that the robot does not wait, moving."""

    ENDING = "ending"
    READINESS = "waiting_for_readiness"
    SUBSCRIBERS = "waiting_for_subscribers"
    RESETTING = "resetting"
    STATE = "waiting_for_state"


class StartSequence:
    """Serves start_episode, one goal at a time, as a state machine: no callback waits."""

    def __init__(self, node: RobotNode) -> None:
        self._node = node
        self._goal: ServerGoalHandle | None = None
        self._phase = Phase.ENDING
        self._entered_ns = 0
        self._reset_call: Future | None = None
        self._called_ns = 0
        self._ask_again_after = ANSWER_TIMEOUT
        self._missing = ""
        self._others: frozenset[str] = frozenset()
        self._others_since_ns = 0
        self._client = node.create_client(ResetBackend, "reset_backend")
        self._timer = steady_timer(node, POLL_PERIOD, self._poll)
        self._timer.cancel()
        # The goal is executed, that is concluded, when the sequence is over: an execute callback that waited would
        # block the executor.
        self._server = ActionServer(
            node,
            StartEpisode,
            "start_episode",
            execute_callback=self._conclude_with_failure,
            goal_callback=lambda goal: GoalResponse.ACCEPT,
            handle_accepted_callback=self._accept,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
        )

    def episode_ended(self) -> None:
        """LAST of the running episode has been published."""
        if self._goal is not None and self._phase == Phase.ENDING:
            self._enter(self._first_phase)

    @property
    def is_resetting(self) -> bool:
        """Whether the backend is on the way to its start."""
        return self._goal is not None and self._phase == Phase.RESETTING

    @property
    def _first_phase(self) -> Phase:
        return Phase.READINESS if self._node.gate.required else Phase.SUBSCRIBERS

    def fail(self, text: str) -> None:
        """Gives up the start under way, if there is one."""
        if self._goal is not None:
            self._node.clock.cancel_begin()
            self._conclude(success=False, text=f"start_episode: {text}")

    def _accept(self, goal: ServerGoalHandle) -> None:
        refusal = self._why_not(goal.request)
        if refusal:
            self._node.health.refuse("start_episode", f"start_episode: {refusal}")
            self._finish(goal, success=False, text=f"start_episode: {refusal}")
            return
        self._goal = goal
        self._reset_call = None
        self._timer.reset()
        # Whoever has heard of an episode before this process began must not hear its number again.
        self._node.episode_number = max(self._node.episode_number, goal.request.after_episode)
        if self._node.episode is None:
            self._enter(self._first_phase)
        else:
            self._enter(Phase.ENDING)
            self._node.clock.request_end(EndReason.ABORTED)

    def _why_not(self, request: StartEpisode.Goal) -> str:
        if self._goal is not None:
            return "another start is under way"
        if self._node.control.guard.emergency_stop:
            return "the emergency stop is latched, call reset_emergency_stop first"
        size = self._node.spec.state.size
        if len(request.start_state) not in (0, size) or not np.isfinite(request.start_state).all():
            return f"start_state {list(request.start_state)}, expected {size} finite numbers or none"
        for name in filter(None, (request.controller, *request.required_controllers)):
            try:
                self._node.control.executor.check_controller(name)
            except ValueError as error:
                return str(error)
        return ""

    def _enter(self, phase: Phase) -> None:
        assert self._goal is not None
        self._phase = phase
        self._entered_ns = now_ns()
        self._goal.publish_feedback(StartEpisode.Feedback(phase=phase.value))

    def _poll(self) -> None:
        goal = self._goal
        if goal is None:
            self._timer.cancel()
        elif goal.is_cancel_requested:
            self.fail("cancelled")
        elif now_ns() - self._entered_ns > self._node.configuration.start_timeout * 1e9:
            timeout = self._node.configuration.start_timeout
            self.fail(f"waited {timeout:g} s in phase {self._phase.value}{self._missing}")
        elif self._phase == Phase.READINESS:
            self._look_for_robot()
        elif self._phase == Phase.SUBSCRIBERS:
            self._look_for_others()
        elif self._phase == Phase.RESETTING:
            self._reset()

    def _look_for_robot(self) -> None:
        missing = self._node.gate.missing
        self._missing = f": {missing}" if missing else ": no command has been sent yet"
        if not missing and self._node.gate.is_open:
            self._enter(Phase.SUBSCRIBERS)

    def _look_for_others(self) -> None:
        assert self._goal is not None
        node = self._node
        wanted = {name for name in self._goal.request.required_controllers if name != SAFE}
        subscribers = {info.node_name for info in node.get_subscriptions_info_by_topic(node.time_steps.topic_name)}
        publishers = {info.node_name for info in node.get_publishers_info_by_topic(node.plans.topic_name)}
        missing = sorted(wanted - (subscribers & publishers))
        missing += sorted(set(self._goal.request.required_subscribers) - subscribers)
        synchronise = node.configuration.mode == "lockstep" and node.configuration.synchronise_learner
        if synchronise and LEARNER not in subscribers:
            missing.append(LEARNER)
        if missing:
            seen = ", ".join(sorted(subscribers | publishers)) or "nobody"
            self._missing = f": no node {missing[0]!r} with time_step and plan; there are {seen}"
        elif node.time_steps.get_subscription_count() < len(subscribers):
            self._missing = ": a subscriber of time_step does not match"
        elif not node.clock.ready_to_reset():
            self._missing = ": the learner has not digested the last episode"
        elif not self._has_settled(frozenset(subscribers | publishers)):
            self._missing = ": others have only just come"
        else:
            self._missing = ""
            self._enter(Phase.RESETTING)
            self._reset()

    def _has_settled(self, others: frozenset[str]) -> bool:
        """Whether the others have been the same for a while: we may have found them before they have found us."""
        if others != self._others:
            self._others, self._others_since_ns = others, now_ns()
        return now_ns() - self._others_since_ns >= SETTLING_TIME * 1e9

    def _reset(self) -> None:
        # Resetting twice with the same request gives the same state.
        if self._reset_call is not None and now_ns() - self._called_ns < self._ask_again_after * 1e9:
            return
        if self._reset_call is not None and not self._reset_call.done():
            self._renew_client()
        self._missing = ": no backend serves reset_backend"
        if not self._client.service_is_ready():
            return
        assert self._goal is not None
        request = self._goal.request
        start = np.array(request.start_state)
        if start.size:
            start = self._node.robot.observation.joint_state(start)
        self._called_ns, self._ask_again_after = now_ns(), ANSWER_TIMEOUT
        self._node.clock.resetting()
        self._reset_call = self._client.call_async(
            ResetBackend.Request(
                episode=self._node.episode_number + 1,
                seed=request.seed or self._node.configuration.seed,
                state=to_doubles(start),
            )
        )
        self._missing = ": reset_backend does not answer"
        self._reset_call.add_done_callback(self._was_reset)

    def _renew_client(self) -> None:
        """Where nobody answers, the two sides may have found each other by half: seen once in some dozen kills of a
        backend, for good. A client that is made anew is discovered anew.
        """
        assert self._reset_call is not None
        self._client.remove_pending_request(self._reset_call)
        self._reset_call = None
        self._node.destroy_client(self._client)
        self._client = self._node.create_client(ResetBackend, "reset_backend")

    def _was_reset(self, future: Future) -> None:
        if self._goal is None or self._reset_call is None or future is not self._reset_call:
            return
        response = future.result()
        sizes = self._reset_sizes()
        if response is not None and response.pending:
            # As long as it is worked on, it may take its time.
            self._enter(Phase.RESETTING)
            self._missing, self._ask_again_after = f": {response.message}", PENDING_PERIOD
        elif response is None or not response.success:
            self.fail(f"reset_backend: {'no answer' if response is None else response.message}")
        elif len(response.state) not in sizes or not np.isfinite(response.state).all():
            expected = " or ".join(str(size) for size in sizes)
            self.fail(f"reset_backend: state {list(response.state)}, expected {expected} finite numbers")
        else:
            self._missing = ": no joint_states newer than the reset"
            self._enter(Phase.STATE)
            request = self._goal.request
            episode_request = EpisodeRequest(
                max_steps=request.max_steps,
                seed=request.seed,
                required_task_version=request.required_task_version,
                required_model_version=request.required_model_version,
            )
            self._node.clock.begin(response, episode_request, request.controller, self._started)

    def _reset_sizes(self) -> tuple[int, ...]:
        """Lockstep starts from the whole state; otherwise sensors tell the rest of it, and joints are enough."""
        robot = self._node.robot
        whole, joints = robot.observation.whole.size, 2 * len(robot.joints)
        return (whole,) if self._node.configuration.mode == "lockstep" or whole == joints else (whole, joints)

    def _started(self) -> None:
        self._conclude(success=True, text="")

    def _conclude(self, success: bool, text: str) -> None:
        goal, self._goal, self._reset_call = self._goal, None, None
        self._missing = ""
        self._timer.cancel()
        assert goal is not None
        if not success:
            self._node.get_logger().error(text)
        self._finish(goal, success, text)

    def _finish(self, goal: ServerGoalHandle, success: bool, text: str) -> None:
        episode = self._node.episode_number if success else 0

        def conclude(handle: ServerGoalHandle) -> StartEpisode.Result:
            if success:
                handle.succeed()
            elif handle.is_cancel_requested:
                handle.canceled()
            else:
                handle.abort()
            return StartEpisode.Result(success=success, message=text, episode=episode)

        goal.execute(conclude)

    def _conclude_with_failure(self, goal: ServerGoalHandle) -> StartEpisode.Result:
        goal.abort()
        return StartEpisode.Result(success=False, message="start_episode: not executed by the start sequence")
