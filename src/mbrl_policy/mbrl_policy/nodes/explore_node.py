# SPDX-License-Identifier: Apache-2.0
"""Controller `explore`: answers time steps with random actions while it is selected."""

from dataclasses import dataclass

import numpy as np
from rclpy.node import Node

from mbrl_core.config import parameter
from mbrl_core.messages import Plan, StepType, TimeStep
from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import ControllerState
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_policy.exploration import ExplorationConfig, RandomExploration
from mbrl_ros import parameters, process, qos
from mbrl_ros.conversions import MessageError, plan_to_message, time_step_from_message
from mbrl_ros.health import Health
from mbrl_ros.steady import now_ns, steady_timer
from mbrl_ros.workload import Workload

CONTROLLER = "explore"
# In lockstep the robot waits for ever for a plan that was lost, for instance because it was the first one and the two
# sides had only half discovered each other.
REPEAT_PERIOD = 0.5


@dataclass(frozen=True)
class ExploreNodeConfig:
    """Parameters of the node itself."""

    robot_file: str = parameter("", "Path of the robot file")


class ExploreNode(Node):
    """Publishes `plan` for each `time_step` while `controller_state` selects it, and idles otherwise."""

    def __init__(self) -> None:
        super().__init__(CONTROLLER)
        config = parameters.declare(self, ExploreNodeConfig)
        exploration = parameters.declare(self, ExplorationConfig)
        parameters.finish(self)
        self._spec = load_robot(config.robot_file).spec
        self._exploration = RandomExploration(exploration, self._spec)
        # The first draw of a process loads libraries: not while a robot waits.
        self._exploration.actions(0, 0, np.zeros(self._spec.state.size))
        self._producer = f"explore-{now_ns()}"
        self._selected = False
        self._unanswered: TimeStep | None = None
        self._answered = 0
        self._newest: tuple[PlanMessage, int] | None = None
        self._health = Health(self)
        self._work = Workload("plan", self._spec.period)
        self._health.follow(self._work.figures)
        self._health.set("plans", 0)
        self._plans = self.create_publisher(PlanMessage, "plan", qos.PLAN)
        steady_timer(self, REPEAT_PERIOD, self._repeat)
        self.create_subscription(ControllerState, "controller_state", self._on_controller_state, qos.LATCHED)
        self.create_subscription(TimeStepMessage, "time_step", self._on_time_step, qos.TIME_STEP_CONTROL)

    def _on_controller_state(self, message: ControllerState) -> None:
        self._selected = message.selected == CONTROLLER
        # The selection and the first time step of an episode travel on two topics: either may come first.
        self._answer()

    def _on_time_step(self, message: TimeStepMessage) -> None:
        try:
            self._unanswered = time_step_from_message(message, self._spec)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        self._answer()

    def _answer(self) -> None:
        if not self._selected or self._unanswered is None:
            return
        time_step, self._unanswered = self._unanswered, None
        self._newest = None
        if time_step.step_type == StepType.LAST:
            self._work.restart()
            return
        begin_ns = now_ns()
        plan = Plan(actions=self._exploration.actions(time_step.episode, time_step.step, time_step.state))
        solve_time = (now_ns() - begin_ns) * 1e-9
        message = plan_to_message(
            plan,
            self._spec.interface_hash,
            self.get_clock().now().to_msg(),
            episode=time_step.episode,
            start_step=time_step.step,
            answers_step=time_step.step,
            controller=CONTROLLER,
            producer=self._producer,
            task_version=time_step.required_task_version,
            solve_time=solve_time,
        )
        self._plans.publish(message)
        self._newest = message, now_ns()
        self._answered += 1
        self._health.set("plans", self._answered)
        self._work.add(begin_ns * 1e-9, (now_ns() - begin_ns) * 1e-9)

    def _repeat(self) -> None:
        """Sends the newest plan again when no time step has followed it for long."""
        if self._selected and self._newest is not None and now_ns() - self._newest[1] > REPEAT_PERIOD * 1e9:
            self._plans.publish(self._newest[0])


def main() -> int:
    """Runs the node; returns the exit status."""
    return process.run(ExploreNode)
