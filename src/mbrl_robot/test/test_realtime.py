# SPDX-License-Identifier: Apache-2.0
"""robot_node and mujoco_node in realtime, as processes over DDS."""

import math
import signal
import threading
from itertools import pairwise

import numpy as np
import pytest
from robot_graph import Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from mbrl_msgs.action import StartEpisode
from mbrl_msgs.msg import RobotSpec, TimeStep
from mbrl_msgs.srv import EndEpisode, SelectController
from mbrl_ros import qos
from mbrl_ros.conversions import spec_from_message, time_step_from_message


@pytest.fixture
def running(shared_graph: Graph) -> Graph:
    """The two nodes, started once; the test node answers for the next step."""
    if not shared_graph._processes:
        shared_graph.start("mujoco")
        shared_graph.start("robot", start_timeout=3.0)
    shared_graph.answer = lambda time_step: shared_graph.make_plan(time_step, delay=1)
    return shared_graph


def test_episode(running: Graph) -> None:
    plans = {}

    def answer(time_step: TimeStep) -> object:
        plans[time_step.episode, time_step.step] = plan = running.make_plan(time_step, delay=1)
        return plan

    running.answer = answer
    result = running.start_episode(max_steps=40, seed=3, controller="planner", required_task_version=7)
    assert result.success, result.message
    assert running.phases[-1] == "waiting_for_state"
    steps = running.episode(result.episode)
    assert [message.step for message in steps] == sorted({message.step for message in steps})
    assert steps[0].step_type == TimeStep.FIRST and steps[0].step == 0
    assert all(math.isnan(value) for value in steps[0].action) and not steps[0].action_valid
    assert all(message.step_type == TimeStep.MID for message in steps[1:-1])
    assert steps[-1].end_reason == TimeStep.TIME_LIMIT and steps[-1].step >= 40
    assert {message.required_task_version for message in steps} == {7}
    served = [(before, message) for before, message in pairwise(steps) if message.controller == "planner"]
    rows: dict[int, float] = {}
    shares: list[float] = []
    assert len(served) > 10
    for previous, message in served:
        assert not message.fallback and message.row_age <= 3
        interval = message.step - 1
        plan = plans[message.episode, interval - message.row_age]
        # Where a tick was missed the row decided at the step before was held, and has grown older by it.
        rows[message.step] = plan.actions[previous.step - plan.start_step]
        # The mean between two samples: the command before has the share of the time until this one was sent.
        before = rows.get(interval)
        if before is not None:
            assert min(before, rows[message.step]) <= message.action[0] <= max(before, rows[message.step])
            if before != rows[message.step]:
                shares.append((message.action[0] - rows[message.step]) / (before - rows[message.step]))
    assert 0.0 <= float(np.median(shares)) < 0.5
    for before, after in pairwise(steps):
        assert before.sample_time_ns <= after.command_time_ns <= after.publish_time_ns
        time_step_from_message(after, running.spec)
    committed = {message.step: message.committed_actions for message in steps}
    for before, after in pairwise(steps):
        if after.step == before.step + 1 and before.step > 0:
            # Sent at the tick, before the time step was published: it can not change any more.
            assert after.action[0] == committed[before.step][0]
    running.wait(lambda: running.controller_states[-1].active == "safe")


def test_spec_is_latched(running: Graph) -> None:
    specs: list[RobotSpec] = []
    subscription = running.node.create_subscription(RobotSpec, "robot_spec", specs.append, qos.LATCHED)
    running.wait(lambda: specs)
    running.node.destroy_subscription(subscription)
    assert spec_from_message(specs[0]).interface_hash == running.spec.interface_hash


def test_start_state_is_exact_and_a_running_episode_is_aborted(running: Graph) -> None:
    first = running.start_episode(max_steps=0)
    assert first.success
    running.wait(lambda: len(running.of(first.episode)) > 3)
    second = running.start_episode(max_steps=4, start_state=[0.5, 3.0, 0.0, 0.0])
    assert second.success and second.episode == first.episode + 1
    steps = running.episode(first.episode)
    assert steps[-1].end_reason == TimeStep.ABORTED
    assert "ending" in running.phases
    state = running.episode(second.episode)[0].state
    # The first sample comes some milliseconds after the reset.
    assert state[:2] == pytest.approx([0.5, 3.0], abs=0.1)


