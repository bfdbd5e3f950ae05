# SPDX-License-Identifier: Apache-2.0
"""What a planner's decisions depend on beside robot, model, task and time steps, so that bags hold it, too."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from mbrl_core.config import ConfigurationError, describe, from_mapping, to_mapping
from mbrl_dynamics.kernels import kernels
from mbrl_planner.nodes.configuration import PlannerNodeConfig
from mbrl_planner.planner import PlannerConfig
from mbrl_planner.registry import configure_planner

TOPIC = "planner_settings"
LAYOUT = 1
GROUP = "planner."


@dataclass(frozen=True)
class PlannerSettings:
    """Parameters of a planner_node, and what its process computes with. `producer` is that of its plans."""

    node: PlannerNodeConfig
    kind: str
    config: PlannerConfig
    producer: str = ""
    computation: Mapping[str, str] = field(default_factory=dict)

    @property
    def lockstep(self) -> bool:
        """Whether plans depend on no clock."""
        return self.node.mode == "lockstep"

    @property
    def planned_config(self) -> PlannerConfig:
        """The planner's own configuration: where it plans once an episode, that plan is as long as the node says."""
        if self.node.replan:
            return self.config
        return dataclasses.replace(self.config, horizon=self.node.open_loop_horizon)

    def parameters(self) -> dict[str, Any]:
        """As the node's parameters: name to value."""
        own = {f"{GROUP}{name}": value for name, value in to_mapping(self.config).items()}
        return {**to_mapping(self.node), f"{GROUP}kind": self.kind, **own}

    def text(self) -> str:
        """The JSON object that the node publishes on TOPIC."""
        content = {"layout": LAYOUT, "producer": self.producer, "parameters": self.parameters()}
        return json.dumps({**content, "computation": dict(self.computation)}, sort_keys=True)


def settings_from_parameters(parameters: Mapping[str, Any], **others: Any) -> PlannerSettings:
    """Settings of a node's parameters, name to value; those that every node has are passed over.

    Raises ConfigurationError as the node would.
    """
    known = {item.name for item in describe(PlannerNodeConfig)}
    node = from_mapping(PlannerNodeConfig, {name: value for name, value in parameters.items() if name in known})
    group = {name.removeprefix(GROUP): value for name, value in parameters.items() if name.startswith(GROUP)}
    kind, config = configure_planner(group)
    return PlannerSettings(node, kind, config, **others)


def settings_from_text(text: str) -> PlannerSettings:
    """The reverse of `PlannerSettings.text`. Raises ConfigurationError."""
    try:
        content = json.loads(text)
        layout, producer, parameters = content["layout"], content["producer"], content["parameters"]
        computation = {str(name): str(value) for name, value in content["computation"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"{TOPIC}: got {text[:80]!r}, expected a planner's settings: {error!r}") from None
    if layout != LAYOUT or not isinstance(parameters, dict):
        raise ConfigurationError(f"{TOPIC}: got layout {layout!r}, expected {LAYOUT} with an object of parameters")
    return settings_from_parameters(parameters, producer=str(producer), computation=computation)


def computation(config: PlannerConfig) -> dict[str, str]:
    """What the last bits of a plan depend on beside everything that is said elsewhere: libraries and instructions."""
    library = kernels()
    return {
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "kernels": "none" if library is None else library.best(config.precision).name,
        "threads": str(torch.get_num_threads()),
    }
