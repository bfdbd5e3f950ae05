# SPDX-License-Identifier: Apache-2.0
"""Learning runs of another project's PETS on this project's simulated cart-pole, which can be stopped at any time."""

import dataclasses
import json
import sys
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import mujoco
import numpy as np
from _pets_rows import StudyError, held

from mbrl_core.config import load_preset
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import load_robot
from mbrl_core.tasks import Task, task_of_preset
from mbrl_robot.simulation import MujocoSimulation
from mbrl_robot.simulation_interface import START_STREAM

CONFIG = Path(__file__).resolve().parents[1] / "config"
SAVE_EVERY, TELL_EVERY = 5, 20  # steps of a learned trial
REWARD_TOLERANCE = 1e-6
PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION


class Learner(Protocol):
    """What learns and plans; state and action are lists of numbers as in the robot file.

    `machine` names the processor that does so.
    """

    machine: str

    def explore(self) -> list[float]:
        """A random action."""

    def act(self, state: list[float]) -> tuple[list[float], float]:
        """The planned action, and seconds that it took."""

    def add(self, state: list[float], action: list[float], next_state: list[float], reward: float, last: bool) -> None:
        """Takes a transition."""

    def fit(self) -> float:
        """Learns from all data; seconds that it took."""

    def reset(self) -> None:
        """Forgets the last plan, before a trial."""

    def save(self, path: Path, progress: Mapping[str, Any]) -> None:
        """Writes everything, with `progress` as JSON in the array of that name, to an npz file, atomically."""

    def restore(self, path: Path) -> None:
        """Goes on from such a file."""


@dataclass(frozen=True)
class Study:
    """What is to be done with each seed: a random trial (number 0), then learned ones, each after a fit.

    `side` is what rows call it. `overrides` change the other project's preset (NAME=VALUE). `keep` is the folder of
    files to go on from. `device` is where the other project computes, by torch's name.
    """

    side: str
    trials: int
    steps: int
    keep: Path
    overrides: tuple[str, ...] = ()
    device: str = "cpu"

    def file(self, seed: int) -> Path:
        """What a seed goes on from."""
        return self.keep / f"seed_{seed}.npz"

    def identity(self, seed: int) -> dict[str, Any]:
        """What files that can be gone on from have in common; `trials` may grow."""
        return {"seed": seed, "steps": self.steps, "overrides": list(self.overrides), "device": self.device}


@dataclass
class Progress:
    """Where a seed stands: rows of finished trials, and the trial under way after `step` steps.

    `physics` is all that the simulation goes on from, the solver's first guess included, which `state` is not.
    """

    trial: int = 0
    step: int = 0
    total: float = 0.0
    state: list[float] = field(default_factory=list)
    physics: list[float] = field(default_factory=list)
    plan_seconds: list[float] = field(default_factory=list)
    fit_seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def read_progress(study: Study, seed: int) -> Progress | None:
    """What was saved of a seed, if anything. Raises StudyError when it is of another study, or damaged."""
    path = study.file(seed)
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            content = json.loads(str(file["progress"]))
        found = content.pop("study")
        progress = Progress(**content)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise StudyError(f"{path}: cannot be gone on from: {error!r}; delete it to start this seed anew") from None
    if found != study.identity(seed):
        raise StudyError(f"{path}: is of {found}, expected {study.identity(seed)}; name another folder with --keep")
    return progress