def test_end_episode(running: Graph) -> None:
    episode = running.start_episode().episode
    response = running.call(EndEpisode, "end_episode", episode=episode + 1, end_reason=TimeStep.ABORTED)
    assert not response.success and f"expected the running one: {episode}" in response.message
    response = running.call(EndEpisode, "end_episode", episode=episode, end_reason=TimeStep.TIME_LIMIT)
    assert not response.success and "TERMINATED" in response.message
    response = running.call(EndEpisode, "end_episode", episode=episode, end_reason=TimeStep.TERMINATED)
    assert response.success
    assert running.episode(episode)[-1].end_reason == TimeStep.TERMINATED
    response = running.call(EndEpisode, "end_episode", episode=episode, end_reason=TimeStep.TERMINATED)
    assert not response.success and "none" in response.message


def test_controllers_are_selected_by_name(running: Graph) -> None:
    response = running.call(SelectController, "select_controller", controller="autopilot")
    assert not response.success
    assert (
        "'autopilot'" in response.message
        and "planner, planner_b, explore, policy, trainer, teleop, delay_probe, safe" in response.message
    )
    assert running.call(SelectController, "select_controller", controller="policy").success
    episode = running.start_episode(max_steps=25).episode
    steps = running.episode(episode)
    # policy is silent: the planner of the robot's chain serves.
    assert any(message.fallback and message.controller == "planner" for message in steps)
    running.wait(lambda: running.controller_states[-1].active == "safe")
    assert running.controller_states[-1].selected == "policy"
    assert list(running.controller_states[-1].chain) == ["policy", "planner", "safe"]
    assert running.call(SelectController, "select_controller", controller="planner").success


def test_safe_action_serves_without_plans(running: Graph) -> None:
    running.answer = lambda time_step: None
    episode = running.start_episode(max_steps=5, start_state=[0.0, 0.0, 1.0, 0.0]).episode
    steps = running.episode(episode)[1:]
    assert all(message.controller == "safe" and message.fallback for message in steps)
    # Damping brakes the cart.
    assert steps[0].action[0] < -0.05


def test_bad_plans_are_refused_and_counted(running: Graph) -> None:
    wrong: dict[str, dict[str, object]] = {
        "other_interface": {"interface_hash": "0" * 64},
        "other_layout": {"version": 99},
        "other_episode": {"episode": 4000000},
        "wrong_shape": {"horizon": 7},
        "non_finite": {"actions": [float("nan")] * 6},
        "out_of_date": {"start_step": 0, "horizon": 1, "actions": [0.0], "answers_step": 0},
        "far_ahead": {"start_step": 10_000},
        "from_the_future": {"answers_step": 10_000, "start_step": 10_000},
        "unknown_controller": {"controller": "nobody"},
    }
    kinds = list(wrong)

    def answer(time_step: TimeStep) -> object:
        # Every kind in turn; from the third step on, so that rows can be out of date.
        if time_step.step < 3:
            return None
        return running.make_plan(time_step, **wrong[kinds[(time_step.step - 3) % len(kinds)]])

    running.answer = answer
    episode = running.start_episode(max_steps=3 + 3 * len(kinds)).episode
    steps = running.episode(episode)
    assert all(message.controller == "safe" for message in steps[1:]), "no bad plan may serve"
    running.wait(lambda: all(running.refused("robot", f"plan/{kind}") for kind in kinds), 5.0)
    for text in ("expected 7 [7, 1]", "non-finite", "expected at most", "plan: interface '000000000000'"):
        assert text in running.output("robot")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"controller": "nobody"}, "unknown controller 'nobody'"),
        ({"required_controllers": ["nobody"]}, "unknown controller 'nobody'"),
        ({"start_state": [1.0]}, "expected 4 finite numbers"),
        ({"start_state": [math.nan] * 4}, "expected 4 finite numbers"),
        ({"required_controllers": ["teleop"]}, "waited 3 s in phase waiting_for_subscribers: no node 'teleop'"),
    ],
)
def test_bad_starts_are_refused(running: Graph, fields: dict[str, object], text: str) -> None:
    result = running.start_episode(**fields)
    assert not result.success
    assert text in result.message


