# SPDX-License-Identifier: Apache-2.0
"""Whole runs of mbrl.launch.yaml from a script: real processes, one ROS domain each."""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory

from mbrl_bringup.domains import range_of_this_machine, reserved_domain
from mbrl_bringup.launch_runner.runner import LaunchRunner
from mbrl_bringup.run_files import Run, read_run

LAUNCH_FILE = "mbrl.launch.yaml"


class RunFailed(RuntimeError):
    """A run ended with an error. The text says where the nodes' output is."""


@dataclass(frozen=True)
class RunRequest:
    """One run: `arguments` of the launch file, `parameters` by node, for instance {"planner": {"delay_steps": 1}}."""

    directory: Path
    arguments: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timeout: float = 600.0


def launch_file() -> Path:
    """The installed mbrl.launch.yaml."""
    return Path(get_package_share_directory("mbrl_bringup")) / "launch" / LAUNCH_FILE


def execute(request: RunRequest) -> Run:
    """Runs it to its end, in a ROS domain of its own, and reads the run directory. Raises RunFailed."""
    directory = request.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    overrides = directory / "parameters.yaml"
    content = {f"/**/{node}": {"ros__parameters": dict(values)} for node, values in request.parameters.items()}
    overrides.write_text(yaml.safe_dump(content or {"/**": {"ros__parameters": {}}}), encoding="utf-8")
    arguments = {**request.arguments, "run_directory": str(directory), "parameters": str(overrides)}
    with reserved_domain() as domain:
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": range_of_this_machine(),
            "OMP_NUM_THREADS": "1",
        }
        with LaunchRunner(launch_file(), arguments, directory, environment=environment) as runner:
            status = runner.wait(request.timeout)
    if status is None:
        raise RunFailed(f"{directory}: not finished after {request.timeout:g} s; see launch.log there")
    if status != 0:
        raise RunFailed(f"{directory}: a node failed; see launch.log there")
    return read_run(directory)


def execute_all(requests: Sequence[RunRequest], workers: int = 2) -> list[Run]:
    """Runs all, `workers` at a time, and prints the returns of each. Raises RunFailed when one has failed."""
    started = time.monotonic()

    def one(index: int) -> Run:
        run = execute(requests[index])
        returns = " ".join(f"{value:.1f}" for value in run.returns())
        print(f"{run.directory.name}: {returns} ({time.monotonic() - started:.0f} s)", flush=True)
        return run

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(len(requests))))
