# SPDX-License-Identifier: Apache-2.0
"""What a planner tells of its settings: all of it, to whoever comes later, and back again."""

import dataclasses
import json
from collections.abc import Callable

import pytest
from graph import Graph
from std_msgs.msg import String

from mbrl_core.config import ConfigurationError, to_mapping
from mbrl_planner.nodes.settings import (
    TOPIC,
    PlannerSettings,
    computation,
    settings_from_parameters,
    settings_from_text,
)
from mbrl_planner.registry import PLANNERS
from mbrl_ros.qos import LATCHED


@pytest.mark.parametrize("kind", PLANNERS.names())
def test_settings_of_every_kind_survive_the_text(kind: str) -> None:
    configured = settings_from_parameters({"seed": 7, "replan": False, "planner.kind": kind, "planner.horizon": 9})
    told = dataclasses.replace(configured, producer="/planner@here:1", computation=computation(configured.config))
    read = settings_from_text(told.text())
    assert read == told
    assert (read.node.seed, read.config.horizon, read.planned_config.horizon) == (7, 9, 200)
    assert set(read.computation) == {"torch", "instructions", "kernels", "threads"}


def test_a_node_tells_all_its_parameters_to_late_comers(make_graph: Callable[..., Graph]) -> None:
    graph = make_graph("mode:=lockstep", "seed:=7", "delay_steps:=2", "planner.kind:=cem", "planner.horizon:=11")
    heard: list[String] = []
    graph.node.create_subscription(String, TOPIC, heard.append, LATCHED)
    graph.until(lambda: bool(heard))
    settings: PlannerSettings = settings_from_text(heard[0].data)
    assert settings.lockstep and settings.producer == graph.planner._producer
    assert (settings.node.seed, settings.node.delay_steps, settings.kind, settings.config.horizon) == (7, 2, "cem", 11)
    told = settings.parameters()
    declared = {name: value.value for name, value in graph.planner._parameters.items()}
    assert {name: value for name, value in declared.items() if name in told} == told
    assert set(declared) - set(told) <= {"use_sim_time", "autostart", "start_type_description_service"}
    of_planner = {name.removeprefix("planner.") for name in told if name.startswith("planner.")}
    assert of_planner == {"kind", *to_mapping(settings.config)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"layout": 1, "producer": "", "parameters": 3, "computation": {}}',
        '{"layout": 1, "producer": "", "parameters": {}, "computation": 3}',
        '{"layout": 2, "producer": "", "parameters": {"planner.kind": "icem"}, "computation": {}}',
    ],
)
def test_a_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"planner_settings: got|planner\.kind"):
        settings_from_text(text)


def test_unknown_parameters_of_a_planner_are_refused() -> None:
    content = json.loads(settings_from_parameters({"planner.kind": "icem"}).text())
    content["parameters"]["planner.depth"] = 3
    with pytest.raises(ConfigurationError, match="unknown parameter 'depth'"):
        settings_from_text(json.dumps(content))