def test_start_can_be_cancelled_and_excludes_another(running: Graph) -> None:
    waiting = running.starts.send_goal_async(StartEpisode.Goal(required_controllers=["teleop"]))
    running.wait(waiting.done)
    handle = waiting.result()
    second = running.start_episode()
    assert not second.success and "another start is under way" in second.message
    result = handle.get_result_async()
    running.wait(handle.cancel_goal_async().done)
    running.wait(result.done)
    assert not result.result().result.success and "cancelled" in result.result().result.message


def test_emergency_stop_latches(running: Graph) -> None:
    episode = running.start_episode(start_state=[0.0, 0.0, 0.5, 0.0]).episode
    running.wait(lambda: len(running.of(episode)) > 5)
    # As `ros2 topic pub` does it: volatile.
    stop = running.node.create_publisher(Bool, "emergency_stop", 1)
    running.wait(lambda: stop.get_subscription_count() >= 1)
    stop.publish(Bool(data=True))
    steps = running.episode(episode)
    assert steps[-1].end_reason == TimeStep.FAULT
    assert steps[-1].controller == "safe" and not steps[-1].action_valid
    stop.publish(Bool(data=False))
    running.spin(0.1)
    result = running.start_episode()
    assert not result.success and "emergency stop is latched" in result.message
    running.wait(lambda: running.controller_states[-1].emergency_stop)
    assert running.call(Trigger, "reset_emergency_stop").success
    running.wait(lambda: not running.controller_states[-1].emergency_stop)
    result = running.start_episode(max_steps=3)
    assert result.success
    assert running.episode(result.episode)[-1].end_reason == TimeStep.TIME_LIMIT
    running.node.destroy_publisher(stop)


def test_an_episode_gets_a_larger_number_than_the_asker_has_heard_of(running: Graph) -> None:
    first = running.start_episode(max_steps=2).episode
    running.episode(first)
    beyond = running.start_episode(max_steps=2, after_episode=first + 100).episode
    running.episode(beyond)
    assert beyond == first + 101
    assert running.start_episode(max_steps=2, after_episode=1).episode == beyond + 1


def test_diagnostics_carry_the_figures_of_the_clock(running: Graph) -> None:
    running.wait(lambda: np.isfinite(float(running.diagnostics.get("/robot", {}).get("control_rate", "nan"))), 5.0)
    figures = running.diagnostics["/robot"]
    names = (
        "ticks", "missed_ticks", "late_ticks", "fallback_ticks", "tick_jitter_ms_p99", "sample_age_ms_p50",
        "tick_compute_ms_p99",
    )  # fmt: skip
    assert all(np.isfinite(float(figures[name])) for name in names)
    assert int(figures["ticks"]) > 40


def test_a_backend_that_does_not_answer_is_asked_again_by_a_client_made_anew(graph: Graph) -> None:
    mujoco = graph.start("mujoco")
    graph.start("robot")
    states: list[JointState] = []
    graph.node.create_subscription(JointState, "joint_states", states.append, qos.JOINT_STATES)
    graph.wait(lambda: states and graph.node.count_clients("reset_backend") == 1, 20.0)
    mujoco.send_signal(signal.SIGSTOP)
    # Longer than an answer is waited for, so that the first client is gone when the backend wakes up.
    waker = threading.Timer(4.0, mujoco.send_signal, (signal.SIGCONT,))
    waker.start()
    result = graph.start_episode(max_steps=5)
    waker.join()
    assert result.success, result.message
    assert len(graph.episode(result.episode)) == 6
