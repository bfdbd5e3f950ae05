# SPDX-License-Identifier: Apache-2.0
"""watchdog_node beside robot_node and mujoco_node, which are killed and frozen in the middle of an episode.

Times are the source stamps of the messages, and who has sent one is read from its publisher's identity.
"""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from robot_graph import DISCOVERY, ROBOTS, Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger

from mbrl_ros import qos

# Long control periods: what a loaded machine takes to wake a process is a small share of one.
PERIOD = 0.2
PERIOD_NS = 200_000_000
GAIN = 30.0  # N s/m of the robot file's damping


@dataclass(frozen=True)
class Command:
    """A command with its source stamp, nanoseconds, and its publisher."""

    value: float
    stamp_ns: int
    publisher: bytes


class Scene:
    """The three nodes with a slow cart-pole; all commands and joint states."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph = graph
        content = yaml.safe_load((ROBOTS / "cartpole.yaml").read_text())
        content["control"]["period"] = PERIOD
        content["simulation"].update(steps_per_control=10, command_timeout=5 * PERIOD)
        self.robot_file = folder / "cartpole.yaml"
        self.robot_file.write_text(yaml.safe_dump(content))
        self.commands: list[Command] = []
        self.states: list[JointState] = []
        graph.node.create_subscription(Float64MultiArray, "effort_controller/commands", self._take, 1000)
        graph.node.create_subscription(JointState, "joint_states", self.states.append, qos.JOINT_STATES)
        for name in ("mujoco", "watchdog", "robot"):
            self.start(name)

    def _take(self, message: Float64MultiArray, info: dict[str, Any]) -> None:
        identity = bytes(info["publisher_gid"]["data"])
        self.commands.append(Command(message.data[0], info["source_timestamp"], identity))

    def start(self, name: str) -> None:
        """Starts one of the nodes."""
        if name == "robot":
            self.graph.start(name, robot_file=self.robot_file, joint_states_timeout=60.0)
        else:
            self.graph.start(name, robot_file=self.robot_file)

    def figure(self, name: str) -> str:
        """A figure of the watchdog's diagnostics."""
        return self.graph.diagnostics.get("/watchdog", {}).get(name, "")

    def move(self) -> bytes:
        """Starts an episode in which a plan serves; returns the identity of robot_node as a publisher."""
        self.graph.wait(lambda: self.figure("state") == "armed", DISCOVERY)
        self.graph.answer = lambda time_step: self.graph.make_plan(time_step, delay=1)
        # A robot_node that was started again begins with episode 1 again.
        self.graph.time_steps.clear()
        result = self.graph.start_episode(controller="planner", start_state=[0.0, 1.0, 1.0, 0.0])
        assert result.success, result.message
        self.graph.wait(lambda: any(step.controller == "planner" for step in self.graph.of(result.episode)))
        watchdog = self.watchdog()
        return next(command.publisher for command in reversed(self.commands) if command.publisher != watchdog)

    def watchdog(self) -> bytes:
        """The identity of the watchdog as a publisher."""
        infos = self.graph.node.get_publishers_info_by_topic("effort_controller/commands")
        identity = next(info.endpoint_gid for info in infos if info.node_name == "watchdog")
        return bytes(identity)[: len(self.commands[-1].publisher)]

    def after(self, publisher: bytes) -> list[Command]:
        """Commands of others after the last one of `publisher`."""
        last = max(index for index, command in enumerate(self.commands) if command.publisher == publisher)
        return self.commands[last + 1 :]

    def periods_of_silence(self, publisher: bytes) -> float:
        """Control periods from the last command of `publisher` to the first of somebody else."""
        first = self.after(publisher)[0]
        last = [command for command in self.commands if command.publisher == publisher][-1]
        return (first.stamp_ns - last.stamp_ns) / PERIOD_NS

    def signal(self, name: str, number: int) -> None:
        """Signals one of the nodes."""
        os.kill(self.graph._processes[name][0].pid, number)


@pytest.fixture
def scene(graph: Graph, tmp_path: Path) -> Scene:
    """The nodes for one test."""
    return Scene(graph, tmp_path)


