# SPDX-License-Identifier: Apache-2.0
"""Controller `teleop`: a person moves the robot with a joystick, or leads it by hand."""

from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Joy

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.messages import Plan, StepType, TimeStep
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_msgs.msg import ControllerState, EpisodeLabel
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_policy.intentions import INTENDED_PLAN
from mbrl_policy.nodes.demonstration_desk import DemonstrationDesk
from mbrl_policy.teleop import (
    Button,
    CommandNoise,
    CommandNoiseConfig,
    Hand,
    Joystick,
    JoystickConfig,
    JoystickRefused,
)
from mbrl_policy.teleop.gravity import GravityCompensation
from mbrl_ros import parameters, process, qos
from mbrl_ros.conversions import MessageError, plan_from_message, plan_to_message, time_step_from_message
from mbrl_ros.health import Health
from mbrl_ros.steady import now_ns, steady_timer

WATCH_PERIOD = 0.02
ASK_AGAIN_NS = 200_000_000  # a selection that has not come about is asked for again
LABELS = {
    Button.SUCCESS: (EpisodeLabel.SUCCESS, False),
    Button.FAILURE: (EpisodeLabel.FAILURE, False),
    Button.DISCARD: (EpisodeLabel.UNLABELLED, True),
}


@dataclass(frozen=True)
class TeleopNodeConfig:
    """Parameters of the node itself."""

    robot_file: str = parameter("", "Path of the robot file")
    controller: str = parameter("teleop", "Name in the robot's controller chain", read_only=True)
    released: str = parameter(
        "safe", "Controller that moves the robot when the dead-man button is let go, for instance policy"
    )
    joy_timeout: float = parameter(
        0.3, "Age of the newest message of the joystick, seconds, after which it counts as let go", minimum=0.01
    )
    episode_steps: int = parameter(0, "Longest episode that a button starts, steps; 0 is the robot file's", minimum=0)
    plan_rows: int = parameter(
        2, "Rows of each plan; those after the first serve until the next comes", minimum=1, maximum=10
    )
    share: float = parameter(
        1.0, "Shared control: the person's share of the action; the rest is `partner`'s", minimum=0.0, maximum=1.0
    )
    partner: str = parameter("planner", "Controller that shares control; it has to plan along, unselected")
    kinesthetic: bool = parameter(
        False, "Compensate gravity instead of following the axes, while the dead-man button is held: lead it by hand"
    )


