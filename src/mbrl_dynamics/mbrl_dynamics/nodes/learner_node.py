# SPDX-License-Identifier: Apache-2.0
"""Learns the robot's dynamics while it moves: time_step -> model (latched), learner_status."""

import dataclasses
import math
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any

import torch
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.config import ConfigurationError
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.checkpoints import CheckpointFolder
from mbrl_dynamics.learner import FitJob, LearnerConfig, OnlineLearner
from mbrl_dynamics.model import FitInterrupted, ModelError
from mbrl_dynamics.nodes.background import BackgroundWorker
from mbrl_dynamics.nodes.configuration import DynamicsKind, LearnerNodeConfig
from mbrl_dynamics.nodes.model_message import learner_to_message, status_to_message
from mbrl_dynamics.registry import DYNAMICS, make_model
from mbrl_msgs.msg import LearnerStatus
from mbrl_msgs.msg import Model as ModelMessage
from mbrl_msgs.msg import RobotSpec as RobotSpecMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_ros import parameters
from mbrl_ros.conversions import MessageError, spec_from_message, time_step_from_message
from mbrl_ros.health import Health
from mbrl_ros.lifecycle import ManagedNode
from mbrl_ros.process import run
from mbrl_ros.qos import LATCHED, LEARNER_STATUS, TIME_STEP_RECORD
from mbrl_ros.steady import now_ns
from mbrl_ros.workload import Workload

EARLY_TIME_STEPS = 1000  # kept while the robot's spec has not come