def test_a_killed_robot_node_is_replaced_by_the_safe_action_and_the_back_end_is_behind_it(scene: Scene) -> None:
    graph, silences = scene.graph, []
    for _ in range(3):
        robot = scene.move()
        scene.signal("robot", signal.SIGKILL)
        graph.wait(lambda robot=robot: len(scene.after(robot)) >= 4)
        commands = scene.after(robot)
        assert {command.publisher for command in commands} == {scene.watchdog()}
        silences.append(scene.periods_of_silence(robot))
        assert silences[-1] >= 2.4, "the watchdog may not be hasty"
        # Damping: against the velocity of the cart, whose latest value the watchdog has.
        velocities = [message.velocity[0] for message in scene.states]
        assert min(abs(commands[0].value + GAIN * velocity) for velocity in velocities) < 1e-9
        intervals = np.diff([command.stamp_ns for command in commands[:4]]) / PERIOD_NS
        assert (intervals > 0.5).all(), "one command a period"
        graph.wait(lambda: scene.figure("state") == "tripped")
        scene.start("robot")
        graph.wait(lambda: scene.figure("state") == "armed", DISCOVERY)
        if silences[-1] <= 3.0:
            break
    # A machine that has other things to do may be late once; that it is so thrice in a row is no accident.
    assert min(silences) <= 3.0, silences
    assert "no command on effort_controller/commands" in graph.output("watchdog")
    # Without both of them: the time-out of the backend.
    robot = scene.move()
    for name in ("watchdog", "robot"):
        scene.signal(name, signal.SIGKILL)
    graph.wait(lambda: "the command is zero now" in graph.output("mujoco"))
    graph.wait(lambda: scene.states[-1].effort[0] == 0.0)


def test_a_frozen_robot_node_is_replaced_and_gets_the_robot_back(scene: Scene) -> None:
    graph, overlaps = scene.graph, []
    for trips in (1, 2):
        robot = scene.move()
        scene.signal("robot", signal.SIGSTOP)
        graph.wait(lambda robot=robot: len(scene.after(robot)) >= 4)
        watchdog = scene.watchdog()
        assert {command.publisher for command in scene.after(robot)} == {watchdog}
        assert scene.periods_of_silence(robot) >= 2.4
        frozen = len(scene.commands)
        scene.signal("robot", signal.SIGCONT)
        graph.wait(lambda robot=robot: sum(item.publisher == robot for item in scene.commands[frozen:]) >= 10)  # noqa: B023
        graph.wait(lambda: scene.figure("state") == "armed")
        assert int(scene.figure("trips")) >= trips
        # From robot_node's first command on the watchdog is silent, but for a command that had been sent by then.
        back = next(item for item in scene.commands[frozen:] if item.publisher == robot)
        late = [item for item in scene.commands if item.publisher == watchdog and item.stamp_ns > back.stamp_ns]
        overlaps.append(len(late))
        assert all(item.stamp_ns - back.stamp_ns < 5 * PERIOD_NS for item in late), (
            "whatever else the machine has to do"
        )
    assert min(overlaps) <= 1


def test_it_is_silent_while_robot_node_commands_and_after_it_has_ended_in_order(scene: Scene) -> None:
    graph = scene.graph
    robot = scene.move()
    graph.spin(2.0)
    assert {command.publisher for command in scene.commands} == {robot} or int(scene.figure("trips")) > 0
    trips = int(scene.figure("trips"))
    assert graph.stop("robot") == 0
    graph.wait(lambda: scene.figure("state") == "idle" and scene.figure("message") == "robot_node has ended")
    graph.spin(4 * PERIOD)
    assert scene.after(robot) == [] and scene.commands[-1].value == 0.0
    assert int(scene.figure("trips")) == trips
    assert graph.stop("watchdog") == 0


