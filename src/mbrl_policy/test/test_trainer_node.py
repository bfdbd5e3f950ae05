# SPDX-License-Identifier: Apache-2.0
"""trainer_node beside a real robot, as processes: what it trains, refuses, keeps and takes up again."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_trainer import KIND
from trainer_graph import LINEAR, ROBOT, STEPS, TASK, Graph

from mbrl_core.checkpoint import load_checkpoint
from mbrl_core.policies import policy_arrays
from mbrl_msgs.action import Train
from mbrl_msgs.msg import TimeStep
from mbrl_policy.nodes.policy_message import policy_from_message
from mbrl_policy.nodes.training_client import TrainingClient
from mbrl_policy.training import SimulatedRobot, make_trainer


@pytest.fixture
def make_graph(tmp_path: Path, free_domain: int) -> Iterator[Callable[..., Graph]]:
    graphs: list[Graph] = []

    def make(mode: str, task: bool = True) -> Graph:
        graphs.append(Graph(tmp_path, mode, free_domain, task))
        return graphs[-1]

    yield make
    for graph in graphs:
        graph.close()


MakeGraph = Callable[..., Graph]


def in_process(iterations: int, **configuration: Any) -> dict[str, np.ndarray]:
    """The same training with a simulation in this process."""
    robot = SimulatedRobot(ROBOT, TASK, STEPS)
    trainer = make_trainer(KIND, configuration, robot, 0, **LINEAR)
    for _ in range(iterations):
        trainer.iterate()
    return policy_arrays(trainer.policy())


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_in_lockstep_it_trains_what_a_simulation_in_process_trains(make_graph: MakeGraph) -> None:
    graph = make_graph("lockstep")
    graph.start_trainer()
    result = graph.train(budget=4)
    assert result.success, result.message
    assert [said.iteration for said in graph.feedback] == [1, 2, 3, 4]
    assert all(said.loss == STEPS and np.isfinite(said.mean_return) for said in graph.feedback)
    assert result.mean_return == max(said.mean_return for said in graph.feedback)
    graph.wait(lambda: graph.policies and graph.policies[-1].version == result.policy_version, "the policy")
    assert_same(graph.arrays(), in_process(4))
    # A policy whose noise is left out, from another start.
    result = graph.train(configuration={"sampled": False, "start": [2.0, -1.0]}, budget=2)
    assert result.success, result.message
    graph.wait(lambda: graph.policies[-1].version == result.policy_version, "the policy")
    assert_same(graph.arrays(), in_process(2, sampled=False, start=(2.0, -1.0)))
    served = {message.controller for message in graph.time_steps if message.step_type != TimeStep.FIRST}
    assert served == {"trainer"} and not any(message.fallback for message in graph.time_steps)


def test_killed_at_any_moment_it_goes_on_as_if_it_had_not_been(make_graph: MakeGraph) -> None:
    graph = make_graph("lockstep")
    graph.start_trainer()
    training = TrainingClient(graph.node)
    training.begin(Train.Goal(algorithm=KIND, configuration=json.dumps({**LINEAR, "pause": 0.2}), budget=6))
    graph.wait(lambda: training.poll() or training.feedback.iteration == 3, "three iterations")
    graph.processes["trainer"].kill()
    graph.processes["trainer"].wait()
    # A process that is killed while it writes leaves the beginning of a file, which is newer than the others.
    newest = sorted((graph.folder / "checkpoints").glob("trainer_*"))[-1]
    newest.with_name("trainer_00000099.safetensors").write_bytes(newest.read_bytes()[:-100])
    arrays, information = load_checkpoint(newest)
    graph.policies.clear()
    graph.start_trainer()
    results: list[Train.Result] = []
    # The one that is there again is found and asked again while the dead one still seems to serve the action.
    graph.wait(lambda: results.extend(filter(None, [training.poll()])) or results, "the result of the second one")
    assert results[0].success, results[0].message
    assert training.feedback.iteration == 6
    told = re.findall(r"iteration (\d+):", graph.log("trainer"))
    assert told[-1] == "6" and told.count("1") == 1  # not from the beginning
    assert "trainer_00000099.safetensors: not a whole safetensors file" in graph.log("trainer")
    best = {name.removeprefix("best/"): array for name, array in arrays.items() if name.startswith("best/")}
    assert_same(policy_arrays(policy_from_message(graph.policies[0], ROBOT.spec)), best)
    assert graph.policies[0].version == information["trainer_node"]["version"] > 0
    assert_same(graph.arrays(), in_process(6))


def test_cancel_keeps_the_best_and_the_robot_is_free(make_graph: MakeGraph) -> None:
    graph = make_graph("realtime")
    graph.start_trainer(episode_steps=40)
    handle = graph.send(budget=1000)
    graph.wait(lambda: len(graph.feedback) >= 2, "two iterations")
    busy = graph.train(budget=1)
    assert not busy.success and "another training is under way" in busy.message
    before = len(graph.time_steps)
    graph.wait(lambda: len(graph.time_steps) > before + 3, "a rollout under way")
    cancelled = handle.cancel_goal_async()
    graph.wait(cancelled.done, "an answer to the cancel")
    result = graph.result(handle)
    assert result.success and result.policy_version == graph.policies[-1].version
    assert result.mean_return == pytest.approx(max(said.mean_return for said in graph.feedback))
    graph.wait(lambda: graph.time_steps[-1].step_type == TimeStep.LAST, "the end of the episode")
    assert graph.time_steps[-1].end_reason in (TimeStep.ABORTED, TimeStep.TIME_LIMIT)
    # In real time its answers are for the next step, except the first, which is waited for. Nobody else served, and
    # most came in time, however slow the machine.
    moved = [step for step in graph.time_steps if step.step_type == TimeStep.MID]
    own = [step for step in moved if step.controller == "trainer"]
    assert len(own) > 0.5 * len(moved)
    assert all(not step.fallback and (step.row_age >= 1 or step.step == 1) for step in own)
    assert {step.controller for step in moved} <= {"trainer", "safe"}
    again = graph.train(budget=1000, time_budget=0.5)
    assert again.success, again.message


def test_what_cannot_be_trained_is_refused_and_told(make_graph: MakeGraph) -> None:
    graph = make_graph("lockstep")
    graph.start_trainer(ready_timeout=5.0)
    for text, arguments in (
        ("unknown trainer 'witchcraft', expected one of: .*" + KIND, {"algorithm": "witchcraft"}),
        ("configuration: '{1' is no JSON", {"configuration": "{1"}),
        (r"configuration: got '\[1\]', expected a JSON object", {"configuration": "[1]"}),
        ("unknown parameter 'stdd'", {"configuration": {"stdd": 1.0}}),
        ("'std': got 'much', expected float", {"configuration": {"std": "much"}}),
        ("unknown policy 'oracle'", {"configuration": {"policy": {"kind": "oracle"}}}),
        ("data '/nowhere': no such folder", {"data": "/nowhere"}),
        ("time_budget: got -1.0", {"time_budget": -1.0}),
        ("start: got .* expected 2 finite numbers", {"configuration": {"start": [0.1]}}),
    ):
        before = int(graph.figures.get("refused/train", 0))
        result = graph.train(**{"budget": 1, **arguments})
        assert not result.success
        assert re.search(text, result.message), result.message
        graph.wait(lambda: int(graph.figures.get("refused/train", 0)) == before + 1, "the count")  # noqa: B023
    assert not graph.policies
    assert graph.train(budget=1).success
    graph.processes["trainer"].send_signal(signal.SIGTERM)
    assert graph.processes["trainer"].wait(10.0) == 0
