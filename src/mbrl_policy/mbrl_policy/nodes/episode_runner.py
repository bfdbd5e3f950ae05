# SPDX-License-Identifier: Apache-2.0
"""Runs rollouts in the graph: starts an episode, answers its time steps, hands over what came of it."""

import os
import queue
from enum import Enum

from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future

from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.robot_file import Robot
from mbrl_core.tasks import Task
from mbrl_msgs.action import StartEpisode
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_msgs.srv import EndEpisode
from mbrl_planner.delay import DelayEstimator
from mbrl_planner.nodes.pending import Pending
from mbrl_policy.live_rollout import Disturbed, EpisodeRecord, Tolerances
from mbrl_policy.nodes.graph_robot import RolloutRequest
from mbrl_policy.training import Rollout, RolloutError
from mbrl_ros.conversions import plan_to_message, to_doubles
from mbrl_ros.qos import PLAN, QUIET_PUBLISHER
from mbrl_ros.steady import now_ns, steady_timer

POLL_PERIOD = 0.05
START_PHASES = 4  # of start_episode: robot_node gives up in each by itself, and says why


class Phase(Enum):
    """What the rollout under way waits for."""

    IDLE = "nothing"
    SERVER = "somebody who serves start_episode"
    STARTING = "the start of the episode"
    RUNNING = "the next time step"


