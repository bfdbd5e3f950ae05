# SPDX-License-Identifier: Apache-2.0
"""Episodes of planners on true dynamics at a fixed number of model calls a plan, spread over processes."""

import dataclasses
import multiprocessing
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from _planners_baselines import KINDS as BASELINES
from _planners_baselines import PRESETS, BaselinePlanner
from _twin import CountedTwin, Twin, TwinObjective, compile_library

from mbrl_core.config import load_preset
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import Robot, load_robot, start_state
from mbrl_core.tasks import Task, task_of_preset
from mbrl_planner.registry import make_planner
from mbrl_robot.simulation import MujocoSimulation

CONFIG = Path(__file__).resolve().parents[1] / "config"
LIBRARY = "MBRL_BENCH_TWIN"  # environment variable that tells worker processes where the compiled twin is
RANDOM_EPISODES = 10


@dataclass(frozen=True)
class Job:
    """One episode. `parameters` are those of the planner, beyond its preset; the population follows from `budget`."""

    robot: str
    planner: str  # what it is called in tables
    kind: str  # "random" for uniform actions
    budget: int  # model calls (control steps rolled out) a plan
    seed: int
    horizon: int
    steps: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    training: int = 0  # episodes before, whose model calls count: each plan then has budget / (training + 1)


@lru_cache
def robot_of(name: str) -> Robot:
    """The robot of config/robots."""
    return load_robot(CONFIG / "robots" / f"{name}.yaml")


def task_of(name: str, seed: int) -> Task:
    """The task that the robot's file names; its goal is drawn by seed where the task says from what ring."""
    preset = load_preset(CONFIG / "tasks" / f"{robot_of(name).task}.yaml", "task")
    task = task_of_preset(preset)
    if "goal_radius" not in preset:
        return task
    random = generator(seed, 0, 0, "goal")
    least, most = preset["goal_radius"]
    radius, angle = np.sqrt(random.uniform(least**2, most**2)), random.uniform(0.0, 2.0 * np.pi)
    return dataclasses.replace(task, goal=(float(radius * np.cos(angle)), float(radius * np.sin(angle))))


@lru_cache
def twin_of(name: str) -> Twin:
    """The true dynamics of a robot, once a process."""
    library = os.environ.get(LIBRARY)
    return Twin(robot_of(name), Path(library) if library else None)