def play(
    learner: Learner, study: Study, seed: int, finished: Callable[[dict[str, Any]], None], stop: threading.Event
) -> None:
    """Goes on with a seed until its trials are done or `stop` is set, which is looked at before each step.

    Start states come from the same streams as those of this project's own runs of that seed. `finished` gets the row
    of each finished trial, of those done before too; it is called after the row is safe on disk.
    """
    robot, task = cartpole()
    simulation = MujocoSimulation(robot)
    progress = read_progress(study, seed) or Progress()
    if progress.rows:
        learner.restore(study.file(seed))
    for row in progress.rows:
        finished(row)

    def save() -> None:
        physics = np.empty(mujoco.mj_stateSize(simulation.model, PHYSICS))
        mujoco.mj_getState(simulation.model, simulation.data, physics, PHYSICS)
        progress.physics = physics.tolist()
        study.keep.mkdir(parents=True, exist_ok=True)
        learner.save(study.file(seed), {"study": study.identity(seed), **dataclasses.asdict(progress)})

    while progress.trial <= study.trials:
        learned = progress.trial > 0
        if progress.step == 0:
            progress.state = simulation.reset(generator(seed, progress.trial + 1, 0, START_STREAM)).tolist()
            if learned:
                progress.fit_seconds = learner.fit()
                learner.reset()
        else:
            mujoco.mj_setState(simulation.model, simulation.data, np.array(progress.physics), PHYSICS)
        while progress.step < study.steps:
            if stop.is_set():
                return
            action, seconds = learner.act(progress.state) if learned else (learner.explore(), 0.0)
            following = simulation.step(np.array(action))
            reward = float(task.reward(np.array(progress.state), np.array(action), following))
            progress.step += 1
            learner.add(progress.state, action, following.tolist(), reward, progress.step == study.steps)
            progress.state = following.tolist()
            progress.total += reward
            progress.plan_seconds.append(seconds)
            if learned and progress.step % SAVE_EVERY == 0 and progress.step < study.steps:
                save()
            if learned and progress.step % TELL_EVERY == 0:
                told = f"return {progress.total:.1f}, {np.median(progress.plan_seconds):.2f} s a step"
                print(
                    f"{study.side} seed {seed} trial {progress.trial} step {progress.step}: {told}",
                    file=sys.stderr,
                    flush=True,
                )
        row = {
            "side": study.side,
            "seed": seed,
            "trial": progress.trial,
            "return": progress.total,
            "steps": progress.step,
            "seconds_per_plan": float(np.median(progress.plan_seconds)),
            "seconds_planning": sum(progress.plan_seconds),
            "seconds_fitting": progress.fit_seconds,
            "machine": learner.machine,
        }
        progress = Progress(trial=progress.trial + 1, rows=[*progress.rows, row])
        save()
        finished(row)


def cartpole() -> tuple[Any, Task]:
    """Robot and task as this project's own runs of the cart-pole have them."""
    robot = load_robot(CONFIG / "robots" / "cartpole.yaml")
    return robot, task_of_preset(load_preset(CONFIG / "tasks" / f"{robot.task}.yaml", "task"))


def check_rewards(theirs: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Largest difference between this project's reward and another's, called with actions and next states.

    Raises StudyError when it is more than rounding: returns could not be compared.
    """
    robot, task = cartpole()
    random = generator(0, 0, 0, "rewards")
    actions = random.uniform(robot.spec.action.lower, robot.spec.action.upper, (1000, 1))
    states = random.normal(0.0, (1.0, 3.0, 3.0, 6.0), (1000, 4))
    difference = float(np.abs(theirs(actions, states) - task.reward(states, actions, states)).max())
    if not difference <= REWARD_TOLERANCE:
        raise StudyError(f"rewards of the two sides: differ by up to {difference}, expected {REWARD_TOLERANCE} at most")
    return difference


def play_all(
    study: Study,
    seeds: Sequence[int],
    workers: int,
    learner: Callable[[int], Any],
    finished: Callable[[dict[str, Any]], None],
) -> None:
    """Plays seeds, `workers` at a time; `learner` makes a context manager of a Learner. An error stops all of them."""
    stop, lock = threading.Event(), threading.Lock()

    def finished_one(row: dict[str, Any]) -> None:
        with lock:
            finished(row)

    def one(seed: int) -> None:
        if stop.is_set():
            return
        try:
            with learner(seed) as made:
                play(made, study, seed, finished_one, stop)
        except BaseException:
            stop.set()
            raise

    with held(study.keep), ThreadPoolExecutor(workers) as pool:
        try:
            list(pool.map(one, seeds))
        finally:
            stop.set()
