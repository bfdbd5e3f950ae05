# SPDX-License-Identifier: Apache-2.0
"""Trains: the action `train`, rollouts on the robot in the graph; policy and learned reward (latched)."""

import functools
import math
import queue
import sys
from typing import Any

import torch
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from mbrl_core.config import ConfigurationError, to_mapping
from mbrl_core.policies import POLICIES
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import Task
from mbrl_dynamics.nodes.background import BackgroundWorker
from mbrl_msgs.action import Train
from mbrl_msgs.msg import Model as ModelMessage
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import RobotSpec as RobotSpecMessage
from mbrl_msgs.msg import Task as TaskMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_planner.nodes.configuration import PlannerKind
from mbrl_planner.nodes.inputs import LatchedInputs
from mbrl_planner.planner import PlannerConfig
from mbrl_planner.registry import PLANNERS
from mbrl_policy.intentions import INTENDED_PLAN
from mbrl_policy.live_rollout import Tolerances
from mbrl_policy.nodes.episode_runner import EpisodeRunner
from mbrl_policy.nodes.graph_robot import GraphRobot
from mbrl_policy.nodes.trainer_configuration import PolicyKind, TrainerNodeConfig, own_task, read_goal
from mbrl_policy.nodes.trainer_products import Products
from mbrl_policy.nodes.trainer_store import TrainerStore
from mbrl_policy.nodes.training_job import News, TrainingGoal, TrainingJob
from mbrl_policy.training import TRAINERS, TrainingAlgorithm, make_trainer
from mbrl_policy.training_data import TrainingData, read_training_data
from mbrl_ros import parameters
from mbrl_ros.conversions import MessageError, plan_from_message, time_step_from_message
from mbrl_ros.health import Health
from mbrl_ros.lifecycle import ManagedNode
from mbrl_ros.process import run
from mbrl_ros.qos import LATCHED, TIME_STEP_RECORD
from mbrl_ros.steady import now_ns, steady_timer

WATCH_PERIOD = 0.1
STEP_TIMEOUTS = {False: 10.0, True: 120.0}  # s, in lockstep or not: longer than robot_node's own lockstep_timeout