class TeleopNode(Node):
    """Answers each time step while the dead-man button is held, and has the robot selected for as long.

    Held: `teleop` is selected. Let go, or no message of the joystick for `joy_timeout` (unplugged): no plan is
    published any more and `released` is selected. Buttons start episodes, end and label them.

    What is meant goes out on `intended_plan`, and on `plan` with the noise that the parameters say, which may be
    changed while the robot moves.
    """

    def __init__(self) -> None:
        super().__init__("teleop")
        self._config = parameters.declare(self, TeleopNodeConfig)
        joystick = parameters.declare(self, JoystickConfig)
        # A motor that shakes is nothing to take an arm by the hand with: led by hand, noise is refused now and later.
        on_noise = None if self._config.kinesthetic else self._on_noise
        self._noise_config = parameters.declare(self, CommandNoiseConfig, on_change=on_noise)
        parameters.finish(self)
        if self._config.kinesthetic and self._noise_config.noise_std > 0.0:
            raise ConfigurationError(
                f"parameter 'noise_std': got {self._noise_config.noise_std!r}, expected 0.0 beside 'kinesthetic: true'"
            )
        robot = load_robot(self._config.robot_file)
        expected = ("effort",) if self._config.kinesthetic else ("effort", "velocity")
        if robot.interface not in expected:
            raise ConfigurationError(
                f"parameter 'robot_file': got a robot with the command interface {robot.interface},"
                f" expected {' or '.join(expected)}: "
                + ("led by hand, its motors bear its weight" if self._config.kinesthetic else "a stick at rest says 0")
            )
        if self._config.released == self._config.controller:
            raise ConfigurationError(
                f"parameter 'released': got {self._config.released!r}, expected another controller than this"
            )
        self._spec = robot.spec
        self._episode_steps = self._config.episode_steps or robot.episode_steps
        self._joystick = Joystick(joystick, self._spec)
        self._noise = CommandNoise(self._spec)
        self._gravity = GravityCompensation(robot) if self._config.kinesthetic else None
        self._health = Health(self)
        self._health.set("held", False)
        self._health.set("noise_std", self._noise_config.noise_std)
        self._desk = DemonstrationDesk(self, self._health)
        self._producer = f"teleop-{now_ns()}"
        self._hand = Hand(False, np.zeros(self._spec.action.size))
        self._heard_ns = 0
        self._obeyed = False
        self._selected = ""
        self._asked_ns = 0
        self._newest: TimeStep | None = None
        self._partner: PlanMessage | None = None
        self._answered = 0
        self._plans, self._intentions = (
            self.create_publisher(PlanMessage, topic, qos.PLAN, event_callbacks=qos.QUIET_PUBLISHER)
            for topic in ("plan", INTENDED_PLAN)
        )
        self.create_subscription(ControllerState, "controller_state", self._on_controller_state, qos.LATCHED)
        self.create_subscription(TimeStepMessage, "time_step", self._on_time_step, qos.TIME_STEP_CONTROL)
        self.create_subscription(Joy, "joy", self._on_joy, qos.JOINT_STATES)
        if self._config.share < 1.0:
            self.create_subscription(PlanMessage, "plan", self._on_plan, qos.PLAN_FROM_ALL)
        steady_timer(self, WATCH_PERIOD, self._watch)
        self.get_logger().info(f"robot {self._spec.name!r}: hold button {joystick.dead_man_button} to move it")

    @property
    def _held(self) -> bool:
        return self._hand.held and now_ns() - self._heard_ns <= self._config.joy_timeout * 1e9

    def _on_joy(self, message: Joy) -> None:
        try:
            self._hand = self._joystick.read(message.axes, message.buttons)
        except JoystickRefused as error:
            self._hand = Hand(False, np.zeros(self._spec.action.size))
            self._health.refuse(f"joy/{error.reason}", str(error))
        self._heard_ns = now_ns()
        self._watch()
        for button in self._hand.pressed:
            self._on_button(button)

    def _on_button(self, button: Button) -> None:
        newest = self._newest
        if button == Button.START:
            # Whoever holds the robot when it starts goes on holding it.
            controller = self._config.controller if self._held else self._config.released
            self._desk.start(controller, self._episode_steps)
            return
        outcome, discarded = LABELS[button]
        running = newest is not None and newest.step_type != StepType.LAST
        self._desk.finish(0 if newest is None else newest.episode, running, outcome, discarded)

    def _watch(self) -> None:
        """Has whoever ought to move the robot selected."""
        held = self._held
        if held != self._obeyed:
            self._obeyed = held
            self._asked_ns = 0
            if not held and self._hand.held:
                text = f"joy: nothing for {self._config.joy_timeout:g} s while the dead-man button was held"
                self._health.refuse("joy/silent", f"{text}; expected a message at least that often")
            self._health.set("held", held)
        wanted = self._config.controller if held else self._config.released
        # Somebody else's choice stands as long as the button is not held.
        out_of_place = self._selected != wanted and (held or self._selected == self._config.controller)
        if out_of_place and now_ns() - self._asked_ns > ASK_AGAIN_NS:
            self._asked_ns = now_ns()
            self._desk.select(wanted)

    def _on_noise(self, config: CommandNoiseConfig) -> None:
        self._noise_config = config
        self._health.set("noise_std", config.noise_std)
        self.get_logger().info(f"noise on commands: {config.noise_std:g} half ranges, seed {config.noise_seed}")

    def _on_controller_state(self, message: ControllerState) -> None:
        self._selected = message.selected

    def _on_plan(self, message: PlanMessage) -> None:
        if message.controller == self._config.partner:
            self._partner = message

    def _on_time_step(self, message: TimeStepMessage) -> None:
        try:
            self._newest = time_step = time_step_from_message(message, self._spec)
        except MessageError as error:
            self._health.refuse(error.reason, str(error))
            return
        if not self._held or time_step.step_type == StepType.LAST:
            return
        begin = now_ns()
        intended = self._noise.intended(self._actions(time_step))
        actions = self._noise.disturbed(self._noise_config, intended, time_step.episode, time_step.step)
        # What was meant goes first: nobody is to learn from what was executed for want of it.
        self._intentions.publish(self._message(time_step, intended, begin))
        self._plans.publish(self._message(time_step, actions, begin))
        self._answered += 1
        self._health.set("plans", self._answered)

    def _message(self, time_step: TimeStep, actions: Array, begin_ns: int) -> PlanMessage:
        """A plan of `actions` [rows, action_size] in answer to `time_step`, that began to be made at `begin_ns`."""
        return plan_to_message(
            Plan(actions),
            self._spec.interface_hash,
            self.get_clock().now().to_msg(),
            episode=time_step.episode,
            start_step=time_step.step,
            answers_step=time_step.step,
            controller=self._config.controller,
            producer=self._producer,
            task_version=time_step.required_task_version,
            solve_time=(now_ns() - begin_ns) * 1e-9,
        )

    def _actions(self, time_step: TimeStep) -> Array:
        """What is meant from this step on [rows, action_size], before limits and noise."""
        own = self._hand.action if self._gravity is None else self._gravity.action(time_step.state)
        actions = np.tile(own, (self._config.plan_rows, 1))
        if self._config.share < 1.0:
            partner = self._partner_actions(time_step)
            count = min(len(partner), len(actions))
            share = self._config.share
            actions[:count] = share * actions[:count] + (1.0 - share) * partner[:count]
            self._health.set("shared_rows", count)
        return actions

    def _partner_actions(self, time_step: TimeStep) -> Array:
        """What the partner would do from this step on [n, action_size], as far as its newest plan goes."""
        nothing = np.zeros((0, self._spec.action.size))
        message = self._partner
        if message is None or message.episode != time_step.episode:
            return nothing
        try:
            actions = plan_from_message(message, self._spec).actions
        except MessageError as error:
            self._health.refuse(f"plan/{error.reason}", str(error))
            self._partner = None
            return nothing
        skipped = time_step.step - message.start_step
        return actions[skipped:] if skipped >= 0 else nothing


def main() -> int:
    """Runs the node; returns the exit status."""
    return process.run(TeleopNode)