class LearnerNode(ManagedNode):
    """Publishes a model whenever it predicts unseen transitions better, and one status for every time step.

    In lockstep a fit is done before the time step's status is sent, and the model before the status. In realtime
    fits run in a thread of low priority. Time steps of another interface, of wrong shape or with non-finite numbers are
    refused and counted.
    """

    _worker: BackgroundWorker | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__("learner", **options)
        torch.set_num_threads(1)
        self.settings = parameters.declare(self, LearnerNodeConfig)
        self._kind = parameters.declare(self, DynamicsKind, "dynamics").kind
        self._model_config: Any = parameters.declare(self, DYNAMICS.get(self._kind).configuration, "dynamics")
        if getattr(self._model_config, "robot_file", None) == "":
            self._model_config = dataclasses.replace(self._model_config, robot_file=self.settings.robot_file)
        self._learner_config = parameters.declare(self, LearnerConfig, "learner")
        parameters.finish(self, parameters.names_of(DYNAMICS.configurations(), "dynamics"))
        if self.settings.bag and not Path(self.settings.bag).expanduser().exists():
            raise ConfigurationError(f"parameter 'bag': {self.settings.bag!r} does not exist, expected a bag")
        self._producer = f"{self.get_fully_qualified_name()}@{os.uname().nodename}:{os.getpid()}"
        self.health = Health(self)
        self._work = Workload("time_step")
        self._published_ns = 0
        self.health.follow(self._figures)
        self.learner: OnlineLearner | None = None
        self._spec: RobotSpec | None = None
        self._active = False
        self._newest = (0, 0)  # episode and step digested last
        self._early: deque[TimeStepMessage] = deque(maxlen=EARLY_TIME_STEPS)
        folder = self.settings.run_directory
        self._checkpoints = CheckpointFolder(Path(folder).expanduser() / "checkpoints") if folder else None
        self._wake = self.create_guard_condition(self._on_wake)
        if self.settings.mode == "realtime":
            # The training thread must hand the interpreter over quickly when a callback wants it.
            sys.setswitchinterval(0.001)
            self._worker = BackgroundWorker(self.settings.niceness, self._wake.trigger)
        self._model_publisher = self.create_publisher(ModelMessage, "model", LATCHED)
        self._status_publisher = self.create_publisher(LearnerStatus, "learner_status", LEARNER_STATUS)
        self.create_subscription(RobotSpecMessage, "robot_spec", self._on_spec, LATCHED)
        self.create_subscription(TimeStepMessage, "time_step", self._on_time_step, TIME_STEP_RECORD)
        self.create_service(Trigger, "save_model", self._on_save_model)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Learns from the next time step on; what has been learned already is published."""
        self._active = True
        self._publish_model()
        self._publish_status()
        self._fit_if_due()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops learning. What has been learned is kept."""
        self._active = False
        return super().on_deactivate(state)

    def destroy_node(self) -> None:
        """Stops the training thread first: torch must not be running when the interpreter goes."""
        if self._worker is not None and not self._worker.stop():
            self.get_logger().warning("the training thread did not end within 2 s")
        super().destroy_node()

    def _on_spec(self, message: RobotSpecMessage) -> None:
        try:
            spec = spec_from_message(message)
        except MessageError as error:
            self.health.refuse(error.reason, str(error))
            return
        if self._spec is not None and spec.interface_hash == self._spec.interface_hash:
            return
        try:
            model = make_model(self._kind, {"kind": self._kind, **vars(self._model_config)}, spec, self.settings.seed)
        except ModelError as error:
            self.health.refuse("dynamics", str(error))
            return
        self._spec = spec
        self.learner = OnlineLearner(model, self._learner_config, self.settings.seed)
        self._resume()
        self._preload()
        learned = f"{self.learner.transitions} transitions, model {self.learner.version}"
        self.get_logger().info(f"learning {spec.name!r} with {self._kind!r}: {learned}")
        self._publish_status()
        self._fit_if_due()
        early, self._early = self._early, deque(maxlen=EARLY_TIME_STEPS)
        for time_step in early:
            self._on_time_step(time_step)

    def _resume(self) -> None:
        assert self.learner is not None
        if self._checkpoints is None or not self.settings.resume:
            return
        try:
            checkpoint = self._checkpoints.newest()
            if checkpoint is None:
                return
            path, arrays, information = checkpoint
            self.learner.load(arrays, information)
        except (CheckpointError, ModelError, ValueError, KeyError, OSError) as error:
            self.health.refuse("checkpoint", f"parameter 'run_directory': {self._checkpoints.folder}: {error}")
            return
        self.get_logger().info(f"going on from {path}")
        self._publish_model()

    def _preload(self) -> None:
        assert self.learner is not None and self._spec is not None
        bag = self.settings.bag
        if not bag or self.learner.transitions > 0:
            return
        # Here: what reads bags takes a moment to load, and most learners need none of it.
        from mbrl_ros.bag_reading import BagError
        from mbrl_ros.bag_transitions import read_any_transitions

        try:
            transitions = read_any_transitions(bag, self._spec, self.settings.robot_file)
        except BagError as error:
            self.health.refuse("bag", f"parameter 'bag': {error}")
            return
        self.learner.preload(transitions)
        self.get_logger().info(f"{len(transitions)} transitions of {bag}")

    def _on_time_step(self, message: TimeStepMessage) -> None:
        if not self._active:
            return
        if self.learner is None or self._spec is None:
            self._early.append(message)
            return
        try:
            time_step = time_step_from_message(message, self._spec)
        except MessageError as error:
            self.health.refuse(error.reason, str(error))
            return
        with self._work.piece():
            self.learner.add(time_step)
        self._newest = time_step.episode, time_step.step
        self._fit_if_due()
        self._publish_status()

    def _fit_if_due(self) -> None:
        learner = self.learner
        if learner is None or not self._active or not learner.due:
            return
        job = learner.begin_fit()
        if self._worker is not None:
            worker = self._worker
            worker.submit(lambda: job.run(worker.keep_going), lambda error: self._on_fit_done(learner, job, error))
            return
        try:
            job.run()
        except (ValueError, RuntimeError, ArithmeticError) as error:
            self._on_fit_done(learner, job, error)
        else:
            self._on_fit_done(learner, job, None)

    def _on_wake(self) -> None:
        if self._worker is not None:
            self._worker.drain()

    def _on_fit_done(self, learner: OnlineLearner, job: FitJob, error: BaseException | None) -> None:
        if error is not None:
            learner.abandon_fit()
            if not isinstance(error, FitInterrupted):
                self.health.refuse("fit", f"fit of {len(job.transitions)} transitions failed: {error!r}")
            return
        if learner.finish_fit(job) and learner is self.learner:
            self._publish_model()
            self._save_in_background()
        self._fit_if_due()
        if self._worker is not None:
            # No time step may come for a while: between episodes somebody waits for just this.
            self._publish_status()

    def _publish_model(self) -> None:
        if self._active and self.learner is not None and self.learner.version > 0:
            stamp = self.get_clock().now().to_msg()
            self._model_publisher.publish(learner_to_message(self.learner, self._producer, stamp))
            self._published_ns = now_ns()

    def _publish_status(self) -> None:
        if not self._active or self.learner is None:
            return
        stamp = self.get_clock().now().to_msg()
        refused = sum(self.health.refused.values())
        self._status_publisher.publish(status_to_message(self.learner, *self._newest, refused, stamp))

    def _figures(self) -> dict[str, Any]:
        """For /diagnostics; NaN where there is nothing to tell yet."""
        learner, report = self.learner, None if self.learner is None else self.learner.report
        return self._work.figures() | {
            "model_version": 0 if learner is None else learner.version,
            "model_age_s": (now_ns() - self._published_ns) * 1e-9 if self._published_ns else math.nan,
            "transitions": 0 if learner is None else learner.transitions,
            "training": learner is not None and learner.fitting,
            "prequential_error": math.nan if learner is None else learner.prequential_error,
            "rejected_models": 0 if learner is None else learner.rejected,
            "training_loss": math.nan if report is None else report.loss,
            "fit_seconds": math.nan if report is None else report.seconds,
        }

    def _save_in_background(self) -> None:
        if self._checkpoints is None or self.learner is None:
            return
        folder, version = self._checkpoints, self.learner.version
        arrays, information = self.learner.state_arrays(), self.learner.information()
        if self._worker is not None:
            self._worker.submit(lambda: folder.save(version, arrays, information), self._on_saved)
            return
        try:
            folder.save(version, arrays, information)
        except OSError as error:
            self._on_saved(error)

    def _on_saved(self, error: BaseException | None) -> None:
        if error is not None:
            self.health.refuse("checkpoint", f"checkpoint was not written: {error}")

    def _on_save_model(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        learner = self.learner
        if self._checkpoints is None:
            response.message = "parameter 'run_directory' is empty, there is nowhere to save to"
        elif learner is None or learner.version == 0:
            response.message = "there is no model yet"
        else:
            try:
                path = self._checkpoints.save(learner.version, learner.state_arrays(), learner.information())
                response.success, response.message = True, str(path)
            except OSError as error:
                response.message = f"checkpoint was not written: {error}"
        return response


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(LearnerNode)