class EpisodeRunner:
    """One rollout at a time, as a state machine in the node's thread: no callback waits.

    The node itself is a controller of the robot, `controller`: candidates of training never come near the topic
    `policy`, which holds results only, noise and planners can be rolled out like policies, and when this process dies
    the robot's chain takes over at once. In lockstep an answer is for the step of its state, in realtime for the first
    that it can reach.
    """

    def __init__(
        self,
        node: LifecycleNode,
        robot: Robot,
        controller: str,
        lockstep: bool,
        tolerances: Tolerances,
        timeouts: tuple[float, float],
        delay_steps: int = -1,
    ) -> None:
        """`timeouts` are the seconds that a phase of a start and a time step may take."""
        self._node, self._robot, self._controller = node, robot, controller
        self._lockstep, self._tolerances, self._timeouts = lockstep, tolerances, timeouts
        self._given_delay = 0 if lockstep and delay_steps < 0 else delay_steps
        spec = robot.spec
        self._delay = DelayEstimator(spec.period, robot.command_offset, spec.max_open_loop_steps)
        self._producer = f"{node.get_fully_qualified_name()}@{os.uname().nodename}:{os.getpid()}"
        self._requests: queue.SimpleQueue[tuple[RolloutRequest, Task]] = queue.SimpleQueue()
        self._request: RolloutRequest | None = None
        self._record: EpisodeRecord | None = None
        self._phase = Phase.IDLE
        self._since_ns = 0
        self._episode = 0
        self._goal: ClientGoalHandle | None = None
        self._client = ActionClient(node, StartEpisode, "start_episode")
        self._end_episode = node.create_client(EndEpisode, "end_episode")
        self._plans = node.create_publisher(PlanMessage, "plan", PLAN, event_callbacks=QUIET_PUBLISHER)
        self._wake = node.create_guard_condition(self._take_request)
        steady_timer(node, POLL_PERIOD, self._poll)

    def submit(self, request: RolloutRequest, task: Task) -> None:
        """Queues a rollout; to be called from any thread."""
        self._requests.put((request, task))
        self._wake.trigger()

    def stop(self) -> None:
        """Gives up what is under way."""
        self._give_up(RolloutError("the trainer ends"))

    def take(self, message: TimeStepMessage, time_step: TimeStep, received_ns: int) -> None:
        """Takes the next time step of the robot, whoever's episode it is."""
        request, record = self._request, self._record
        if request is None or record is None or self._phase not in (Phase.STARTING, Phase.RUNNING):
            return
        if self._phase == Phase.STARTING:
            if time_step.step_type != StepType.FIRST:
                return  # of the episode before
            self._enter(Phase.RUNNING)
            self._episode = time_step.episode
        if time_step.episode != self._episode:
            text = f"episode {time_step.episode} began in the middle of {self._episode}: somebody else starts episodes"
            self._conclude(Disturbed(text))
            return
        self._since_ns = now_ns()
        try:
            record.add(time_step)
            if time_step.step_type == StepType.LAST:
                self._conclude(record.rollout(request.start_index))
            elif record.terminated:
                self._conclude(record.rollout(request.start_index))
                self._end(EndReason.TERMINATED, time_step.episode)
            else:
                self._answer(request, record, time_step, Pending.of(message, time_step, received_ns))
        except Exception as error:  # an algorithm's controller may raise anything, and no rollout ends the node
            over = time_step.step_type == StepType.LAST
            (self._conclude if over else self._give_up)(error)

    def _answer(self, request: RolloutRequest, record: EpisodeRecord, time_step: TimeStep, pending: Pending) -> None:
        # The robot waits for the first action of an episode; the same answer has to last until the next can come.
        first = time_step.step_type == StepType.FIRST and self._given_delay < 0
        delay = self._given_delay if self._given_delay >= 0 else self._delay.steps
        answer = request.answer(time_step, 0 if first else delay, 1 + delay if first else 1)
        if answer is None:
            return
        record.answered(time_step.step, answer)
        now = now_ns() * 1e-9
        self._plans.publish(
            plan_to_message(
                answer.plan,
                self._robot.spec.interface_hash,
                self._node.get_clock().now().to_msg(),
                episode=time_step.episode,
                start_step=answer.start_step,
                answers_step=time_step.step,
                controller=self._controller,
                producer=self._producer,
                task_version=time_step.required_task_version,
                solve_time=now - pending.received,
            )
        )
        if not self._lockstep:
            self._delay.add(pending.latency(now))

    # --- phases -------------------------------------------------------------------------------------------------

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since_ns = phase, now_ns()

    def _take_request(self) -> None:
        if self._request is not None or self._requests.empty():
            return
        request, task = self._requests.get()
        if request.cancelled.is_set():
            return
        start = request.start if request.exact_start else None
        self._request = request
        self._record = EpisodeRecord(self._robot.spec, task, self._controller, start, self._tolerances)
        self._enter(Phase.SERVER)
        self._poll()

    def _poll(self) -> None:
        request, waited = self._request, (now_ns() - self._since_ns) * 1e-9
        start_timeout, step_timeout = self._timeouts
        if request is None:
            self._take_request()
        elif request.cancelled.is_set():
            self._give_up(RolloutError("cancelled"))
        elif self._phase == Phase.SERVER and self._client.server_is_ready():
            self._start(request)
        elif self._phase == Phase.SERVER and waited > start_timeout:
            self._give_up(RolloutError(f"start_episode: nobody serves it after {start_timeout:g} s: is robot running?"))
        elif self._phase == Phase.STARTING and waited > START_PHASES * start_timeout:
            self._give_up(RolloutError(f"start_episode: no episode has begun within {waited:.0f} s"))
        elif self._phase == Phase.RUNNING and waited > step_timeout:
            text = f"no time_step for {step_timeout:g} s in episode {self._episode}: is robot running?"
            self._give_up(RolloutError(text))

    def _start(self, request: RolloutRequest) -> None:
        self._enter(Phase.STARTING)
        goal = StartEpisode.Goal(
            max_steps=request.steps,
            seed=request.seed,
            controller=self._controller,
            start_state=to_doubles(request.start),
            required_controllers=[self._controller],
        )
        answered = self._client.send_goal_async(
            goal, feedback_callback=lambda feedback: self._on_start_feedback(request)
        )
        answered.add_done_callback(lambda future: self._on_goal_answer(future, request))

    def _on_start_feedback(self, request: RolloutRequest) -> None:
        # A person who brings the robot to its start takes minutes, and robot_node says so all along.
        if request is self._request and self._phase == Phase.STARTING:
            self._since_ns = now_ns()

    def _on_goal_answer(self, future: Future, request: RolloutRequest) -> None:
        handle = future.result()
        accepted = handle is not None and handle.accepted
        if accepted:
            handle.get_result_async().add_done_callback(lambda done: self._on_start_result(done, request))
        if request is self._request:
            self._goal = handle
            if not accepted:
                self._give_up(RolloutError("start_episode: robot did not accept it"))
        elif accepted:
            handle.cancel_goal_async()

    def _on_start_result(self, future: Future, request: RolloutRequest) -> None:
        result = future.result().result
        if request is not self._request:
            if result.success and request.cancelled.is_set():
                self._end(EndReason.ABORTED, result.episode)
            return
        self._goal = None
        if not result.success:
            self._conclude(RolloutError(result.message))

    def _give_up(self, error: Exception) -> None:
        """Ends the rollout under way with an error, and the robot's episode with it."""
        if self._request is None:
            return
        running, goal = self._phase == Phase.RUNNING, self._goal
        self._conclude(error)
        if running:
            self._end(EndReason.ABORTED, self._episode)
        elif goal is not None:
            goal.cancel_goal_async()

    def _end(self, reason: EndReason, episode: int) -> None:
        if self._end_episode.service_is_ready():
            self._end_episode.call_async(EndEpisode.Request(episode=episode, end_reason=int(reason)))

    def _conclude(self, result: Rollout | Exception) -> None:
        request, self._request = self._request, None
        self._record = self._goal = None
        self._enter(Phase.IDLE)
        assert request is not None
        request.finish(result)
