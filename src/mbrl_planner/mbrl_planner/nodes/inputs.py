# SPDX-License-Identifier: Apache-2.0
"""What the latched topics have brought: robot, model and task in force."""

import torch

from mbrl_core.config import ConfigurationError
from mbrl_core.messages import TimeStep
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import Task
from mbrl_dynamics.model import DynamicsModel
from mbrl_msgs.msg import Model as ModelMessage
from mbrl_msgs.msg import RobotSpec as RobotSpecMessage
from mbrl_msgs.msg import Task as TaskMessage
from mbrl_planner.nodes.model_message import model_from_message
from mbrl_planner.planner import PlannerConfig
from mbrl_planner.risk import check_risk
from mbrl_ros.conversions import MessageError, spec_from_message, task_from_message
from mbrl_ros.steady import now_ns

OTHER_INTERFACE = "other_interface"


class LatchedInputs:
    """Spec, model and task in force.

    Each `take_*` raises MessageError and leaves what was in force as it was. Latched topics come in any order:
    a model or task that comes before its robot's spec is kept until then.
    """

    def __init__(self) -> None:
        self.spec: RobotSpec | None = None
        self.model: DynamicsModel | None = None
        self.model_version = 0
        self.model_received_ns = 0
        self.task: Task | None = None
        self._model_source = ("", 0)
        self._early_model: ModelMessage | None = None
        self._early_task: TaskMessage | None = None

    @property
    def task_version(self) -> int:
        """Version of the task in force; 0 = none."""
        return self.task.version if self.task is not None else 0

    def take_spec(self, message: RobotSpecMessage) -> bool:
        """Takes the robot's spec. Returns true when it differs from the one in force; model and task are then gone."""
        spec = spec_from_message(message)
        if spec == self.spec:
            return False
        if self.spec is None or spec.interface_hash != self.spec.interface_hash:
            self.model, self.model_version, self.task = None, 0, None
            self._model_source = ("", 0)
        elif self.model is not None:
            # Only limits or names differ: what was learned still holds.
            self.model.spec = spec
        self.spec = spec
        return True

    def early(self) -> tuple[TaskMessage | None, ModelMessage | None]:
        """Task and model that came before their spec, for the caller to take now."""
        early = self._early_task, self._early_model
        self._early_task = self._early_model = None
        return early

    def take_model(self, message: ModelMessage, config: PlannerConfig) -> bool:
        """Takes a model that the planner's particles can be spread over evenly, and whose risk they can tell.

        Returns false when it is the one in force already, or has to wait for the spec.
        """
        if self.spec is None:
            self._early_model = message
            return False
        source = (message.producer, message.version)
        if self.model is not None and source == self._model_source:
            return False
        try:
            model = model_from_message(message, self.spec)
        except MessageError as error:
            if error.reason == OTHER_INTERFACE:
                self._early_model = message
            raise
        particles = config.particles
        if particles % model.members:
            raise MessageError(
                "invalid_model",
                f"model: {model.members} members, expected a divisor of parameter 'planner.particles',"
                f" which is {particles}",
            )
        try:
            check_risk(config, config.propagation, particles, model)
        except ConfigurationError as error:
            raise MessageError("invalid_model", f"model: {error}") from None
        self.model, self.model_version, self._model_source = model, message.version, source
        self.model_received_ns = now_ns()
        return True

    def take_task(self, message: TaskMessage) -> bool:
        """Takes a task. Returns false when it has to wait for the spec."""
        if self.spec is None:
            self._early_task = message
            return False
        try:
            task = task_from_message(message, self.spec)
            task.check_reward(torch)
        except MessageError as error:
            if error.reason == OTHER_INTERFACE:
                self._early_task = message
            raise
        except ConfigurationError as error:
            raise MessageError("invalid_task", f"task: {error}") from None
        self.task = task
        return True

    def missing(self, time_step: TimeStep) -> str:
        """What `time_step` has to wait for, in words; empty when nothing."""
        if self.task is None:
            return "no task yet"
        if self.model is None:
            return "no model yet"
        if self.model_version < time_step.required_model_version:
            return f"model version {self.model_version}, waiting for {time_step.required_model_version}"
        if self.task_version < time_step.required_task_version:
            return f"task version {self.task_version}, waiting for {time_step.required_task_version}"
        return ""