class TrainerNode(ManagedNode):
    """One training at a time, in a thread of low priority; no callback waits for it.

    A policy or reward that is better than the one before is published at once and is in the newest checkpoint, so that
    neither a cancel nor a kill costs more than the iteration under way. What cannot be trained is refused by the goal's
    result, which says what came and what was expected, and counted.
    """

    def __init__(self) -> None:
        super().__init__("trainer")
        torch.set_num_threads(1)
        self.settings = parameters.declare(self, TrainerNodeConfig)
        planner = parameters.declare(self, PlannerKind, "planner").kind
        self._planner_config: PlannerConfig = parameters.declare(self, PLANNERS.get(planner).configuration, "planner")
        policy = parameters.declare(self, PolicyKind, "policy").kind
        policy_config: Any = parameters.declare(self, POLICIES.get(policy).configuration, "policy")
        parameters.finish(self, parameters.names_of(PLANNERS.configurations(), "planner"))
        self._groups = {
            "planner": {"kind": planner, **to_mapping(self._planner_config)},
            "policy": {"kind": policy, **to_mapping(policy_config)},
        }
        settings = self.settings
        self._robot = load_robot(settings.robot_file)
        self._own_task = own_task(settings.robot_file, self._robot) if settings.own_task else None
        self._health = Health(self)
        self._inputs = LatchedInputs()
        self._data = TrainingData(self._robot.spec)
        self._active = False
        self._goal: ServerGoalHandle | None = None
        self._wanted: TrainingGoal | None = None
        self._since_ns = 0
        self._job: TrainingJob | None = None
        self._news: queue.SimpleQueue[News | str] = queue.SimpleQueue()
        refuse = functools.partial(self._health.refuse, "checkpoint")
        self._store = TrainerStore(settings.run_directory, self._robot.spec, refuse)
        self._products = Products(self, self._robot.spec)
        lockstep = settings.mode == "lockstep"
        self._runner = EpisodeRunner(
            self, self._robot, self.get_name(), lockstep,
            Tolerances(settings.start_tolerance, settings.start_velocity_tolerance, settings.disturbed_share),
            (settings.start_timeout, settings.step_timeout or STEP_TIMEOUTS[lockstep]), settings.delay_steps,
        )  # fmt: skip
        # The training thread must hand the interpreter over quickly when a time step is to be answered.
        sys.setswitchinterval(0.001)
        self._wake = self.create_guard_condition(self._on_wake)
        self._worker = BackgroundWorker(settings.niceness, self._wake.trigger)
        for kind_, topic, callback, profile in (
            (RobotSpecMessage, "robot_spec", self._on_spec, LATCHED),
            (TaskMessage, "task", self._on_task, LATCHED),
            (ModelMessage, "model", self._on_model, LATCHED),
            (TimeStepMessage, "time_step", self._on_time_step, TIME_STEP_RECORD),
            (PlanMessage, INTENDED_PLAN, self._on_intended_plan, TIME_STEP_RECORD),
        ):
            self.create_subscription(kind_, topic, callback, profile)
        self._server = ActionServer(
            self,
            Train,
            "train",
            execute_callback=self._conclude_at_once,
            goal_callback=lambda goal: GoalResponse.ACCEPT,
            handle_accepted_callback=self._accept,
            cancel_callback=self._on_cancel,
        )
        steady_timer(self, WATCH_PERIOD, self._watch)

    # --- life ---------------------------------------------------------------------------------------------------

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Trains from now on; the newest checkpoint's policy or reward is published."""
        self._active = True
        if self._store.checkpoint is None and self.settings.resume:
            best = self._store.take_up()
            if best is not None:
                self._products.publish(*best)
            self._data = self._store.load_heard()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends the training under way; what was best is kept."""
        self._active = False
        if self._job is not None:
            self._job.cancelled = True
        return super().on_deactivate(state)

    def destroy_node(self) -> None:
        """Stops the training thread first: torch must not be running when the interpreter goes."""
        self._runner.stop()
        if not self._worker.stop():
            self.get_logger().warning("the training thread did not end within 2 s")
        super().destroy_node()

    # --- inputs -------------------------------------------------------------------------------------------------

    def _on_spec(self, message: RobotSpecMessage) -> None:
        self._take(lambda: self._inputs.take_spec(message))
        task, model = self._inputs.early()
        if task is not None:
            self._on_task(task)
        if model is not None:
            self._on_model(model)

    def _on_task(self, message: TaskMessage) -> None:
        self._take(lambda: self._inputs.take_task(message))

    def _on_model(self, message: ModelMessage) -> None:
        self._take(lambda: self._inputs.take_model(message, self._planner_config))

    def _take(self, take: Any) -> None:
        try:
            take()
        except MessageError as error:
            self._health.refuse(error.reason, str(error))

    def _on_time_step(self, message: TimeStepMessage) -> None:
        received_ns = now_ns()
        try:
            time_step = time_step_from_message(message, self._robot.spec)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        self._runner.take(message, time_step, received_ns)
        self._data.add(time_step)

    def _on_intended_plan(self, message: PlanMessage) -> None:
        try:
            actions = plan_from_message(message, self._robot.spec).actions
        except MessageError as error:
            self._health.refuse(f"{INTENDED_PLAN}/{error.reason}", f"{INTENDED_PLAN}: {error}")
            return
        self._data.add_intention(message.episode, message.controller, message.answers_step, message.start_step, actions)

    # --- the action ---------------------------------------------------------------------------------------------

    def _accept(self, goal: ServerGoalHandle) -> None:
        try:
            if not self._active:
                raise ConfigurationError("train: trainer is not active, expected after its activation")
            if self._goal is not None:
                raise ConfigurationError("train: another training is under way, expected after its end or cancel")
            wanted = read_goal(goal.request, self.settings.presets, self._groups)
        except (ConfigurationError, OSError) as error:
            self._refuse_goal(goal, str(error))
            return
        self._goal, self._since_ns = goal, now_ns()
        self._wanted = wanted
        self._begin_if_ready()

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        if self._job is not None and goal is self._goal:
            self._job.cancelled = True
        return CancelResponse.ACCEPT

    def _watch(self) -> None:
        goal = self._goal
        if goal is not None and self._wanted is not None:
            if goal.is_cancel_requested or not self._active:
                self._finish("cancelled before it began")
            else:
                self._begin_if_ready()
        self._report()

    @property
    def _task(self) -> Task | None:
        """The task in force."""
        return self._inputs.task or self._own_task

    def _missing(self, wanted: TrainingGoal) -> str:
        """What a training has to wait for."""
        inputs = self._inputs
        if inputs.spec is None:
            return "robot_spec"
        if self._task is None:
            return "task"
        needs_model = "model" in TRAINERS.get(wanted.algorithm).implementation.needs
        return "model" if needs_model and inputs.model is None else ""

    def _begin_if_ready(self) -> None:
        wanted, waited = self._wanted, (now_ns() - self._since_ns) * 1e-9
        assert wanted is not None
        missing = self._missing(wanted)
        if not missing:
            self._begin(wanted)
        elif waited > self.settings.ready_timeout:
            self._health.refuse("train", f"train: no {missing}")
            self._finish(f"train: no {missing} within {self.settings.ready_timeout:g} s, expected one on that topic")

    def _begin(self, wanted: TrainingGoal) -> None:
        spec, own = self._inputs.spec, self._robot.spec
        assert spec is not None
        if spec.interface_hash != own.interface_hash:
            text = f"robot_spec: interface {spec.interface_hash[:12]!r} of robot {spec.name!r}, expected"
            self._health.refuse("other_interface", f"{text} {own.interface_hash[:12]!r} of robot_file")
            self._finish(f"{text} {own.interface_hash[:12]!r} of robot {own.name!r} in parameter 'robot_file'")
            return
        self._wanted = None
        number = 1 + max(self._products.version, self._store.number)
        # What has been heard until now: it goes on being added to while the thread reads.
        data = None if wanted.data else self._data.copy()
        self._job = TrainingJob(
            wanted, functools.partial(self._make, wanted, data), self._worker.keep_going, self._tell, self._tell,
            self._store.folder, self._store.checkpoint if self.settings.resume else None, number,
        )  # fmt: skip
        self.get_logger().info(f"training with {wanted.algorithm!r}")
        self._worker.submit(self._job.run, self._on_done)

    def _make(self, wanted: TrainingGoal, data: TrainingData | None) -> TrainingAlgorithm:
        """In the training thread: reading a bag takes its time."""
        task, job = self._task, self._job
        assert task is not None and job is not None
        if data is None:
            data = read_training_data(wanted.data, self._robot.spec)
        else:
            try:
                self._store.save_heard(data)
            except OSError as error:
                self._tell(f"what was heard was not written: {error}")
        steps = self.settings.episode_steps or None
        kind = TRAINERS.get(wanted.algorithm).implementation
        demonstrations = (data.parts if kind.takes_parts else data.demonstrations)(task, self.settings.teachers)
        if not demonstrations and "demonstrations" in kind.needs:
            raise ConfigurationError(
                f"data {wanted.data or 'heard live'!r}: no demonstrations; the robot was moved by"
                f" {', '.join(data.controllers()) or 'nobody'}, expected some of parameter 'teachers',"
                f" {', '.join(self.settings.teachers)}, in episodes that are not labelled as failures"
            )
        robot = GraphRobot(
            self._robot, task, steps, lambda request: self._runner.submit(request, task), job.keep_going,
            self.settings.attempts,
        )  # fmt: skip
        return make_trainer(
            wanted.algorithm, wanted.configuration, robot, self.settings.seed,
            model=self._inputs.model, dataset=data.transitions(),
            demonstrations=demonstrations, **wanted.groups,
        )  # fmt: skip

    def _tell(self, news: News | str) -> None:
        """From the training thread."""
        self._news.put(news)
        self._wake.trigger()

    def _on_wake(self) -> None:
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, str):
                self._health.refuse("checkpoint", news)
            else:
                self._on_news(news)
        self._worker.drain()

    def _on_news(self, news: News) -> None:
        if news.product is not None:
            self._products.publish(news.product, news.version, news.best_return)
        if self._goal is None or self._job is None:
            return
        progress = news.progress
        self._goal.publish_feedback(
            Train.Feedback(
                iteration=progress.iteration, mean_return=float(progress.mean_return), kl=float(progress.kl),
                loss=float(progress.loss), elapsed=self._job.elapsed,
            )
        )  # fmt: skip
        self._health.set("iteration", progress.iteration)
        self._health.set("rollouts", progress.rollouts)
        self._health.set("mean_return", float(progress.mean_return))
        self.get_logger().info(
            f"iteration {progress.iteration}: return {progress.mean_return:.1f}, best {news.best_return:.1f}, kl"
            f" {progress.kl:.3g}, loss {progress.loss:.3g}, {progress.rollouts} rollouts, {self._job.elapsed:.0f} s"
        )

    def _on_done(self, error: BaseException | None) -> None:
        job = self._job
        assert job is not None
        self._store.checkpoint = job.checkpoint
        self._job = None
        if error is None:
            self._finish(f"{job.iterations} iterations in {job.elapsed:.0f} s", success=job.iterations > 0)
            return
        expected = isinstance(error, (ValueError, RuntimeError, OSError))
        text = f"{job.goal.algorithm}: {error if expected else repr(error)}"
        self._health.refuse("train", text)
        self._finish(f"{text}; after {job.iterations} iterations")

    def _refuse_goal(self, goal: ServerGoalHandle, text: str) -> None:
        self._health.refuse("train", text)
        self._conclude(goal, False, text)

    def _finish(self, text: str, success: bool = False) -> None:
        goal, self._goal, self._wanted = self._goal, None, None
        if goal is not None:
            self._conclude(goal, success, text)

    def _conclude(self, goal: ServerGoalHandle, success: bool, text: str) -> None:
        made, mean_return = self._products, self._products.mean_return

        def conclude(handle: ServerGoalHandle) -> Train.Result:
            if handle.is_cancel_requested:
                handle.canceled()
            elif success:
                handle.succeed()
            else:
                handle.abort()
            return Train.Result(
                success=success, message=text, mean_return=mean_return,
                policy_version=made.policy_version, reward_version=made.reward_version,
            )  # fmt: skip

        if success:
            self.get_logger().info(f"train: {text}")
        else:
            self.get_logger().error(f"train: {text}")
        goal.execute(conclude)

    def _conclude_at_once(self, goal: ServerGoalHandle) -> Train.Result:
        goal.abort()
        return Train.Result(success=False, message="train: not executed by the trainer", mean_return=math.nan)

    def _report(self) -> None:
        self._health.set("policy_version", self._products.policy_version)
        self._health.set("reward_version", self._products.reward_version)
        self._health.set("best_return", self._products.mean_return)
        if self._job is not None:
            self._health.ok(f"training with {self._job.goal.algorithm!r}")
        elif self._wanted is not None:
            self._health.warn(f"waiting for {self._missing(self._wanted)}")
        else:
            self._health.ok("idle" if self._active else "not active")


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(TrainerNode)
