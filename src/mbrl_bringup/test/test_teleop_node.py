# SPDX-License-Identifier: Apache-2.0
"""A person demonstrates with a joystick: real processes in real time, from the button to the labelled bag."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Joy
from test_swap import Graph, graph, start_robot  # noqa: F401 - graph is a fixture

from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import ControllerState, EpisodeLabel, Plan, TimeStep
from mbrl_policy.bags import read_messages, read_time_steps
from mbrl_policy.teleop.gravity import GravityCompensation
from mbrl_ros import qos

START, SUCCESS, FAILURE, DISCARD, DEAD_MAN = 7, 0, 1, 2, 4
PERIOD = 0.05  # of the joystick's messages


class Stick:
    """A joystick in the test's hand, and what the graph says of it."""

    def __init__(self, graph: Graph) -> None:  # noqa: F811
        self.graph = graph
        self.axis = 0.0
        self.down: set[int] = set()
        self.plugged = True
        self.states: list[ControllerState] = []
        self.figures: dict[str, str] = {}
        self._joy = graph.node.create_publisher(Joy, "joy", 10)
        self._parameters = graph.node.create_client(SetParameters, "teleop/set_parameters")
        graph.node.create_timer(PERIOD, self._publish)
        graph.node.create_subscription(ControllerState, "controller_state", self.states.append, qos.LATCHED)
        graph.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.STATUS)

    def _publish(self) -> None:
        if self.plugged:
            self._joy.publish(Joy(axes=[self.axis, 0.0], buttons=[int(index in self.down) for index in range(8)]))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "/teleop":
                self.figures = {item.key: item.value for item in status.values}

    def ready(self) -> None:
        """Waits until teleop_node follows the joystick."""
        self.graph.wait(lambda: self._joy.get_subscription_count() >= 1 and "held" in self.figures, "teleop_node")

    def set(self, name: str, value: float) -> str:
        """Sets a parameter of teleop_node; why it was refused, or nothing."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        self.graph.wait(self._parameters.service_is_ready, "the parameters of teleop_node")
        answer = self._parameters.call_async(request)
        self.graph.wait(answer.done, "an answer of teleop_node")
        (result,) = answer.result().results
        assert result.successful == (not result.reason)
        return result.reason

    def press(self, button: int, until: Callable[[], object], what: str) -> None:
        """Presses a button until it has shown."""
        self.down.add(button)
        self.graph.wait(until, what)
        self.down.discard(button)

    def served(self, controller: str, count: int, after: int) -> bool:
        """Whether `controller` has served so many of the time steps after the first `after`."""
        return sum(step.controller == controller for step in self.graph.time_steps[after:]) >= count


def finish_bag(graph: Graph) -> Path:  # noqa: F811
    """Ends the recorder; the bag that it leaves."""
    graph.processes["recorder"].terminate()
    assert graph.processes["recorder"].wait(20.0) == 0
    return graph._folder / "run" / "bag"


def start_desk(graph: Graph, folder: Path, *parameters: str) -> Stick:  # noqa: F811
    """Robot, teleop_node and recorder_node."""
    start_robot(graph, folder)
    robot_file = ("-p", f"robot_file:={folder / 'slow_pendulum.yaml'}")
    words = [word for parameter in parameters for word in ("-p", parameter)]
    graph.start("teleop", "mbrl_policy", "teleop_node", *robot_file, "-p", "joy_timeout:=0.5", *words)
    recording = ("run_directory:=" + str(folder / "run"), "record_at_once:=false", "minimum_free_space:=0.0")
    graph.start("recorder", "mbrl_policy", "recorder_node", *robot_file, *[w for p in recording for w in ("-p", p)])
    stick = Stick(graph)
    graph.wait(
        lambda: {"record", "end_episode"} <= {name.strip("/") for name, _ in graph.node.get_service_names_and_types()},
        "the services",
    )
    stick.ready()
    return stick


def test_a_demonstration_from_the_start_button_to_the_label(graph: Graph, tmp_path: Path) -> None:  # noqa: F811
    stick = start_desk(graph, tmp_path)
    stick.axis = 0.525  # half of what is beyond the dead zone
    stick.down.add(DEAD_MAN)
    graph.wait(lambda: stick.states and stick.states[-1].selected == "teleop", "the person to be selected")
    stick.press(START, lambda: graph.time_steps, "the first episode")
    graph.wait(lambda: stick.served("teleop", 5, 0), "the person to move the robot")
    moved = [step for step in graph.time_steps if step.controller == "teleop" and step.action_valid]
    np.testing.assert_allclose([step.action[0] for step in moved[-2:]], 0.5)

    # Let go: the robot's own safe action, and back again.
    stick.down.discard(DEAD_MAN)
    graph.wait(lambda: stick.states[-1].selected == "safe", "the robot to be let go")
    before = len(graph.time_steps)
    graph.wait(lambda: stick.served("safe", 3, before), "the safe action")
    stick.down.add(DEAD_MAN)
    graph.wait(lambda: stick.served("teleop", 3, before), "the person to move it again")

    # Unplugged, the button held: as if it were let go, and said so.
    stick.plugged = False
    graph.wait(lambda: stick.states[-1].selected == "safe", "the silence to be noticed")
    before = len(graph.time_steps)
    graph.wait(lambda: stick.served("safe", 3, before), "the safe action")
    assert not stick.served("teleop", 3, before)
    graph.wait(lambda: stick.figures.get("refused/joy/silent") == "1", "the silence to be counted")
    stick.plugged = True

    stick.press(SUCCESS, lambda: graph.time_steps[-1].step_type == TimeStep.LAST, "the end of the episode")
    assert graph.time_steps[-1].end_reason == TimeStep.TERMINATED
    stick.press(START, lambda: graph.time_steps[-1].episode == 2, "the second episode")
    graph.wait(lambda: stick.served("teleop", 8, before), "the person to move the robot")
    stick.press(DISCARD, lambda: graph.time_steps[-1].step_type == TimeStep.LAST, "the end of the episode")
    labels = graph.node.create_publisher(EpisodeLabel, "episode_label", qos.STATUS)  # anybody may say something
    graph.wait(lambda: labels.get_subscription_count() >= 1, "the recorder")
    labels.publish(EpisodeLabel(version=1, episode=1, outcome=EpisodeLabel.SUCCESS, note="second thoughts"))
    for _ in range(10):
        graph._executor.spin_once(timeout_sec=0.05)

    bag = finish_bag(graph)
    said = [message for _, message in read_messages(bag, ("episode_label",))]
    assert [(item.episode, item.outcome, item.discarded) for item in said] == [
        (1, EpisodeLabel.SUCCESS, False),
        (2, EpisodeLabel.UNLABELLED, True),
        (1, EpisodeLabel.SUCCESS, False),
    ]
    assert said[-1].note == "second thoughts"
    recorded = read_time_steps(bag)
    assert [(step.episode, step.step) for step in recorded] == [(step.episode, step.step) for step in graph.time_steps]
    assert any(True for _ in read_messages(bag, ("joy",)))


def test_shared_control_blends_the_partners_plan(graph: Graph, tmp_path: Path) -> None:  # noqa: F811
    stick = start_desk(graph, tmp_path, "share:=0.25", "dead_zone:=0.0")
    plans = graph.node.create_publisher(Plan, "plan", qos.PLAN)

    def plan_along(message: TimeStep) -> None:
        plans.publish(
            Plan(
                version=Plan.VERSION,
                interface_hash=message.interface_hash,
                episode=message.episode,
                start_step=message.step,
                answers_step=message.step,
                controller="planner",
                producer="test",
                horizon=6,
                actions=[0.8] * 6,
                predicted_return=float("nan"),
            )
        )

    graph.node.create_subscription(TimeStep, "time_step", plan_along, qos.TIME_STEP_CONTROL)
    graph.wait(lambda: plans.get_subscription_count() >= 3, "those who hear plans")
    stick.axis = -0.4
    stick.down.add(DEAD_MAN)
    graph.wait(lambda: stick.states and stick.states[-1].selected == "teleop", "the person to be selected")
    stick.press(START, lambda: graph.time_steps, "the episode")
    graph.wait(lambda: stick.served("teleop", 6, 0), "the person to move the robot")
    moved = [step.action[0] for step in graph.time_steps if step.controller == "teleop" and step.action_valid]
    np.testing.assert_allclose(moved[-3:], 0.25 * -0.4 + 0.75 * 0.8)
    # The partner falls silent: the person alone.
    stick.press(FAILURE, lambda: graph.time_steps[-1].step_type == TimeStep.LAST, "the end of the episode")


def test_led_by_hand_the_robot_bears_its_own_weight(graph: Graph, tmp_path: Path) -> None:  # noqa: F811
    stick = start_desk(graph, tmp_path, "kinesthetic:=true")
    stick.axis = 1.0  # does not count
    stick.down.add(DEAD_MAN)
    graph.wait(lambda: stick.states and stick.states[-1].selected == "teleop", "the person to be selected")
    stick.press(START, lambda: graph.time_steps, "the episode")
    graph.wait(lambda: stick.served("teleop", 4, 0), "the person to move the robot")
    compensation = GravityCompensation(load_robot(tmp_path / "slow_pendulum.yaml"))
    plans = [plan for plan in graph.plans if plan.controller == "teleop"]
    states = {(step.episode, step.step): np.array(step.state) for step in graph.time_steps}
    assert len(plans) >= 4
    for plan in plans:
        state = states[plan.episode, plan.answers_step]
        np.testing.assert_array_equal(plan.actions, np.tile(compensation.action(state), 2))
    # Nobody wants to hold a motor that shakes.
    assert "noise_std" in stick.set("noise_std", 0.1)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (("released:=teleop",), "parameter 'released': got 'teleop', expected another controller than this"),
        (("axes:=[0, 1]",), "parameter 'axes': got [0, 1], expected one of each of 1 actions"),
        (("dead_man_button:=7",), "button 7 is used twice"),
        (("noise_std:=1.5",), "parameter 'noise_std': got 1.5, expected at most 1.0"),
        (("noise_std:=0.1", "kinesthetic:=true"), "'noise_std': got 0.1, expected 0.0 beside 'kinesthetic: true'"),
    ],
)
def test_what_does_not_fit_is_refused_at_start(
    graph: Graph,  # noqa: F811
    tmp_path: Path,
    parameters: tuple[str, ...],
    text: str,
) -> None:
    start_robot(graph, tmp_path)
    words = [word for parameter in parameters for word in ("-p", parameter)]
    graph.start(
        "teleop", "mbrl_policy", "teleop_node", "-p", f"robot_file:={tmp_path / 'slow_pendulum.yaml'}", *words
    )  # fmt: skip
    assert graph.processes["teleop"].wait(60.0) == 2
    assert text in (tmp_path / "teleop.log").read_text()
