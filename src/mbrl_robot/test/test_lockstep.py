# SPDX-License-Identifier: Apache-2.0
"""robot_node and mujoco_node in lockstep: exact, repeatable, and never stuck."""

from robot_graph import Graph

from mbrl_msgs.msg import LearnerStatus, Plan, TimeStep
from mbrl_msgs.srv import StepBackend
from mbrl_ros import qos


def start(graph: Graph, **parameters: object) -> None:
    """Starts both nodes in lockstep."""
    graph.start("mujoco", mode="lockstep")
    graph.start("robot", mode="lockstep", **parameters)


def record(domain: int, seed: int) -> bytes:
    """States and actions of two episodes, of nodes started afresh."""
    graph = Graph(domain)
    try:
        start(graph)
        graph.answer = graph.make_plan
        content = b""
        for _ in range(2):
            result = graph.start_episode(max_steps=50, seed=seed, controller="planner")
            assert result.success, result.message
            steps = graph.episode(result.episode)
            assert [message.step for message in steps] == list(range(51))
            assert all(message.controller == "planner" and message.row_age == 0 for message in steps[1:])
            content += b"".join(message.state.tobytes() + message.action.tobytes() for message in steps)
        return content
    finally:
        graph.close()


def test_same_seed_same_bytes(domain: int) -> None:
    first, second = record(domain, 11), record(domain, 11)
    assert first == second
    assert first[: len(first) // 2] != first[len(first) // 2 :], "two episodes start differently"


def test_no_answer_is_pushed_out_by_those_of_other_controllers(graph: Graph) -> None:
    """A policy that plans along answers the same time steps on the same topic."""
    start(graph)
    others = [graph.context_node(name).create_publisher(Plan, "plan", qos.PLAN) for name in ("policy", "trainer", "b")]

    def answer(time_step: TimeStep) -> None:
        graph.plans.publish(graph.make_plan(time_step))
        for publisher in others:
            plan = graph.make_plan(time_step)
            plan.controller = "policy"
            publisher.publish(plan)

    graph.answer = answer
    steps = graph.episode(graph.start_episode(max_steps=200, controller="planner").episode)
    assert [message.step for message in steps] == list(range(201))
    assert {message.controller for message in steps[1:]} == {"planner"}


def test_delay_steps_serve_the_earlier_answer(graph: Graph) -> None:
    start(graph, delay_steps=2)
    plans = []

    def answer(time_step: TimeStep) -> object:
        plans.append(graph.make_plan(time_step))
        return plans[-1]

    graph.answer = answer
    steps = graph.episode(graph.start_episode(max_steps=10, controller="planner").episode)
    # As in realtime: nothing can answer the first steps in time.
    assert [message.controller for message in steps[1:]] == ["safe"] * 2 + ["planner"] * 8
    for message in steps[3:]:
        assert message.row_age == 2
        assert message.action[0] == plans[message.step - 1 - 2].actions[2]
        # Row 0 was promised in the time step before.
        assert message.action[0] == steps[message.step - 1].committed_actions[0]


def test_waits_for_the_learner_and_hands_its_version_on(graph: Graph) -> None:
    learner = graph.context_node("learner")
    statuses = learner.create_publisher(LearnerStatus, "learner_status", qos.STATUS)
    held: list[TimeStep] = []

    def learn(message: TimeStep) -> None:
        held.append(message)
        if message.step != 3:
            status(message)

    def status(message: TimeStep) -> None:
        statuses.publish(
            LearnerStatus(
                interface_hash=message.interface_hash,
                episode=message.episode,
                step=message.step,
                model_version=10 * message.episode + message.step,
            )
        )

    learner.create_subscription(TimeStep, "time_step", learn, qos.TIME_STEP_RECORD)
    start(graph, synchronise_learner=True)
    graph.answer = graph.make_plan
    first = graph.start_episode(max_steps=6, controller="planner").episode
    graph.wait(lambda: held and held[-1].step == 3)
    graph.spin(0.3)
    assert held[-1].step == 3, "step 4 may not be published before the learner has digested step 3"
    status(held[-1])
    steps = graph.episode(first)
    assert [message.required_model_version for message in steps] == [0, *(10 * first + step for step in range(6))]
    second = graph.start_episode(max_steps=1, required_model_version=5).episode
    # The newest version is demanded even where the goal asks for an older one.
    assert graph.episode(second)[0].required_model_version == 10 * first + 6


def test_silent_controller_and_lost_backend_end_the_episode(graph: Graph) -> None:
    start(graph, lockstep_timeout=0.4)
    graph.answer = lambda time_step: graph.make_plan(time_step) if time_step.step < 3 else None
    steps = graph.episode(graph.start_episode(max_steps=10, controller="planner").episode)
    assert steps[-1].step == 4 and steps[-1].end_reason == TimeStep.FAULT
    assert steps[-1].controller == "safe" and steps[-1].action_valid
    assert "waited 0.4 s for a plan from 'planner'" in graph.output("robot")

    def answer(time_step: TimeStep) -> object:
        if time_step.step == 3:
            graph.stop("mujoco")
        return graph.make_plan(time_step)

    graph.answer = answer
    steps = graph.episode(graph.start_episode(max_steps=10, controller="planner").episode)
    assert steps[-1].step == 4 and steps[-1].end_reason == TimeStep.FAULT
    assert not steps[-1].action_valid
    assert steps[-1].state == steps[-2].state


def test_pace_and_steps_that_the_backend_is_not_at(graph: Graph) -> None:
    start(graph, lockstep_pace=4.0)
    graph.answer = graph.make_plan
    episode = graph.start_episode(max_steps=5, controller="planner").episode
    last = graph.episode(episode)[-1]
    # Five steps of 0.04 s at four times real time; a loaded machine only makes it longer.
    assert (last.publish_time_ns - graph.of(episode)[0].publish_time_ns) * 1e-9 >= 5 * 0.01 - 0.005
    for wrong in ({"expected_step": 4}, {"expected_step": 6}, {"episode": episode + 1}):
        fields = {"episode": episode, "expected_step": 5, "command": [0.0], **wrong}
        response = graph.call(StepBackend, "step_backend", **fields)
        assert not response.success
        assert f"expected 5 of episode {episode}" in response.message
        assert response.step == 5 and response.state == last.state
    for command in ([], [0.0, 0.0], [float("nan")]):
        response = graph.call(StepBackend, "step_backend", episode=episode, expected_step=5, command=command)
        assert not response.success and "expected 1 finite numbers" in response.message
    assert graph.call(StepBackend, "step_backend", episode=episode, expected_step=5, command=[0.0]).step == 6


def test_missing_backend_is_named(graph: Graph) -> None:
    graph.start("robot", mode="lockstep", start_timeout=0.5)
    result = graph.start_episode(controller="planner")
    assert not result.success
    assert "no backend serves reset_backend" in result.message
