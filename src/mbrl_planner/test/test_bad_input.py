# SPDX-License-Identifier: Apache-2.0
"""planner_node refuses what is wrong with a reason, counts it, and keeps what it had."""

import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from graph import OTHER_SPEC, SPEC, Graph, learned_model, model_message

from mbrl_core.checkpoint import encode_arrays
from mbrl_core.config import ConfigurationError, describe
from mbrl_core.tasks import TASKS, CartpoleTip, Task
from mbrl_msgs.msg import Model
from mbrl_planner.nodes.inputs import LatchedInputs
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import OutOfTime
from mbrl_planner.registry import PLANNERS, configure_planner
from mbrl_ros.conversions import MessageError, spec_to_message, task_to_message

MakeGraph = Callable[..., Graph]
LOCKSTEP = ("mode:=lockstep", "planner.population_size:=24", "planner.horizon:=5")


def nan_weights() -> dict[str, Any]:
    arrays = learned_model().state_arrays()
    arrays["weight_0"] = np.full_like(arrays["weight_0"], np.nan)
    weights = encode_arrays(arrays)
    return {"weights": weights, "crc32": zlib.crc32(weights)}


def cut_weights() -> dict[str, Any]:
    weights = encode_arrays(learned_model().state_arrays())[:-100]
    return {"weights": weights, "crc32": zlib.crc32(weights)}


def exploding_model(version: int) -> Model:
    """Its weights are finite and its predictions are not."""
    model = learned_model()
    arrays = {name: value * 1e30 if name == "weight_out" else value for name, value in model.state_arrays().items()}
    model.load_arrays(arrays)
    return model_message(model, version)


BAD_MODELS: list[tuple[str, Callable[[], dict[str, Any]], str]] = [
    ("other interface", lambda: {"interface_hash": OTHER_SPEC.interface_hash}, "other_interface"),
    ("other layout", lambda: {"version_of_layout": 99}, "other_layout"),
    ("damaged", lambda: {"crc32": 1}, "damaged_model"),
    ("cut short", cut_weights, "damaged_model"),
    ("empty", lambda: {"weights": b"", "crc32": 0}, "damaged_model"),
    ("unknown kind", lambda: {"kind": "crystal_ball"}, "invalid_model"),
    ("unknown parameter", lambda: {"configuration": '{"magic": 1}'}, "invalid_model"),
    ("no JSON", lambda: {"configuration": "{"}, "invalid_model"),
    ("JSON of another type", lambda: {"configuration": "[]"}, "invalid_model"),
    ("other shape", lambda: {"configuration": '{"hidden_size": 8, "members": 5}'}, "invalid_model"),
    ("not finite", nan_weights, "invalid_model"),
    ("members that do not divide the particles", dict, "invalid_model"),
]


def ready(graph: Graph) -> None:
    graph.publish_spec()
    graph.publish_task()
    graph.publish_model(model_message(learned_model(), 1))
    graph.select("planner")
    graph.until(lambda: graph.planner._controller is not None and graph.planner._hot)


def test_bad_models_are_refused_and_the_old_one_stays(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP)
    ready(graph)
    for index, (name, changes, reason) in enumerate(BAD_MODELS):
        before = graph.refused(reason)
        message = model_message(learned_model(), 2 + index, **changes())
        if name.startswith("members"):
            message = model_message(learned_model(members=3), 2 + index)
        graph.publish_model(message)
        graph.until(lambda reason=reason, before=before: graph.refused(reason) == before + 1)  # type: ignore[misc]
        assert graph.answer(index).model_version == 1, name
    graph.until(lambda: int(graph.figures.get("refused/invalid_model", 0)) == graph.refused("invalid_model"))


def test_bad_time_steps_and_tasks_are_refused(make_graph: MakeGraph) -> None:
    graph = make_graph(*LOCKSTEP)
    ready(graph)
    graph.step(0, changes={"interface_hash": OTHER_SPEC.interface_hash})
    graph.until(lambda: graph.refused("other_interface") == 1)
    graph.step(1, changes={"state": [0.0, 0.0, float("nan"), 0.0]})
    graph.until(lambda: graph.refused("non_finite") == 1)
    graph.step(2, changes={"state": [0.0] * 3})
    graph.until(lambda: graph.refused("wrong_shape") == 1)
    graph.publish_task(version=2, kind="levitate")
    graph.until(lambda: graph.refused("invalid_task") == 1)
    graph.publish_task(version=2, goal=[float("nan"), 0.0])
    graph.until(lambda: graph.refused("invalid_task") == 2)
    assert graph.plans == []
    assert graph.answer(3).task_version == 1


@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
def test_an_invalid_plan_is_not_sent(make_graph: MakeGraph, mode: str) -> None:
    """A model that is finite but predicts infinities, the first one or a later one."""
    graph = make_graph(*LOCKSTEP, f"mode:={mode}")
    if mode == "lockstep":
        ready(graph)
    else:
        graph.publish_spec()
        graph.publish_task()
        graph.select("planner")
    graph.publish_model(exploding_model(2))
    graph.step(0, required_model_version=2)
    graph.until(lambda: graph.refused("invalid_plan") >= 1)
    assert graph.plans == []
    graph.publish_model(model_message(learned_model(), 3))
    assert graph.answer(1, required_model_version=3).model_version == 3


class FlatReward(CartpoleTip):
    """A reward that has lost its last dimension."""

    kind = "flat_reward"

    def reward(self, state: Any, action: Any, next_state: Any) -> Any:
        return super().reward(state, action, next_state)[..., 0]


