# SPDX-License-Identifier: Apache-2.0
"""planner_node over real DDS: what it needs, what it answers, what it refuses."""

from collections.abc import Callable

import numpy as np
from graph import SPEC, Graph, learned_model, model_message

from mbrl_ros.conversions import plan_from_message

MakeGraph = Callable[..., Graph]
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
        assert (message.start_step, message.controller, message.model_version, message.task_version) == (step, "planner", 3, 1)
        assert (message.iterations, message.deadline_missed) == (3, False)
        assert 0.0 < message.solve_time < 1.0
    assert len(graph.plans) == 4
