# SPDX-License-Identifier: Apache-2.0
"""planner_node over real DDS: what it needs, what it answers, what it refuses."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from graph import ROBOTS, SPEC, Graph, learned_model, model_message

from mbrl_core.config import ConfigurationError
from mbrl_core.messages import StepType
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import make_task
from mbrl_dynamics.registry import make_model
from mbrl_planner.registry import PLANNERS
from mbrl_robot.executor import AddressedPlan, PlanExecutor
from mbrl_robot.simulation import MujocoSimulation
from mbrl_ros.conversions import plan_from_message

MakeGraph = Callable[..., Graph]
REST = np.array([0.1, 0.0, 0.0, 0.0])  # state of the graph's time steps
LOCKSTEP = ("mode:=lockstep", "planner.population_size:=24", "planner.horizon:=10")


def ready(graph: Graph, version: int = 1) -> None:
    """Gives a planner everything it needs."""
    graph.publish_spec()
    graph.publish_task()
    graph.publish_model(model_message(learned_model(), version))
    graph.select("planner")
    graph.until(lambda: graph.planner._controller is not None and graph.planner._hot)


def test_answers_every_step_with_a_valid_plan(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP)
    ready(graph, version=3)
    for step in range(4):
        message = graph.answer(step)
        plan = plan_from_message(message, SPEC)
        assert plan.actions.shape == (10, 1)
        assert np.abs(plan.actions).max() <= 3.0
        assert plan.predicted_states is not None and plan.predicted_states.shape == (11, 4)
        np.testing.assert_allclose(plan.predicted_states[0], [0.1, 0.0, 0.0, 0.0], atol=1e-6)
        assert (message.start_step, message.controller, message.model_version, message.task_version) == (
            step,
            "planner",
            3,
            1,
        )
        assert (message.iterations, message.deadline_missed) == (3, False)
        assert 0.0 < message.solve_time < 1.0
    assert len(graph.plans) == 4


def test_feedback_gains_reach_the_executor(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=lockstep", "planner.kind:=ilqr", "planner.population_size:=8", "planner.horizon:=10")
    ready(graph)
    message = graph.answer(0)
    plan = plan_from_message(message, SPEC)
    assert plan.gains is not None and plan.gains.shape == (10, 1, 4) and plan.predicted_states is not None
    row = next(index for index in range(3) if np.abs(plan.gains[index]).max() > 1e-3)
    executor = PlanExecutor(SPEC, ("planner",))
    executor.begin_episode(message.episode)
    executor.accept(AddressedPlan(plan, "planner", message.episode, message.start_step, message.answers_step), 0, 0)
    aside = np.array([0.02, -0.01, 0.1, 0.05])
    chosen = executor.choose(row, plan.predicted_states[row] + aside)
    assert chosen is not None
    np.testing.assert_allclose(chosen.action, plan.actions[row] + plan.gains[row] @ aside, atol=1e-9)


def test_same_seed_same_bytes(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP, "seed:=7")
    ready(graph)
    first = [graph.answer(step, episode=1).actions.tobytes() for step in range(3)]
    graph.plans.clear()
    graph.step(3, 1, StepType.LAST)
    again = [graph.answer(step, episode=1).actions.tobytes() for step in range(3)]
    assert first == again


def test_waits_for_the_required_model_and_task(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP)
    ready(graph, version=1)
    graph.step(0, required_model_version=2, required_task_version=4)
    graph.spin(0.3)
    graph.publish_model(model_message(learned_model(1), 2))
    graph.spin(0.3)
    assert graph.plans == []
    graph.publish_task(version=4)
    graph.until(lambda: len(graph.plans) == 1)
    plan = graph.plans[0]
    assert (plan.answers_step, plan.model_version, plan.task_version) == (0, 2, 4)


def test_a_new_goal_is_in_force_from_the_next_plan_on(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP)
    ready(graph)
    # The pole hangs and the goal lies beside the cart, low enough for the tip to get there by moving the cart.
    direction = []
    for version, goal in ((2, 0.5), (3, -0.5)):
        graph.publish_task(version=version, goal=[goal, -0.6])
        plan = graph.answer(version, required_task_version=version)
        assert plan.task_version == version
        direction.append(np.sign(np.mean(plan.actions)))
    assert direction == [1.0, -1.0]


def test_without_a_model_it_says_so_and_plans_nothing(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=realtime")
    graph.publish_spec()
    graph.publish_task()
    graph.select("planner")
    graph.until(lambda: graph.planner._hot)
    graph.step(0)
    graph.until(lambda: graph.status == "not planning: no model yet")
    assert graph.plans == []


def test_latched_topics_may_come_in_any_order(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP)
    graph.select("planner")
    graph.publish_model(model_message(learned_model(), 1))
    graph.publish_task()
    graph.spin(0.2)
    graph.publish_spec()
    graph.until(lambda: graph.planner._controller is not None)
    assert graph.answer(0).model_version == 1


def test_new_limits_of_the_same_interface_are_taken_up(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP)
    ready(graph)
    graph.answer(0)
    graph.publish_spec(action_lower=[-0.01], action_upper=[0.01])
    graph.until(lambda: graph.planner._inputs.spec != SPEC)
    assert np.abs(graph.answer(1).actions).max() <= 0.01


def test_idles_until_it_is_selected(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP)
    ready(graph)
    graph.select("explore")
    graph.until(lambda: not graph.planner._hot)
    graph.step(0)
    graph.spin(0.3)
    assert graph.plans == []
    graph.select("planner")
    graph.until(lambda: len(graph.plans) == 1)
    assert graph.plans[0].answers_step == 0


def test_a_hot_member_of_the_chain_plans_unselected(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP, "always_on:=true")
    ready(graph)
    graph.select("policy")
    graph.spin(0.2)
    assert graph.answer(0).controller == "planner"


def test_delay_compensation_starts_at_the_step_it_can_reach(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP, "delay_steps:=2")
    ready(graph)
    message = graph.answer(5)
    plan = plan_from_message(message, SPEC)
    assert (message.start_step, message.answers_step) == (7, 5)
    # The model's cart gains 0.2 m/s a step and unit of action; half a unit is committed for two steps.
    assert plan.predicted_states is not None
    assert plan.predicted_states[0, 2] == pytest.approx(0.2, abs=0.1)


def test_realtime_keeps_its_deadline_and_measures_its_delay(make_graph: MakeGraph) -> None:
    graph = make_graph(
        "mode:=realtime", "planner.population_size:=24", "planner.horizon:=5", "planner.iterations:=1000"
    )
    ready(graph)
    first = graph.first_answer()
    # The robot waits for the first action of an episode only.
    assert first.start_step == 0 and 1 <= first.iterations < 1000
    for step in range(1, 5):
        plan = graph.answer(step, first.episode)
        # On a machine that has stood still there may be time for none: then the last plan is shifted.
        assert 0 <= plan.iterations < 1000 and plan.start_step > step
    graph.until(lambda: int(graph.figures.get("plans", 0)) == 5)
    assert float(graph.figures["solve_time_p50_s"]) > 0.0
    assert float(graph.figures["model_age_s"]) > 0.0


def test_open_loop_publishes_what_remains_of_one_plan(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=lockstep", "planner.population_size:=24", "replan:=false", "open_loop_horizon:=12")
    ready(graph)
    first = graph.answer(0)
    assert first.horizon == 12
    later = graph.answer(5)
    assert (later.start_step, later.answers_step, later.horizon) == (5, 5, 7)
    np.testing.assert_array_equal(np.array(later.actions), np.array(first.actions)[5:])
    plan_from_message(later, SPEC)
    again = graph.answer(0, episode=2)
    assert again.horizon == 12 and list(again.actions) != list(first.actions)


def test_plan_rows_cuts_what_is_published(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP, "plan_rows:=4")
    ready(graph)
    plan = plan_from_message(graph.answer(0), SPEC)
    assert len(plan.actions) == 4


@pytest.mark.parametrize("kind", sorted(set(PLANNERS.names()) - {"icem"}))
def test_every_kind_of_planner_serves(make_graph: MakeGraph, kind: str) -> None:
    graph = make_graph("mode:=lockstep", f"planner.kind:={kind}", "planner.horizon:=8", "planner.population_size:=24")
    ready(graph)
    assert plan_from_message(graph.answer(0), SPEC).actions.shape == (8, 1)


def test_a_planner_with_a_policy_learns_when_the_episode_ends(make_graph: MakeGraph) -> None:
    graph = make_graph(
        "mode:=lockstep", "planner.kind:=poplin_p", "planner.horizon:=4", "planner.population_size:=10",
        "planner.elites:=2",
    )  # fmt: skip
    ready(graph)
    first = [graph.answer(step, episode=1).actions.tobytes() for step in range(2)]
    graph.plans.clear()
    graph.step(2, 1, StepType.LAST)
    again = [graph.answer(step, episode=1).actions.tobytes() for step in range(2)]
    assert first != again
    assert graph.planner._controller.planner.episodes_learned == 1


def test_the_optimism_of_plans_is_reported(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=lockstep", "planner.population_size:=24", "planner.horizon:=3")
    ready(graph)
    promised = [graph.answer(step).predicted_return for step in range(5)]
    # The robot stands still: the reward of each step is the same, and only plans 0 and 1 are over at time step 4.
    reward = float(make_task("cartpole_tip").reward(REST, np.array([0.5]), REST))
    expected = np.mean([promise - 3.0 * reward for promise in promised[:2]])
    # An earlier report knows of the first plan only.
    graph.until(lambda: float(graph.figures.get("optimism_gap", np.nan)) == pytest.approx(expected, abs=1e-5))


def test_known_dynamics_are_rebuilt_from_their_robot_file(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP)
    model = make_model("mujoco", {"robot_file": str(ROBOTS / "cartpole.yaml")}, SPEC, 0)
    graph.publish_spec()
    graph.publish_task()
    graph.select("planner")
    elsewhere = {"kind": "mujoco", "robot_file": "/nowhere/cartpole.yaml"}
    graph.publish_model(model_message(model, 1, configuration=json.dumps(elsewhere)))
    graph.until(lambda: graph.refused("invalid_model") == 1)
    other = make_model("mujoco", {"robot_file": str(ROBOTS / "cartpole.yaml"), "substeps": 2}, SPEC, 0)
    here = json.dumps(model.configuration_mapping())
    graph.publish_model(model_message(other, 2, configuration=here))
    graph.until(lambda: graph.refused("invalid_model") == 2)
    graph.publish_model(model_message(model, 3))
    graph.until(lambda: graph.planner._inputs.model_version == 3)
    plan = plan_from_message(graph.answer(0), SPEC)
    assert plan.predicted_states is not None
    simulation = MujocoSimulation(load_robot(ROBOTS / "cartpole.yaml"))
    simulation.reset(REST)
    states = [simulation.step(action) for action in plan.actions]
    np.testing.assert_allclose(plan.predicted_states[1:], states, rtol=1e-5, atol=1e-5)


def test_obstacles_of_the_task_are_in_force_from_the_next_plan_on(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP, "planner.particles:=10", "planner.collision_std_weight:=1.0")
    ready(graph)
    free = graph.answer(0)
    graph.publish_task(version=2, obstacles=[0.1, -0.6, 0.2])
    graph.until(lambda: graph.planner._inputs.task_version == 2)
    beside = graph.answer(0, episode=2)
    # The tip begins inside: every plan loses by it.
    assert beside.predicted_return < free.predicted_return - 0.1
    graph.publish_task(version=3, obstacles=[0.1, -0.6])
    graph.until(lambda: graph.refused("invalid_task") == 1)
    assert graph.planner._inputs.task_version == 2


def test_a_model_whose_members_cannot_be_told_apart_is_refused(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP, "planner.epistemic_penalty:=0.5")
    graph.publish_spec()
    graph.publish_task()
    graph.publish_model(model_message(learned_model(), 1))
    graph.until(lambda: graph.refused("invalid_model") == 1)
    graph.publish_model(model_message(learned_model(members=1), 2))
    graph.until(lambda: graph.planner._controller is not None)


def test_penalties_that_do_not_go_with_the_propagation_are_refused_at_start(make_graph: MakeGraph) -> None:
    with pytest.raises(ConfigurationError, match=r"'planner.propagation': got 'ts1', expected tsinf"):
        make_graph(*LOCKSTEP, "planner.propagation:=ts1", "planner.aleatoric_penalty:=0.5")