def test_bad_commands_do_not_hold_it_off_and_bad_joint_states_are_counted(graph: Graph, tmp_path: Path) -> None:
    commands = graph.node.create_publisher(Float64MultiArray, "effort_controller/commands", qos.COMMAND)
    states = graph.node.create_publisher(JointState, "joint_states", 10)
    heard: list[float] = []
    graph.node.create_subscription(
        Float64MultiArray, "effort_controller/commands", lambda message: heard.extend(message.data), 1000
    )
    graph.start("watchdog")
    graph.wait(lambda: commands.get_subscription_count() == 2 and states.get_subscription_count(), DISCOVERY)

    def armed() -> bool:
        commands.publish(Float64MultiArray(data=[20.0]))
        return graph.diagnostics.get("/watchdog", {}).get("state") == "armed"

    # Good ones arm it; bad ones are no sign of life.
    graph.wait(armed)
    for _ in range(20):
        commands.publish(Float64MultiArray(data=[1.0, 2.0]))
        commands.publish(Float64MultiArray(data=[float("nan")]))
        graph.spin(0.02)
    # The state is unknown: zero.
    graph.wait(lambda: heard[-3:] == [0.0, 0.0, 0.0])
    graph.wait(lambda: graph.refused("watchdog", "command/wrong_length") > 0)
    graph.wait(lambda: graph.refused("watchdog", "command/non_finite") > 0)
    bad_states = {
        "missing_joint": JointState(name=["slider"], position=[0.0], velocity=[9.0]),
        "non_finite": JointState(name=["slider", "hinge"], position=[float("nan"), 0.0], velocity=[0.0, 0.0]),
    }
    for kind, message in bad_states.items():

        def refused(kind: str = kind, message: JointState = message) -> bool:
            states.publish(message)
            return graph.refused("watchdog", f"joint_states/{kind}") > 0

        graph.wait(refused)
    assert heard[-1] == 0.0
    # Stamps that go back are a new beginning: the velocity counts.
    for second in (1000, 10):
        message = JointState(name=["slider", "hinge"], position=[0.0, 0.0], velocity=[float(second), 0.0])
        message.header.stamp.sec = second

        def braking(message: JointState = message) -> bool:
            states.publish(message)
            return heard[-1] == pytest.approx(-min(GAIN * message.velocity[0], 300.0))

        graph.wait(braking)
    # Its own last words.
    assert graph.stop("watchdog") == 0
    graph.wait(lambda: heard[-1] == 0.0)


def test_in_lockstep_it_never_commands(graph: Graph) -> None:
    graph.start("mujoco", mode="lockstep")
    graph.start("robot", mode="lockstep")
    graph.start("watchdog", mode="lockstep")
    graph.answer = lambda time_step: graph.make_plan(time_step) if time_step.step < 5 else None
    assert graph.start_episode(controller="planner").success
    graph.wait(lambda: graph.time_steps and graph.time_steps[-1].step >= 5)
    graph.wait(lambda: "state" in graph.diagnostics.get("/watchdog", {}), DISCOVERY)
    graph.spin(1.5)
    figures = graph.diagnostics["/watchdog"]
    assert (figures["state"], figures["commands_sent"], figures["mode"]) == ("idle", "0", "lockstep")


def test_it_starts_small() -> None:
    code = (
        "import sys, mbrl_robot.nodes.watchdog_node;"
        "status = open('/proc/self/status').read().split();"
        "print(int(status[status.index('VmRSS:') + 1]) // 1024,"
        " [m for m in ('torch', 'mujoco', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60.0, check=True)
    size, found = answer.stdout.strip().split(" ", 1)
    assert found == "[]"
    assert int(size) < 100, "MiB"


def test_an_emergency_stop_outlives_a_killed_robot_node(scene: Scene) -> None:
    graph = scene.graph
    stop = graph.node.create_publisher(Bool, "emergency_stop", 1)
    graph.wait(lambda: stop.get_subscription_count() >= 1 and scene.figure("state") == "armed", DISCOVERY)
    stop.publish(Bool(data=True))
    graph.wait(lambda: graph.controller_states and graph.controller_states[-1].emergency_stop)
    graph.spin(0.3)
    for stopped in (True, False):
        scene.signal("robot", signal.SIGKILL)
        graph.spin_until(lambda: False, 0.3)
        heard = len(graph.controller_states)
        scene.start("robot")
        graph.wait(lambda heard=heard: len(graph.controller_states) > heard, DISCOVERY)
        if stopped:
            graph.wait(lambda: graph.controller_states[-1].emergency_stop)
            assert "start_episode: the emergency stop is latched" in graph.start_episode().message
            assert graph.call(Trigger, "reset_emergency_stop").success
            graph.wait(lambda: not graph.controller_states[-1].emergency_stop)
        graph.spin(0.5)
    assert not graph.controller_states[-1].emergency_stop, "what was reset stops nobody any more"
    graph.node.destroy_publisher(stop)
