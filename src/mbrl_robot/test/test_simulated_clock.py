# SPDX-License-Identifier: Apache-2.0
"""robot_node by the time of a simulator that runs slower and faster than real time, pauses, jumps and begins anew."""

import time
from itertools import pairwise
from pathlib import Path

import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from robot_graph import ROBOTS, Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty
from std_srvs.srv import SetBool, Trigger

from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import TimeStep
from mbrl_msgs.srv import ResetBackend
from mbrl_ros import qos

STAND_IN = Path(__file__).with_name("gazebo_stand_in.py")
ROBOT_FILE = ROBOTS / "pendulum.yaml"
ROBOT = load_robot(ROBOT_FILE)
PERIOD = ROBOT.spec.period


class Simulated:
    """Stand-in, splitter, watchdog and robot_node; the test resets by the stand-in's service."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        graph.spec = ROBOT.spec
        self.stamps: list[float] = []
        self.time_goes_back = True
        name = ROBOT.spec.name
        graph.start(
            "gazebo",
            program=STAND_IN,
            robot_file=ROBOT_FILE,
            remap={
                f"/world/mbrl/model/{name}/joint_state": "joint_states",
                f"/model/{name}/joint/pivot/cmd_force": "pivot/cmd_force",
            },
        )
        graph.start("command_splitter", robot_file=ROBOT_FILE)
        graph.start("watchdog", robot_file=ROBOT_FILE)
        graph.start("robot", robot_file=ROBOT_FILE, mode="simulated", start_timeout=15.0)
        graph.node.create_subscription(JointState, "joint_states", self._take, qos.JOINT_STATES)
        graph.node.create_service(ResetBackend, "reset_backend", self._reset)
        # A group of its own: that of the service is busy while the service waits for the client.
        self._client = graph.node.create_client(
            Trigger, "gazebo_stand_in/reset", callback_group=MutuallyExclusiveCallbackGroup()
        )
        graph.wait(lambda: self.stamps and self._client.service_is_ready(), 15.0)
        graph.answer = lambda time_step: graph.make_plan(time_step)

    def _take(self, message: JointState) -> None:
        self.stamps.append(message.header.stamp.sec + message.header.stamp.nanosec * 1e-9)

    async def _reset(self, request: ResetBackend.Request, response: ResetBackend.Response) -> ResetBackend.Response:
        if self.time_goes_back:
            await self._client.call_async(Trigger.Request())
        else:
            # robot_node has newer ones by now.
            response.stamp_ns = round((self.stamps[-1] - PERIOD) * 1e9)
        response.success, response.state = True, [0.0] * ROBOT.spec.state.size
        return response

    def episode(self, steps: int, seconds: float = 20.0) -> list[TimeStep]:
        """Runs an episode to its end."""
        result = self.graph.start_episode(max_steps=steps, controller="planner")
        assert result.success, result.message
        return self.graph.episode(result.episode, seconds)

    def set_factor(self, factor: float) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=factor)
        parameters = [Parameter(name="real_time_factor", value=value)]
        answer = self.graph.call(SetParameters, "gazebo_stand_in/set_parameters", parameters=parameters)
        assert answer.results[0].successful

    def pause(self, paused: bool) -> None:
        self.graph.call(SetBool, "gazebo_stand_in/pause", data=paused)

    def running(self, steps: int = 5) -> int:
        """Starts an episode and waits until it has come some steps far; returns its number."""
        result = self.graph.start_episode(controller="planner")
        assert result.success, result.message
        self.graph.wait(lambda: len(self.graph.of(result.episode)) > steps, 20.0)
        return int(result.episode)


@pytest.fixture(scope="module")
def bench(shared_graph: Graph) -> Simulated:
    """The graph of all tests of this module."""
    return Simulated(shared_graph)


def stamp(message: TimeStep) -> float:
    return float(message.header.stamp.sec + message.header.stamp.nanosec * 1e-9)


def transitions(steps: list[TimeStep]) -> int:
    """Pairs that a learner takes."""
    return sum(after.action_valid and after.step == before.step + 1 for before, after in pairwise(steps))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_periods_are_those_of_simulated_time(bench: Simulated, factor: float) -> None:
    bench.set_factor(factor)
    for _ in range(2):
        steps = bench.episode(20)
        assert steps[0].step_type == TimeStep.FIRST and steps[-1].end_reason == TimeStep.TIME_LIMIT
        # Time has gone back to 0 at the reset, and FIRST is from after it.
        assert stamp(steps[0]) < 2.0
        apart = [stamp(after) - stamp(before) for before, after in pairwise(steps)]
        missed = [after.step - before.step for before, after in pairwise(steps)]
        assert apart == pytest.approx([PERIOD * count for count in missed], abs=0.25 * PERIOD)
        # A machine under load may miss ticks; what comes in time is a transition.
        assert transitions(steps) >= 0.5 * len(steps)
        assert {message.controller for message in steps[2:]} >= {"planner"}
    bench.graph.diagnostics.clear()
    bench.graph.wait(lambda: "real_time_factor" in bench.graph.diagnostics.get("/robot", {}))
    assert float(bench.graph.diagnostics["/robot"]["real_time_factor"]) == pytest.approx(factor, rel=0.3)
    bench.set_factor(1.0)


def test_a_pause_is_no_fault_and_trips_no_watchdog(bench: Simulated) -> None:
    graph = bench.graph
    episode = bench.running()
    bench.pause(True)
    graph.spin(0.3)
    count = len(graph.of(episode))
    graph.spin(1.0)
    assert len(graph.of(episode)) <= count + 1, "no tick without time"
    assert all(message.step_type != TimeStep.LAST for message in graph.of(episode))
    before = graph.of(episode)[-1]
    bench.pause(False)
    graph.wait(lambda: len(graph.of(episode)) > count + 5)
    after = next(message for message in graph.of(episode) if message.step > before.step)
    # The command was held all the while: nothing happened in between.
    assert stamp(after) - stamp(before) == pytest.approx(PERIOD * (after.step - before.step), abs=0.25 * PERIOD)
    graph.diagnostics.clear()
    graph.wait(lambda: "commands_sent" in graph.diagnostics.get("/watchdog", {}))
    # One that trips for a pause has sent twenty of them in a second; one that a busy machine held up sends few.
    assert int(graph.diagnostics["/watchdog"]["commands_sent"]) < 10
    assert graph.diagnostics["/watchdog"]["armed"].lower() == "true"


def test_an_episode_can_be_ended_while_time_stands_still(bench: Simulated) -> None:
    graph = bench.graph
    episode = bench.running()
    bench.pause(True)
    graph.spin(0.3)
    begin = time.monotonic()
    graph.send_goal(required_controllers=["planner"])
    steps = graph.episode(episode)
    assert steps[-1].end_reason == TimeStep.ABORTED and not steps[-1].action_valid
    assert time.monotonic() - begin < 10.0
    bench.pause(False)
    graph.wait(lambda: graph.of(episode + 1), 20.0)


def test_a_jump_ahead_is_counted_and_never_learned_from(bench: Simulated) -> None:
    graph = bench.graph
    episode = bench.running()
    jumps = graph.node.create_publisher(Empty, "gazebo_stand_in/jump", 1)
    graph.wait(lambda: jumps.get_subscription_count() == 1)
    before = len(graph.of(episode))
    jumps.publish(Empty())
    graph.wait(lambda: len(graph.of(episode)) > before + 5)
    steps = [message.step for message in graph.of(episode)]
    assert max(after - before for before, after in pairwise(steps)) >= round(0.3 / PERIOD)
    graph.wait(lambda: int(graph.diagnostics.get("/robot", {}).get("missed_ticks", 0)) >= round(0.3 / PERIOD) - 1)


def test_a_reset_by_somebody_else_ends_the_episode(bench: Simulated) -> None:
    graph = bench.graph
    episode = bench.running(10)
    assert graph.call(Trigger, "gazebo_stand_in/reset").success
    steps = graph.episode(episode)
    assert steps[-1].end_reason == TimeStep.FAULT and not steps[-1].action_valid
    graph.wait(lambda: graph.refused("robot", "joint_states/time_backwards") >= 1)
    # And the next one starts as if nothing had been.
    assert bench.episode(5)[-1].end_reason == TimeStep.TIME_LIMIT


def test_time_may_go_on_at_a_reset(bench: Simulated) -> None:
    bench.time_goes_back = False
    steps = bench.episode(5)
    assert steps[-1].end_reason == TimeStep.TIME_LIMIT
    bench.time_goes_back = True


def test_a_simulator_that_is_gone_is_a_fault(bench: Simulated) -> None:
    graph = bench.graph
    episode = bench.running()
    graph.stop("gazebo")
    steps = graph.episode(episode)
    assert steps[-1].end_reason == TimeStep.FAULT
    graph.wait(lambda: graph.refused("robot", "joint_states/stale") >= 1)
