# SPDX-License-Identifier: Apache-2.0
"""The offline episodes of the regret ledger (`mbrl_bringup.ledger`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_bringup.ledger import STAGES
from mbrl_bringup.run_files import Run, RunError
from mbrl_core.checkpoint import under
from mbrl_core.config import ConfigurationError
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import Array, SpecError
from mbrl_core.tasks import Task, make_task
from mbrl_core.trial import random_controller, run_trial
from mbrl_dynamics.checkpoints import CheckpointFolder
from mbrl_dynamics.model import DynamicsModel, ModelError
from mbrl_dynamics.registry import make_model
from mbrl_planner.controller import PredictiveController
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import Objective
from mbrl_planner.registry import configure_planner, make_planner
from mbrl_robot.simulation import MujocoSimulation

# Ten times the default population, twice its iterations; benchmarks/ledger.py --converged measures what doubling adds.
UNHURRIED = {
    "kind": "icem",
    "population_size": 600,
    "iterations": 6,
    "elites": 20,
    "particles": 1,
    "propagation": "mean",
}
# Without the spread over members, of which the truth has none.
COLLISION_SETTINGS = ("collision_weight", "collision_width", "collision_least_speed")


@dataclass(frozen=True)
class Episode:
    """An episode to be repeated: random streams are keyed by (seed, number), `state` [state_size] is its first."""

    seed: int
    number: int
    state: Array
    steps: int
    task: Task


class _StartAt:
    """A simulation whose episodes start in one given state."""

    def __init__(self, robot: Robot, state: Array) -> None:
        self._simulation = MujocoSimulation(robot)
        self._state = state

    def reset(self, start: np.random.Generator) -> Array:
        return self._simulation.reset(self._state)

    def step(self, action: Array) -> Array:
        return self._simulation.step(action)


def planned_return(
    robot: Robot, episode: Episode, settings: Mapping[str, Any], model: DynamicsModel, replan: bool = True
) -> float:
    """Return of an offline episode in MuJoCo under a planner of `settings` (a `planner` group) through `model`."""
    _, config = configure_planner(settings)
    objective = ModelObjective(
        model, episode.task, config.particles, config.propagation, config, config.precision, config.device
    )
    return return_through(robot, episode, settings, objective, replan)


def return_through(
    robot: Robot, episode: Episode, settings: Mapping[str, Any], objective: Objective, replan: bool = True
) -> float:
    """As `planned_return`, through any objective."""
    controller = PredictiveController(make_planner(settings, robot.spec, objective, episode.seed), replan)

    def answer(time_step: TimeStep) -> Plan:
        return controller.answer(time_step).plan

    return _return(robot, episode, answer)


def random_return(robot: Robot, episode: Episode) -> float:
    """Return of an offline episode under uniformly random actions: the zero of scores."""
    return _return(robot, episode, random_controller(robot.spec, episode.seed))


def _return(robot: Robot, episode: Episode, controller: Callable[[TimeStep], Plan]) -> float:
    backend = _StartAt(robot, episode.state)
    trial = run_trial(backend, controller, episode.task, robot.spec, episode.steps, episode.number, episode.seed)
    return trial.total_return


def unhurried_settings(horizon: int, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The unhurried planner that looks as many steps ahead, and pays for collisions as a planner of `settings` does."""
    given = settings or {}
    collisions = {name: given[name] for name in COLLISION_SETTINGS if name in given}
    return {**UNHURRIED, **collisions, "horizon": horizon}


@dataclass(frozen=True)
class LedgerInputs:
    """What of a run the ledger needs. `settings` is its `planner` group, with the horizon of its plans."""

    robot: Robot
    truth: DynamicsModel
    learned: DynamicsModel
    settings: Mapping[str, Any]
    replan: bool
    episodes: Sequence[tuple[Episode, float]]  # with the return that was realised
    horizon: int  # of the unhurried planner


def read_inputs(run: Run, threads: int = 1) -> LedgerInputs:
    """Reads them from a run directory: its evaluation trials, or without any its last two learned trials.

    Raises RunError that names what is missing.
    """
    information = run.information
    try:
        robot = load_robot(information["robot_file"])
        # What a delay of the robot's own costs beyond its compensation is latency.
        robot = replace(robot, spec=replace(robot.spec, delay=0.0))
        node = information["settings"][information["learned_controller"]]
        settings = {name.removeprefix("planner."): value for name, value in node.items() if name.startswith("planner.")}
        replan = bool(node["replan"])
        configure_planner(settings)
        rows = [row for row in run.metrics if row["evaluation"]] or [row for row in run.metrics if row["learned"]][-2:]
        episodes = [(_episode(run, row), float(row["return"])) for row in rows]
        parameters = {"robot_file": information["robot_file"], "threads": threads}
        truth = make_model("mujoco", parameters, robot.spec, 0)
    except KeyError as error:
        raise RunError(f"{run.directory / 'run.json'}: has no {error}: settings of the run's nodes") from None
    except (ConfigurationError, ModelError, SpecError, FileNotFoundError) as error:
        raise RunError(f"{run.directory}: {error}") from None
    if not episodes:
        raise RunError(f"{run.directory}: expected a trial with a learned model, got none")
    horizon = int(settings["horizon"])
    if not replan:
        # One plan is followed for the whole episode; the unhurried planner plans at every step all the same.
        settings["horizon"] = int(node["open_loop_horizon"])
    return LedgerInputs(robot, truth, learned_model(run.directory, robot), settings, replan, episodes, horizon)


def _episode(run: Run, row: Mapping[str, Any]) -> Episode:
    information = run.information
    goal = tuple(float(value) for value in row["goal"].split())
    task = make_task(
        information["task"],
        goal,
        information["task_parameters"],
        information["task_weights"],
        obstacles=tuple(information["obstacles"]),
    )
    return Episode(information["seed"], row["episode"], run.states(row["trial"])[0], row["steps"], task)


def learned_model(directory: Path, robot: Robot) -> DynamicsModel:
    """The published model of a run's newest checkpoint. Raises RunError."""
    folder = CheckpointFolder(directory / "checkpoints")
    checkpoint = folder.newest()
    if checkpoint is None:
        raise RunError(f"{folder.folder}: expected a checkpoint of the learner, got none")
    path, arrays, information = checkpoint
    try:
        model = make_model(information["model"]["kind"], information["model"], robot.spec, 0)
        model.load_arrays(under("published/", arrays))
    except (KeyError, ConfigurationError, ModelError) as error:
        raise RunError(f"{path}: {error}") from None
    return model


def make_ledger(inputs: LedgerInputs, note: Callable[[str], object] = print) -> list[dict[str, float]]:
    """A row of returns for each episode: seed, episode, STAGES, and `random`, the zero of scores. Takes minutes."""
    torch.set_num_threads(1)
    rows = []
    for episode, realised in inputs.episodes:
        robot, settings = inputs.robot, dict(inputs.settings)
        row = {
            "seed": episode.seed,
            "episode": episode.number,
            "unhurried": planned_return(robot, episode, unhurried_settings(inputs.horizon, settings), inputs.truth),
            "budget": planned_return(robot, episode, settings, inputs.truth, inputs.replan),
            "model": planned_return(robot, episode, settings, inputs.learned, inputs.replan),
            "real": realised,
            "random": random_return(robot, episode),
        }
        note(f"seed {episode.seed} episode {episode.number}: " + ", ".join(f"{s} {row[s]:.2f}" for s in STAGES))
        rows.append(row)
    return rows
