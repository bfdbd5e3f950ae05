# SPDX-License-Identifier: Apache-2.0
"""One robot, task and seed of the bench sim2sim: learned in MuJoCo, run in DART, both in the graph; and references.

  learn       MuJoCo: a random and LEARNED_TRIALS planned trials (MBRL 1.5), then a policy by tracking and a trial of it
  zero_shot   DART: the checkpoint's model, frozen, plans a trial; the checkpoint's policy acts in another
  adapt       DART: the checkpoint's model plans a trial and goes on learning in it; what it is then, frozen, another
  distil      DART: the same first trial; a policy is made of it and the model, by tracking; a trial of the policy

A run in DART has only the newest checkpoints of learner and trainer in its run directory, so its nodes go on from them.
The references of a trial are of the same physics, start state, goal and length: random is the mean of a few episodes of
uniform actions, the oracle the better of two unhurried planners, iCEM and iLQR, through the true dynamics (DART's
closed form, which is compared with DART first), executed in that physics.
"""

import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from _dart_twin import DartTwin
from _learning import PATIENT
from _offline import CONFIG, preset
from _twin import CountedTwin, Twin, TwinObjective
from _twin_model import TwinModel

from mbrl_bringup.batch import RunRequest, execute
from mbrl_bringup.ledger_trials import unhurried_settings
from mbrl_bringup.run_files import Run
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_core.tasks import task_of_preset
from mbrl_core.trial import Controller, random_controller, run_trial
from mbrl_planner.controller import PredictiveController
from mbrl_planner.objective import ModelObjective
from mbrl_planner.registry import configure_planner, make_planner
from mbrl_robot.dart_simulation import DartSimulation
from mbrl_robot.simulation import MujocoSimulation

ROBOTS = ("cartpole", "reacher")
BACKENDS = ("mujoco", "dart")
LEARNED_TRIALS = {"cartpole": 3, "reacher": 9}  # in MuJoCo, beside the random one
# Steps that the oracles look ahead: of a few, those that returned most.
ORACLES = {"cartpole": {"icem": 25, "ilqr": 25}, "reacher": {"icem": 12, "ilqr": 20}}
ILQR = {"kind": "ilqr", "iterations": 10, "restarts": 0}
RANDOM_EPISODES = 10
RANDOM_SEEDS = 10_000  # those of their action streams begin here

Row = dict[str, Any]
Parameters = Mapping[str, Mapping[str, Any]]

# The stages in DART: algorithm, trials that are planned, and what differs from the presets.
STAGES: dict[str, tuple[str, int, Parameters]] = {
    "zero_shot": (
        "distil", 1,
        {"experiment": {"policy_trials": 1, "trainer": ""}, "learner": {"learner.schedule": "never"}},
    ),
    "adapt": ("mbrl_1_5", 1, {"experiment": {"evaluation_trials": 1}, "learner": {"learner.last_episode": 1}}),
    "distil": (
        "distil", 1,
        {
            "experiment": {
                "policy_trials": 1,
                # One law of the one trial, tried once: what is tried teaches nobody.
                "trainer_configuration": '{"iterations": 1, "evaluation_rollouts": 1}',
            },
            "learner": {"learner.last_episode": 1},
        },
    ),
}  # fmt: skip


def task_preset(robot: str, seed: int) -> dict[str, Any]:
    """The robot's own task; where goals are drawn, one for the seed, since a policy knows of no goal."""
    content = preset("tasks", load_robot(CONFIG / "robots" / f"{robot}.yaml").task, "task")
    ring = content.pop("goal_radius", None)
    if ring is not None:
        random = generator(seed, 0, 0, "goal")
        radius, angle = np.sqrt(random.uniform(ring[0] ** 2, ring[1] ** 2)), random.uniform(-np.pi, np.pi)
        content["goal"] = [float(radius * np.cos(angle)), float(radius * np.sin(angle))]
    return content


def run_stages(folder: Path, robot: str, seed: int, stages: tuple[str, ...]) -> list[Row]:
    """Rows of all trials of a robot and seed, after one another. Raises RunFailed."""
    rows = []
    learned = folder / f"{robot}_{seed}_learn"
    last = 1 + LEARNED_TRIALS[robot]
    first: Parameters = {"experiment": {"policy_trials": 1}, "learner": {"learner.last_episode": last}}
    rows += _rows("learn", _run(learned, robot, seed, "mujoco", "distil", last, first), seed)
    adapted: Array | None = None
    for stage in stages:
        algorithm, trials, parameters = STAGES[stage]
        directory = folder / f"{robot}_{seed}_{stage}"
        hand_over(learned, directory)
        parameters = {**parameters, "experiment": {**parameters["experiment"], "random_trials": 0}}
        run = _run(directory, robot, seed, "dart", algorithm, trials, parameters)
        if stage != "zero_shot":
            # Two runs of the same seed have the same first trial, or something is not as it should be.
            states = run.states(0)
            if adapted is not None and adapted.tobytes() != states.tobytes():
                raise RuntimeError(f"{directory}: its first trial is not that of adapt, expected the same bytes")
            adapted = states
        rows += _rows(stage, run, seed)
    return rows