class FailingReward(CartpoleTip):
    """A reward that takes states of another size."""

    kind = "failing_reward"

    def reward(self, state: Any, action: Any, next_state: Any) -> Any:
        return next_state[..., 7]


class TorchlessReward(CartpoleTip):
    """A reward that is right for numpy only."""

    kind = "torchless_reward"

    def reward(self, state: Any, action: Any, next_state: Any) -> Any:
        return np.square(np.array(next_state))[..., 0].astype(float)[()] if isinstance(state, np.ndarray) else 0.0


@pytest.mark.parametrize("task", [FlatReward, FailingReward, TorchlessReward])
def test_a_task_of_wrong_shape_is_refused_where_it_comes_in(task: type[Task], monkeypatch: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"task '{task.kind}': reward of states \[2, 3, 4\]"):
        ModelObjective(learned_model(), task(), 5, "tsinf")
    monkeypatch.setitem(TASKS, task.kind, task)
    inputs = LatchedInputs()
    inputs.take_spec(spec_to_message(SPEC, Time()))
    good, bad = (task_to_message(which, SPEC.interface_hash, Time()) for which in (CartpoleTip(), task(version=2)))
    assert inputs.take_task(good)
    with pytest.raises(MessageError, match="invalid_task|expected"):
        inputs.take_task(bad)
    assert inputs.task_version == 1


@pytest.mark.parametrize("kind", PLANNERS.names())
def test_every_kind_outlives_what_it_cannot_plan_with(make_graph: MakeGraph, kind: str) -> None:
    """Non-finite predictions, an infeasible or empty action box, a deadline in the past, and an error of the planner
    itself: each is counted in /diagnostics, and the node goes on.
    """
    graph = make_graph("mode:=lockstep", f"planner.kind:={kind}", "planner.horizon:=5")
    graph.publish_spec()
    graph.until(lambda: graph.planner._inputs.spec is not None)
    for changes in (
        {"action_lower": [1.0], "action_upper": [-1.0]},
        {"action_lower": [float("nan")]},
        {"action_lower": [], "action_upper": []},
        {"action_names": []},
    ):
        before = graph.refused("invalid_spec")
        graph.publish_spec(**changes)
        graph.until(lambda before=before: graph.refused("invalid_spec") == before + 1)  # type: ignore[misc]
    graph.publish_task()
    graph.select("planner")
    graph.publish_model(exploding_model(1))
    graph.until(lambda: graph.planner._controller is not None and graph.planner._hot)
    graph.step(0)
    graph.until(lambda: graph.refused("invalid_plan") == 1)
    assert graph.plans == []
    graph.publish_model(model_message(learned_model(), 2))
    assert graph.answer(1, required_model_version=2).model_version == 2
    planner = graph.planner._controller.planner  # type: ignore[union-attr]
    planner.reset()
    with pytest.raises(OutOfTime):
        planner.plan(np.zeros(4), time.monotonic() - 1.0)
    plan = planner._begin

    def fail(passed: int) -> None:
        raise ValueError("no such thing")

    planner._begin = fail  # type: ignore[method-assign]
    graph.step(2)
    graph.until(lambda: graph.refused("planner_failed") == 1)
    planner._begin = plan  # type: ignore[method-assign]
    assert np.isfinite(graph.answer(3).actions).all()
    graph.until(lambda: graph.figures.get("refused/planner_failed") == "1")
    assert graph.figures["refused/invalid_plan"] == "1" and graph.figures["refused/invalid_spec"] == "4"


def test_no_time_for_a_first_candidate_is_counted(make_graph: MakeGraph) -> None:
    graph = make_graph("mode:=realtime", "planner.horizon:=2000", "deadline_fraction:=0.01", "delay_steps:=0")
    ready(graph)
    before = graph.refused("out_of_time")  # the warm-up may have been one
    graph.step(1)  # not FIRST, for which there is always half a period
    graph.until(lambda: graph.refused("out_of_time") == before + 1)
    assert graph.plans == []
    graph.until(lambda: graph.figures.get("refused/out_of_time") == str(before + 1))


@pytest.mark.parametrize("kind", PLANNERS.names())
def test_no_horizon_and_more_elites_than_candidates_are_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="'horizon': got 0, expected at least 1"):
        configure_planner({"kind": kind, "horizon": 0})
    names = {field.name for field in describe(PLANNERS.get(kind).configuration)}
    if "elites" in names:
        with pytest.raises(ConfigurationError, match="'elites': got 21, expected .* population_size 20"):
            configure_planner({"kind": kind, "elites": 21, "population_size": 20})


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (
            ["planner.kind:=telepathy"],
            f"unknown planner 'telepathy', expected one of: {', '.join(PLANNERS.names())}",
        ),
        (["planner.horizont:=10"], "unknown parameter 'planner.horizont'"),
        (["planner.elites:=31"], "'elites': got 31, expected at most half of population_size 60"),
        (["mode:=dreamlike"], "'mode': got 'dreamlike', expected one of realtime, lockstep"),
        (["delay_steps:=-2"], "'delay_steps': got -2, expected at least -1"),
    ],
)
def test_bad_parameters_are_refused(parameters: list[str], text: str, make_graph: MakeGraph) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_graph(*parameters)
    assert text in str(caught.value)


def test_bad_parameters_end_the_node_with_one_line() -> None:
    program = "from mbrl_planner.nodes.executables import planner_node; planner_node()"
    result = subprocess.run(
        [sys.executable, "-c", program, "--ros-args", "-p", "planner.horizon:=-1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith("parameter 'planner.horizon': got -1, expected at least 1")
