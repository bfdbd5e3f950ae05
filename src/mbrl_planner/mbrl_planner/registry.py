# SPDX-License-Identifier: Apache-2.0
"""Planners by name. Planners of other packages are found through the entry point group `mbrl.planner`."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from mbrl_core.config import ConfigurationError
from mbrl_core.registry import Registry
from mbrl_core.specs import RobotSpec
from mbrl_planner.planner import Objective, Planner, PlannerConfig

PLANNERS: Registry[Planner] = Registry(
    "planner",
    (
        "mbrl_planner.random_shooting",
        "mbrl_planner.cem",
        "mbrl_planner.cma_es",
        "mbrl_planner.ddp",
        "mbrl_planner.gradient",
        "mbrl_planner.icem",
        "mbrl_planner.ilqr",
        "mbrl_planner.lqr_planner",
        "mbrl_planner.mppi",
        "mbrl_planner.pddm",
        "mbrl_planner.poplin_a_init",
        "mbrl_planner.poplin_a_replan",
        "mbrl_planner.poplin_p",
    ),
)


def configure_planner(mapping: Mapping[str, Any]) -> tuple[str, PlannerConfig]:
    """Kind and configuration of a `planner` group (`{kind: icem, horizon: 25, ...}`).

    Raises ConfigurationError on an unknown kind or parameter, a wrong type or a value out of range.
    """
    values = dict(mapping)
    kind = values.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigurationError(
            f"parameter 'planner.kind': got {kind!r}, expected one of: {', '.join(PLANNERS.names())}"
        )
    return kind, PLANNERS.configure(kind, values)


def build_planner(
    kind: str,
    config: PlannerConfig,
    spec: RobotSpec,
    objective: Objective,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
) -> Planner:
    """Builds a planner of a registered kind from its configuration."""
    return PLANNERS.get(kind).implementation(config, spec, objective, seed, clock)


def make_planner(mapping: Mapping[str, Any], spec: RobotSpec, objective: Objective, seed: int) -> Planner:
    """Builds a planner from a `planner` group: `configure_planner` and `build_planner` in one."""
    kind, config = configure_planner(mapping)
    return build_planner(kind, config, spec, objective, seed)