def hand_over(source: Path, target: Path) -> None:
    """Gives a new run directory the newest checkpoints of another: the learner's and the trainer's."""
    folder = target / "checkpoints"
    folder.mkdir(parents=True)
    for role in ("learner", "trainer"):
        newest = max((source / "checkpoints").glob(f"{role}_*.safetensors"), key=lambda path: path.name)
        shutil.copy(newest, folder)


def _run(
    directory: Path, robot: str, seed: int, backend: str, algorithm: str, trials: int, parameters: Parameters
) -> Run:
    directory.mkdir(parents=True, exist_ok=True)
    task_file = directory / "task.yaml"
    content = {"/**": {"ros__parameters": {"task": task_preset(robot, seed)}}}
    task_file.write_text(yaml.safe_dump(content), encoding="utf-8")
    # Lockstep waits for the selected controller only: nobody plans along.
    own: Parameters = {
        "experiment": {"task_file": str(task_file), "handover_step": 0},
        "policy": {"agreement.planner": ""},
        "planner": {"always_on": False},
    }
    nodes = {*PATIENT, *own, *parameters}
    merged = {
        node: {**PATIENT.get(node, {}), **own.get(node, {}), **parameters.get(node, {})} for node in sorted(nodes)
    }
    arguments = {
        "mode": "lockstep", "record": "false", "robot": robot, "backend": backend, "algorithm": algorithm,
        "trials": str(trials), "seed": str(seed),
    }  # fmt: skip
    return execute(RunRequest(directory, arguments, merged, timeout=3600.0))


def _rows(stage: str, run: Run, seed: int) -> list[Row]:
    backend = "mujoco" if stage == "learn" else "dart"
    return [
        {
            "robot": run.information["robot"], "seed": seed, "backend": backend, "stage": stage,
            "trial": row["trial"], "controller": row["controller"], "return": row["return"],
            "success_steps": row["success_steps"], "steps": row["steps"], "model_version": row["model_version"],
            "prequential_error": row["prequential_error"],
            "start": " ".join(repr(float(value)) for value in run.states(row["trial"])[0]),
        }
        for row in run.metrics
    ]  # fmt: skip


def add_references(row: Row) -> Row:
    """The row with the returns of `random` and `oracle`, and the score S."""
    torch.set_num_threads(1)
    robot = load_robot(CONFIG / "robots" / f"{row['robot']}.yaml")
    task = task_of_preset(task_preset(row["robot"], row["seed"]))
    start = np.array([float(value) for value in row["start"].split()])
    simulation, twin = physics(row["robot"], row["backend"])
    backend = _StartAt(simulation, start)

    def total(controller: Controller) -> float:
        trial = run_trial(backend, controller, task, robot.spec, row["steps"], row["trial"] + 1, row["seed"])
        return trial.total_return

    def oracle(kind: str, horizon: int) -> float:
        sampled = kind == "icem"
        settings = unhurried_settings(horizon) if sampled else {**ILQR, "horizon": horizon}
        _, config = configure_planner(settings)
        objective = (
            TwinObjective(CountedTwin(twin), task)
            if sampled
            else ModelObjective(TwinModel(twin), task, config.particles, config.propagation, config)
        )
        answer = PredictiveController(make_planner(settings, robot.spec, objective, row["seed"])).answer
        return total(lambda time_step: answer(time_step).plan)

    random = float(
        np.mean([total(random_controller(robot.spec, RANDOM_SEEDS + index)) for index in range(RANDOM_EPISODES)])
    )
    best = max(oracle(kind, horizon) for kind, horizon in ORACLES[row["robot"]].items())
    return {**row, "random": random, "oracle": best, "score": (row["return"] - random) / (best - random)}


@lru_cache
def physics(robot: str, backend: str) -> tuple[DartSimulation | MujocoSimulation, Twin]:
    """The simulation of a robot and its equation of motion, made once a process."""
    loaded = load_robot(CONFIG / "robots" / f"{robot}.yaml")
    if backend == "dart":
        return DartSimulation(loaded), DartTwin(loaded)
    return MujocoSimulation(loaded), Twin(loaded)


class _StartAt:
    """A simulation whose episodes start in one given state."""

    def __init__(self, simulation: DartSimulation | MujocoSimulation, state: Array) -> None:
        self._simulation, self._state = simulation, state

    def reset(self, start: np.random.Generator) -> Array:
        return self._simulation.reset(self._state)

    def step(self, action: Array) -> Array:
        return self._simulation.step(action)