def population(kind: str, values: Mapping[str, Any], sequences: int) -> dict[str, Any]:
    """`values` with the largest population (and elites) whose iterations evaluate at most `sequences` in a plan; fewer
    iterations where a population would be less than four.

    `elite_share` is the elites' share of the population, that of `values` where it is not given.
    """
    values = dict(values)
    if "elites" in values:
        values.setdefault("elite_share", values["elites"] / values["population_size"])
    share = values.pop("elite_share", None)

    def of_size(size: int) -> dict[str, Any]:
        elites = {} if share is None else {"elites": min(max(2, round(share * size)), size // 2)}
        return {**values, "population_size": size, **elites}

    values["iterations"] = max(min(values["iterations"], sequences // 4), 1)
    size = max(sequences // values["iterations"], 4)
    if kind == "icem":
        while size > 4 and _icem_sequences(of_size(size)) > sequences:
            size -= 1
        while _icem_sequences(of_size(size + 1)) <= sequences:
            size += 1
    return of_size(size)


def _icem_sequences(values: Mapping[str, Any]) -> int:
    """Sequences that a plan of iCEM evaluates, the elites kept from the last plan and the mean included."""
    decay, elites = values["population_decay"], values["elites"]
    sizes = [max(int(values["population_size"] / decay**index), 2 * elites) for index in range(values["iterations"])]
    return sum(sizes) + values["iterations"] * int(values["kept_elites"] * elites) + 1


def run_episode(job: Job) -> dict[str, Any]:
    """Row of one episode in MuJoCo: return, model calls a plan, processor time a plan."""
    robot, task = robot_of(job.robot), task_of(job.robot, job.seed)
    simulation = MujocoSimulation(robot)
    start = simulation.reset(generator(job.seed, 0, 0, "start"))
    if job.kind == "random":
        return _row(job, _random_return(simulation, task, start, job), 0, 0.0, 0)
    twin = CountedTwin(twin_of(job.robot))
    planner = build(job, twin, task)
    for episode in range(job.training):
        training_start = start_state(robot, generator(job.seed, episode + 1, 0, "start"))
        _episode(planner, simulation, training_start, task, job.steps, episode + 1)
        planner.end_episode()
    total, seconds, successes = _episode(planner, simulation, start, task, job.steps, job.training + 1)
    return _row(job, total, twin.calls, seconds, successes)


def preset_of(kind: str) -> dict[str, Any]:
    """The preset of a planner, of another project's what it starts from here."""
    return PRESETS[kind] if kind in BASELINES else load_preset(CONFIG / "planner" / f"{kind}.yaml", "planner")


def build(job: Job, twin: CountedTwin, task: Task) -> Any:
    """The planner of a job, with the population that its budget allows."""
    spec = robot_of(job.robot).spec
    sequences = job.budget // (job.training + 1) // job.horizon
    if job.kind == "poplin_a_init":
        sequences -= 1  # the policy's own rollout
    values = {**preset_of(job.kind), **job.parameters, "horizon": job.horizon}
    values = population(job.kind, values, sequences)
    if job.kind in BASELINES:
        return BaselinePlanner(job.kind, values, spec, twin.step, task, job.seed)
    return make_planner(values, spec, TwinObjective(twin, task), job.seed)


def _episode(
    planner: Any, simulation: MujocoSimulation, state: np.ndarray, task: Task, steps: int, episode: int
) -> tuple[float, float, int]:
    """Return, seconds of planning and successful steps of an episode from `state`."""
    simulation.reset(state)
    total, seconds, successes = 0.0, 0.0, 0
    for step in range(steps):
        started = time.process_time()
        action = planner.plan(state, step_key=(episode, step)).actions[0]
        seconds += time.process_time() - started
        following = simulation.step(action)
        total += float(task.reward(state, action, following))
        successes += bool(task.state_is_success(following))
        state = following
    return total, seconds, successes


def _random_return(simulation: MujocoSimulation, task: Task, start: np.ndarray, job: Job) -> float:
    """Mean return of episodes of uniform actions from `start`."""
    random, actions = generator(job.seed, 0, 0, "random"), simulation.robot.spec.action
    total = 0.0
    for _ in range(RANDOM_EPISODES):
        state = simulation.reset(start)
        for _ in range(job.steps):
            action = random.uniform(actions.lower, actions.upper)
            following = simulation.step(action)
            total += float(task.reward(state, action, following))
            state = following
    return total / RANDOM_EPISODES


def _row(job: Job, total: float, calls: int, seconds: float, successes: int) -> dict[str, Any]:
    return {
        "robot": job.robot,
        "planner": job.planner,
        "budget": job.budget,
        "seed": job.seed,
        "return": round(total, 4),
        "success_steps": successes,
        "calls_per_plan": round(calls / job.steps, 1),
        "cpu_ms_per_plan": round(1e3 * seconds / job.steps, 4),
    }


def _start_worker() -> None:
    """Spawned processes get the path of their parent: that of their own interpreter comes on top, for baselines."""
    own = sysconfig.get_paths()["purelib"]
    if own not in sys.path:
        sys.path.append(own)


class Workers:
    """A pool of processes that run episodes, which share one compiled twin.

    `python` is the interpreter of the baselines' environment where baselines are among the jobs.
    """

    def __init__(self, count: int, python: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mbrl_planners_")
        os.environ[LIBRARY] = str(compile_library(Path(self._folder.name)))
        context = multiprocessing.get_context("spawn")
        if python is not None:
            context.set_executable(str(python))
        self._pool = context.Pool(count, _start_worker)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()
        self._folder.cleanup()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` returns in one of the processes."""
        return self._pool.apply(function, arguments)

    def run(self, jobs: Sequence[Job], label: str = "") -> list[dict[str, Any]]:
        """Rows in the order of `jobs`; says on stderr now and then how far it is, where there is a `label`."""
        rows, told = [], time.monotonic()
        for row in self._pool.imap(run_episode, jobs):
            rows.append(row)
            if label and time.monotonic() - told > 20.0:
                told = time.monotonic()
                print(f"{label}: {len(rows)} of {len(jobs)} episodes", file=sys.stderr, flush=True)
        return rows
