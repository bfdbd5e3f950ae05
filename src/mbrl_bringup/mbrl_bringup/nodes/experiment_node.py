# SPDX-License-Identifier: Apache-2.0
"""Runs trials: owns the task, starts episodes, waits for the learner in between, keeps the learning curve."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from mbrl_bringup import run_files
from mbrl_bringup.experiment import SAFE, ExperimentConfig, LearnerFigures, Trial, TrialLog, load_task, make_trials
from mbrl_bringup.nodes.episode_start import EpisodeStart
from mbrl_bringup.nodes.live_handover import LiveHandover
from mbrl_bringup.nodes.settings_record import SettingsRecord
from mbrl_bringup.results import machine
from mbrl_bringup.resumption import finished_trials
from mbrl_core.config import ConfigurationError
from mbrl_core.delay import whole_steps
from mbrl_core.messages import EndReason, StepType
from mbrl_core.observed_task import plain_task, task_on
from mbrl_core.robot_file import load_robot
from mbrl_msgs.action import StartEpisode, Train
from mbrl_msgs.msg import ControllerState, ExperimentStatus, LearnerStatus, RobotSpec
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import Task as TaskMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_msgs.srv import SetTask
from mbrl_policy.nodes.training_client import TrainingClient
from mbrl_ros import parameters, process, qos
from mbrl_ros.conversions import (
    MessageError,
    check_interface,
    task_from_message,
    task_to_message,
    time_step_from_message,
    with_version,
)
from mbrl_ros.health import Health
from mbrl_ros.steady import now_ns, steady_timer
from mbrl_ros.workload import Workload

POLL_PERIOD = 0.02
FAREWELL_SECONDS = 0.3
SAVE_SECONDS = 10.0
SETTINGS_SECONDS = 5.0


class ExperimentNode(Node):
    """A state machine: waiting, resetting, running, fitting, training, ..., finished or failed. No callback waits."""

    def __init__(self) -> None:
        super().__init__("experiment")
        self._config = parameters.declare(self, ExperimentConfig)
        parameters.finish(self)
        self._robot = load_robot(self._config.robot_file)
        self._spec = self._robot.spec
        self._preset = load_task(self._config, self._robot.task, self._spec)
        self._trials = make_trials(self._config)
        self._listeners = set(self._config.wait_for) | ({"recorder"} if self._config.record else set())
        self._listeners |= {"trainer"} if self._config.trainer else set()
        self._steps_per_trial = self._config.episode_steps or self._robot.episode_steps
        if self._config.handover_step >= self._steps_per_trial:
            raise ConfigurationError(
                f"parameter 'handover_step': got {self._config.handover_step}, expected less than the"
                f" {self._steps_per_trial} steps of a trial"
            )
        self._directory = self._make_directory()
        # Who ends a run by a signal wants it to end: only a failure is one.
        self.exit_status = 0
        self._phase = "waiting"
        self._message = "looking for the other nodes"
        self._entered_ns = now_ns()
        self._log: TrialLog | None = None
        self._rows, self._arrays, task_version = finished_trials(self._directory, self._config, self._spec)
        self._position = len(self._rows)
        self._episode = int(self._rows[-1]["episode"]) if self._rows else 0
        self._attempts_lost = 0
        self._robot_began: tuple[int, int] | None = None
        self._learner = LearnerFigures()
        self._learner_gid = b""
        self._learner_forgot = False
        self._waited_for_fit = self._training_seconds = 0.0
        self._saving: Future | None = None
        self._health = Health(self)
        self._work = Workload("time_step")
        self._health.follow(self._figures)
        self._task_changed_by_hand = False
        first = min(self._position, len(self._trials) - 1)
        self._task = self._preset.for_trial(self._config.seed, first, task_version + 1)
        self._tasks = self.create_publisher(TaskMessage, "task", qos.LATCHED)
        self._statuses = self.create_publisher(ExperimentStatus, "experiment_status", qos.LATCHED)
        self._settings = SettingsRecord(self, {trial.controller for trial in self._trials} | set(self._config.wait_for))
        self._found_ns = 0
        self._start = EpisodeStart(self, self._did_not_start, self._on_start_feedback)
        self._training = TrainingClient(self)
        self._handover = LiveHandover(self, self._health)
        self._save_model = self.create_client(Trigger, "save_model")
        self.create_service(SetTask, "set_task", self._set_task)
        self.create_subscription(TimeStepMessage, "time_step", self._take_time_step, qos.TIME_STEP_RECORD)
        self.create_subscription(PlanMessage, "plan", self._on_plan, qos.STATUS)
        self.create_subscription(RobotSpec, "robot_spec", self._on_spec, qos.LATCHED)
        self.create_subscription(ControllerState, "controller_state", self._on_controller_state, qos.LATCHED)
        self.create_subscription(LearnerStatus, "learner_status", self._on_learner_status, qos.LATCHED)
        steady_timer(self, POLL_PERIOD, self._poll)
        steady_timer(self, 1.0, self._publish_status)
        self._publish_task()
        self._write_information()
        self._publish_status()

    # --- phases -------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        steps: dict[str, Callable[[], None]] = {
            "waiting": self._look_for_nodes,
            "resetting": self._watch_start,
            "running": self._watch_robot,
            "fitting": self._watch_learner,
            "training": self._watch_training,
            "saving": self._watch_saving,
            "finished": self._leave,
            "failed": self._leave,
        }
        steps[self._phase]()

    def _enter(self, phase: str, message: str) -> None:
        self._phase, self._message, self._entered_ns = phase, message, now_ns()
        if phase == "failed":
            self.exit_status = 1
            self.get_logger().error(f"{phase}: {message}")
            self._health.error(message)
        else:
            self.get_logger().info(f"{phase}: {message}")
        self._publish_status()

    @property
    def _seconds_in_phase(self) -> float:
        return (now_ns() - self._entered_ns) * 1e-9

    @property
    def _trial(self) -> Trial:
        return self._trials[self._position]

    def _look_for_nodes(self) -> None:
        infos = self.get_subscriptions_info_by_topic("time_step")
        present = {info.node_name for info in infos if info.node_namespace == self.get_namespace()}
        controllers = {name for trial in self._trials for name in (trial.first_controller, trial.controller)}
        missing = sorted((controllers | self._listeners) - present)
        if not missing and self._start.is_ready():
            self._found_ns = self._found_ns or now_ns()
            # Whoever does not tell its parameters does not hold up the run.
            if self._settings.poll() or (now_ns() - self._found_ns) * 1e-9 > SETTINGS_SECONDS:
                self._write_information()
                self._next_trial()
        elif self._seconds_in_phase > self._config.ready_timeout:
            what = f"no node {missing[0]!r} hears time_step" if missing else "nobody serves start_episode"
            self._enter("failed", f"waited {self._config.ready_timeout:g} s: {what}")

    def _prepare_trial(self) -> None:
        """The learner has what it needs; where the trial's controller is a policy, that is made now."""
        if not self._trial.trains:
            self._begin_trial()
            return
        name = self._config.trainer
        self._enter("training", f"{name!r} makes the policy of trial {self._trial.index}")
        self._training.begin(
            Train.Goal(
                algorithm=name,
                budget=self._config.training_budget,
                configuration=self._config.trainer_configuration,
            )
        )

    def _watch_training(self) -> None:
        result = self._training.poll()
        iteration = self._training.feedback.iteration
        if result is None:
            if self._seconds_in_phase > self._config.training_timeout:
                waited = f"{self._config.training_timeout:g} s"
                self._enter("failed", f"training has not ended within training_timeout {waited}, at {iteration=}")
        elif result.policy_version == 0:
            self._enter("failed", f"trainer: {result.message}")
        else:
            if not result.success:
                self._health.refuse("train", f"trainer: {result.message}; going on with its best policy")
            self.get_logger().info(
                f"policy version {result.policy_version}, mean return {result.mean_return:.1f}: {result.message}"
            )
            self._training_seconds = self._seconds_in_phase
            self._begin_trial()

    def _begin_trial(self) -> None:
        trial = self._trial
        if not self._task_changed_by_hand:
            task = self._preset.for_trial(self._config.seed, trial.index, self._task.version)
            if task != self._task:
                self._task = with_version(task, self._task.version + 1)
                self._publish_task()
        self._log = TrialLog(trial, self._spec, task_on(self._task, self._spec))
        self._handover.begin(trial)
        self._enter("resetting", f"trial {trial.index} with {trial.controller!r}")
        goal = StartEpisode.Goal(
            max_steps=self._steps_per_trial,
            seed=self._config.seed,
            controller=trial.first_controller,
            required_task_version=self._task.version,
            required_model_version=self._learner.model_version if trial.learned else 0,
            required_controllers=sorted({trial.first_controller, trial.controller}),
            # What this node has discovered, robot_node need not have: only it knows whom it reaches.
            required_subscribers=sorted(self._listeners),
            after_episode=self._episode,
        )
        self._start.begin(goal)

    def _did_not_start(self, reason: str) -> None:
        if self._phase == "resetting":
            self._enter("failed", f"trial {self._trial.index} did not start: {reason}")

    def _on_start_feedback(self) -> None:
        # A person who brings the robot to its start takes minutes, and robot_node says so all along.
        if self._phase == "resetting":
            self._entered_ns = now_ns()

    def _watch_start(self) -> None:
        self._start.poll()
        # The robot gives up by itself, and says why, in each of its four phases.
        if self._seconds_in_phase > 4.0 * self._config.ready_timeout:
            self._enter("failed", f"robot has not started an episode within {self._seconds_in_phase:.0f} s")

    def _watch_robot(self) -> None:
        if self._seconds_in_phase > self._config.stall_timeout:
            waited = f"{self._config.stall_timeout:g} s"
            self._enter("failed", f"no time_step for {waited} in episode {self._episode}: is robot running?")

    def _finish_trial(self) -> None:
        log = self._log
        assert log is not None
        if log.end_reason == EndReason.FAULT:
            self._lose_attempt(f"ended by FAULT at step {log.steps[-1].step}; see robot's log")
            return
        self._log = None
        self._attempts_lost = 0
        self._handover.finish()
        waited = {"waited_for_fit": self._waited_for_fit, "training_seconds": self._training_seconds}
        self._rows.append({**log.metrics(self._learner), **waited})
        self._arrays.append(log.arrays())
        try:
            run_files.write_metrics(self._directory, self._rows)
            run_files.write_steps(self._directory, self._arrays)
        except OSError as error:
            self._health.refuse("disk", f"run_directory {self._directory}: {error.strerror}; expected room for results")
        self.get_logger().info(
            f"trial {log.trial.index} ({log.trial.controller}): return {log.total_reward:.1f}, {len(log.rewards)} steps"
        )
        self._position += 1
        self._waited_for_fit = self._training_seconds = 0.0
        self._learner_forgot = False
        self._next_trial()

    def _next_trial(self) -> None:
        if self._position == len(self._trials):
            self._enter("saving", "waiting for the learner to take the last step in")
        elif self._trial.waits_for_fit:
            self._enter("fitting", f"learning from {self._learner.transitions} transitions and more")
        else:
            self._prepare_trial()

    def _lose_attempt(self, reason: str) -> None:
        """Begins the trial anew: what came of it so far is no trial. The bag has it all the same."""
        trial = self._trial
        self._log = None
        self._start.end()
        self._handover.begin(trial)  # of which the new attempt begins again
        self._attempts_lost += 1
        if self._attempts_lost > self._config.faults_in_a_row:
            self._enter("failed", f"trial {trial.index} {reason}")
            return
        self._health.refuse("attempt", f"trial {trial.index} {reason}: it begins anew")
        self._begin_trial()

    def _watch_learner(self) -> None:
        learner = self._learner
        learned = learner.trained_through_episode >= self._episode
        # What it had not saved when it was killed it never hears again.
        if self._learner_forgot and not learner.training:
            if learner.model_version == 0:
                self._rows.pop()
                self._arrays.pop()
                self._position -= 1
                self._lose_attempt("has been forgotten by a learner that has started again")
                return
            learned = True
        if learned and learner.model_version > 0:
            self._waited_for_fit = self._seconds_in_phase
            # What belongs to a trial includes what was learned from it.
            self._rows[-1] |= {"training_loss": learner.training_loss, "fit_seconds": learner.fit_seconds}
            self._prepare_trial()
        elif self._seconds_in_phase > self._config.fit_timeout:
            self._enter(
                "failed",
                f"learner has not trained through episode {self._episode} within fit_timeout"
                f" {self._config.fit_timeout:g} s: it is at episode {learner.trained_through_episode},"
                f" model version {learner.model_version}",
            )

    def _watch_saving(self) -> None:
        digested = (self._learner.episode, self._learner.step) >= (self._episode, self._arrays[-1]["step"][-1])
        if self._saving is None and digested and self._save_model.service_is_ready():
            self._saving = self._save_model.call_async(Trigger.Request())
        if self._saving is not None and self._saving.done():
            answer = self._saving.result()
            if answer is None or not answer.success:
                text = "no answer" if answer is None else answer.message
                self._health.refuse("save_model", f"save_model: {text}; expected a checkpoint in {self._directory}")
            self._finish()
        elif self._seconds_in_phase > SAVE_SECONDS:
            self._health.refuse("save_model", f"save_model: not answered within {SAVE_SECONDS:g} s")
            self._finish()

    def _finish(self) -> None:
        self._enter("finished", f"{len(self._rows)} trials; results in {self._directory}")

    def _leave(self) -> None:
        if self._phase == "finished" and self._config.stay:
            return
        # Time for the recorder and the view to hear the last status.
        if self._seconds_in_phase > FAREWELL_SECONDS:
            if self.exit_status != 0:
                print(f"experiment: {self._message}", file=sys.stderr, flush=True)
            self.context.try_shutdown()

    # --- topics and services ------------------------------------------------------------------------------------

    def _take_time_step(self, message: TimeStepMessage) -> None:
        with self._work.piece():
            self._on_time_step(message)
        if message.step_type == TimeStepMessage.LAST:
            self._work.restart()

    def _on_time_step(self, message: TimeStepMessage) -> None:
        log = self._log
        try:
            time_step = time_step_from_message(message, self._spec)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        if log is None or (not log.steps and time_step.step_type != StepType.FIRST):
            return
        if self._phase == "resetting" and time_step.step_type == StepType.FIRST:
            self._episode = time_step.episode
            self._start.end()
            self._enter("running", f"trial {log.trial.index}, episode {time_step.episode}")
        elif time_step.episode != self._episode:
            self._enter(
                "failed",
                f"episode {time_step.episode} began in the middle of trial {log.trial.index}, episode {self._episode}:"
                " somebody else starts episodes",
            )
            return
        log.task = task_on(self._task, self._spec)
        log.add(time_step, message.sample_time_ns)
        self._entered_ns = now_ns()
        if not log.ended:
            self._handover.follow(time_step.step)
        else:
            self._finish_trial()

    def _on_plan(self, message: PlanMessage) -> None:
        log = self._log
        if log is not None and message.episode == self._episode and message.controller == log.trial.controller:
            window = (message.start_step + whole_steps(self._spec), message.horizon)
            promise = message.predicted_return if message.task_version == self._task.version else math.nan
            log.add_plan(message.solve_time, message.deadline_missed, window, promise)

    def _on_controller_state(self, message: ControllerState) -> None:
        """Whom somebody selects in the middle of a learned trial has the rest of it and the trials to come."""
        log, chosen = self._log, message.selected
        self._handover.note_selection(chosen)
        if log is None or self._phase != "running" or not log.trial.learned:
            return
        own = chosen == log.trial.controller or self._handover.awaited_from(chosen)
        if not own and chosen not in (self._config.exploration_controller, SAFE):
            self.get_logger().info(f"{chosen!r} has been selected: it has the learned trials from now on")
            for position in range(self._position, len(self._trials)):
                if self._trials[position].learned:
                    self._trials[position] = dataclasses.replace(
                        self._trials[position], controller=chosen, begins_with="", handover_step=0
                    )
            log.trial = self._trial

    def _on_spec(self, message: RobotSpec) -> None:
        """Said once in the life of a robot_node: with another stamp it is another one, which knows of no episode."""
        began = message.header.stamp.sec, message.header.stamp.nanosec
        before, self._robot_began = self._robot_began, began
        if before not in (None, began) and self._log is not None:
            self._lose_attempt(f"was lost at step {len(self._log.steps)}: robot_node has started again")

    def _on_learner_status(self, message: LearnerStatus, information: dict[str, Any]) -> None:
        try:
            check_interface("learner_status", message.interface_hash, self._spec)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        gid = bytes(information["publisher_gid"]["data"])
        self._learner_forgot |= bool(self._learner_gid) and gid != self._learner_gid
        self._learner_gid = gid
        names = (field.name for field in dataclasses.fields(LearnerFigures))
        self._learner = LearnerFigures(**{name: getattr(message, name) for name in names})

    def _set_task(self, request: SetTask.Request, response: SetTask.Response) -> SetTask.Response:
        response.version = self._task.version
        request.task.interface_hash = self._spec.interface_hash
        request.task.version_of_layout = TaskMessage.VERSION
        try:
            task = task_from_message(request.task, self._spec)
        except MessageError as error:
            self._health.refuse(f"set_task/{error.reason}", str(error))
            response.message = str(error)
            return response
        self._task = with_version(plain_task(task), self._task.version + 1)
        self._task_changed_by_hand = True
        if self._log is not None:
            self._log.optimism.interrupt()
        self._publish_task()
        response.success, response.version = True, self._task.version
        return response

    # --- output -------------------------------------------------------------------------------------------------

    def _publish_task(self) -> None:
        stamp = self.get_clock().now().to_msg()
        self._tasks.publish(task_to_message(self._task, self._spec.interface_hash, stamp))
        if self._config.resume:
            self._write_information()  # its version: a node that goes on from here counts on from it

    def _figures(self) -> dict[str, Any]:
        """For /diagnostics."""
        lost = self._log.lost if self._log is not None else 0
        return self._work.figures() | {
            "phase": self._phase, "trial": self._position, "episode": self._episode, "lost_time_steps": lost,
            "attempts_lost": self._attempts_lost,
        }  # fmt: skip

    def _publish_status(self) -> None:
        log = self._log
        message = ExperimentStatus(
            version=ExperimentStatus.VERSION,
            algorithm=self._config.algorithm,
            # To the outside the experiment has finished when it only waits for files.
            phase="finished" if self._phase == "saving" else self._phase,
            message=self._message,
            trial=min(self._position, len(self._trials) - 1),
            trials=len(self._trials),
            episode=self._episode,
            step=log.steps[-1].step if log is not None and log.steps else 0,
            steps_per_trial=self._steps_per_trial,
            trial_return=log.total_reward if log is not None else math.nan,
            returns=[row["return"] for row in self._rows],
            learned=[bool(row["learned"]) for row in self._rows],
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._statuses.publish(message)

    def _make_directory(self) -> Path:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{self._spec.name}"
        directory = Path(self._config.run_directory or Path("runs") / name).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _write_information(self) -> None:
        run_files.write_information(
            self._directory,
            {
                "robot": self._spec.name,
                "robot_file": str(Path(self._config.robot_file).absolute()),
                "interface_hash": self._spec.interface_hash,
                "algorithm": self._config.algorithm,
                "mode": self._config.mode,
                "seed": self._config.seed,
                "trials": self._config.trials,
                "random_trials": self._config.random_trials,
                "evaluation_trials": self._config.evaluation_trials,
                "policy_trials": self._config.policy_trials,
                "handover_step": self._config.handover_step,
                "trainer": self._config.trainer,
                "steps_per_trial": self._steps_per_trial,
                "period": self._spec.period,
                "task": self._task.kind,
                "task_version": self._task.version,
                "obstacles": list(self._task.obstacles),
                "task_parameters": dict(self._task.parameters),
                "task_weights": dict(self._task.weights),
                "learned_controller": self._config.learned_controller,
                "settings": self._settings.values,
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "machine": machine(),
            },
        )


def main() -> int:
    """Runs the node; returns the exit status."""
    return process.run(ExperimentNode)
