# SPDX-License-Identifier: Apache-2.0
"""Parameters of trainer_node beside the groups `planner` and `policy`."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbrl_core.config import ConfigurationError, load_preset, parameter
from mbrl_core.observed_task import task_on
from mbrl_core.robot_file import Robot
from mbrl_core.tasks import Task, task_file_of, task_of_preset
from mbrl_msgs.action import Train
from mbrl_policy.nodes.training_job import TrainingGoal, merged_configuration
from mbrl_policy.training import TRAINERS
from mbrl_policy.training_data import TEACHERS


@dataclass(frozen=True)
class TrainerNodeConfig:
    """Parameters of trainer_node; what is to be trained comes with the goal of the action `train`."""

    robot_file: str = parameter("", "path of the robot file", read_only=True)
    mode: str = parameter(
        "realtime",
        "that of the robot; in lockstep answers to a rollout's time steps are for the step of their state",
        choices=("realtime", "lockstep"),
        read_only=True,
    )
    seed: int = parameter(0, "seed of all random streams", minimum=0, read_only=True)
    run_directory: str = parameter(
        "", "folder of the run, checkpoints go to its folder `checkpoints`; empty writes none", read_only=True
    )
    resume: bool = parameter(
        True,
        "republish the newest checkpoint's policy, and go on with its training when the same is asked for and it was"
        " not finished",
        read_only=True,
    )
    presets: str = parameter(
        "", "folder with ALGORITHM.yaml; parameters of the goal have precedence over those in it", read_only=True
    )
    niceness: int = parameter(
        10, "how much lower the priority of the training thread is", minimum=0, maximum=19, read_only=True
    )
    own_task: bool = parameter(
        False, "train for the task that the robot file names as long as none has come on the topic", read_only=True
    )
    teachers: tuple[str, ...] = parameter(TEACHERS, "controllers whose episodes are demonstrations", read_only=True)
    episode_steps: int = parameter(0, "steps of a rollout; 0 = as the robot file says", minimum=0, read_only=True)
    delay_steps: int = parameter(
        -1, "rollouts: steps between a state and the answer to it; -1 measures it in realtime and is 0 in lockstep",
        minimum=-1, maximum=100, read_only=True,
    )  # fmt: skip
    attempts: int = parameter(3, "how often a rollout that was disturbed is tried in all", minimum=1, read_only=True)
    disturbed_share: float = parameter(
        0.05, "largest share of a rollout's steps that another controller may serve or that are not one period long",
        minimum=0.0, maximum=1.0, read_only=True,
    )  # fmt: skip
    start_tolerance: float = parameter(
        0.2, "largest difference in a joint's position, m or rad, between the start of a rollout that was asked for and"
        " its first state", minimum=1e-6, read_only=True,
    )  # fmt: skip
    start_velocity_tolerance: float = parameter(
        2.0, "the same for a joint's velocity, m/s or rad/s", minimum=1e-6, read_only=True
    )
    ready_timeout: float = parameter(
        30.0, "seconds to wait for robot_spec, task and, where an algorithm needs one, model", minimum=0.1,
        read_only=True,
    )  # fmt: skip
    start_timeout: float = parameter(
        30.0, "seconds to wait in each phase of an episode's start", minimum=0.1, read_only=True
    )
    step_timeout: float = parameter(
        0.0, "seconds without a time step after which a rollout has failed; 0: 10 in realtime, 120 in lockstep, where"
        " the robot waits for the learner's fits and says itself whom it waits for in vain",
        minimum=0.0, read_only=True,
    )  # fmt: skip


@dataclass(frozen=True)
class PolicyKind:
    """Which policy is trained; its own parameters stand beside `kind` in the same group."""

    kind: str = parameter("mlp", "registered policy, for instance mlp, rbf or linear", read_only=True)


def own_task(robot_file: str, robot: Robot) -> Task:
    """The task that a robot file names, as it lies beside it. Raises ConfigurationError and FileNotFoundError."""
    task = task_of_preset(load_preset(task_file_of(robot_file, robot.task), "task"))
    return task_on(task, robot.spec)


def read_configuration(text: str) -> dict[str, Any]:
    """The JSON object of a goal's configuration; an empty text is an empty one. Raises ConfigurationError."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"configuration: {text[:80]!r} is no JSON: {error}, expected an object") from None
    if not isinstance(value, dict):
        raise ConfigurationError(f"configuration: got {text[:80]!r}, expected a JSON object of parameters")
    return value


def read_goal(request: Train.Goal, presets: str, groups: Mapping[str, Mapping[str, Any]]) -> TrainingGoal:
    """A goal of the action, checked as far as it can be without robot and data. Raises ConfigurationError, OSError."""
    if not (math.isfinite(request.time_budget) and request.time_budget >= 0.0):
        raise ConfigurationError(f"time_budget: got {request.time_budget}, expected seconds, 0 for unlimited")
    configuration = read_configuration(request.configuration)
    TRAINERS.get(request.algorithm)
    mapping, merged = merged_configuration(request.algorithm, configuration, presets, groups)
    TRAINERS.configure(request.algorithm, mapping)
    return TrainingGoal(request.algorithm, mapping, merged, request.data, request.budget, request.time_budget)
