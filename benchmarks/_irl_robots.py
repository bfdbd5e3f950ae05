# SPDX-License-Identifier: Apache-2.0
"""The robot jobs of the inverse reinforcement learning benchmark: shown on one robot, judged on a heavier one."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _twin import Twin
from _twin_model import TwinModel
from common import RESULTS

from mbrl_core.config import load_preset
from mbrl_core.demonstrations import Demonstration
from mbrl_core.messages import Plan
from mbrl_core.policies import Policy, make_policy
from mbrl_core.random_streams import generator, stream_seed
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.tasks import Task, task_of_preset
from mbrl_core.trial import Controller, random_controller
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_planner.controller import PredictiveController
from mbrl_policy.imitation.fit import FitConfig, fit_policy
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.irl.guided_config import GuidedCostConfig
from mbrl_policy.irl.guided_cost import GuidedCostLearning
from mbrl_policy.irl.guided_training import log_density
from mbrl_policy.irl.picture import draw_rewards
from mbrl_policy.training import Rollout, SimulatedRobot
from mbrl_policy.training.predictive_teacher import planner_of
from mbrl_policy.training.rollouts import transitions_of

CONFIG = Path(__file__).resolve().parents[1] / "config"
DEMONSTRATIONS, UNSEEN, CHOSEN_BY = 20, 10, 6  # episodes
HEAVIER = 1.5
TURNED = 1.0  # rad, standard deviation of every angle where new starts are; demonstrations begin within 0.06 to 0.1
SAME_STARTS = "_same_starts"  # ends the columns of episodes that begin as demonstrations do
EXPLORATION = 0.03  # noise on the learner's own episodes, half ranges
CLONING = FitConfig(gradient_steps=6000, batch_size=256)
COMMON = {"kind": "icem", "iterations": 3, "propagation": "mean", "particles": 1}
PLANNERS: dict[str, dict[str, Any]] = {
    "cartpole": {**COMMON, "horizon": 25, "population_size": 100},
    "reacher": {
        **COMMON, "horizon": 12, "population_size": 100, "elites": 6, "carried_std": 1.5, "least_std": 0.02,
        "fresh_share": 0.2,
    },
}  # fmt: skip
COMMON_LEARNER: dict[str, Any] = {"windows": 2, "samples": 6, "iterations": 15, "episode_weight": 3.0}
LEARNERS = {
    "cartpole": GuidedCostConfig(horizon=25, **COMMON_LEARNER),
    "reacher": GuidedCostConfig(horizon=12, **COMMON_LEARNER),
}
PLOTTED = {"cartpole": (1, 3), "reacher": (0, 1)}  # state variables
ROBOTS = tuple(LEARNERS)


def learned_run(name: str, seed: int, folder: Path, model: str, plot: bool = False) -> dict[str, Any]:
    """One seed: 20 demonstrations, a reward from them, planning with it on a heavier robot; `folder` has the twin's
    library. With `plot` the learned reward is drawn into the results.
    """
    begin = time.process_time()
    robot = load_robot(CONFIG / "robots" / f"{name}.yaml")
    task = task_of_preset(load_preset(CONFIG / "tasks" / f"{robot.task}.yaml", "task"))
    changed, twin = heavier(robot, folder / f"{name}_{seed}"), folder / "twin.so"
    shown = episodes(
        robot, task, lambda index: planning(robot, task, twin, index), seeds_of(seed, "shown", DEMONSTRATIONS)
    )
    if model == "true":
        learned, own = guided(robot, task, shown, seed, twin, TwinModel(Twin(robot, twin)))
    else:
        learned, own = guided(robot, task, shown, seed, twin, make_model("ensemble", {}, robot.spec, seed))
    if plot:
        both = {"true reward": task, "learned reward": learned}
        draw_rewards(RESULTS / f"irl_{name}.png", robot.spec, both, [each.states for each in shown], PLOTTED[name])
    policy = make_policy("mlp", {}, robot.spec, seed)
    fit_policy(policy, Labels.joined([Labels.of_rollout(each) for each in shown]), CLONING, seed, lambda: True, True)
    row: dict[str, Any] = {"part": name, "seed": seed, "model": model}
    for suffix, judged in (("", turned(changed)), (SAME_STARTS, changed)):
        row |= {f"{key}{suffix}": value for key, value in scores(judged, task, learned, policy, twin, seed).items()}
    return row | {
        "return_shown": round(mean_return(shown), 3), "return_learner": round(own, 3),
        "cpu_seconds": round(time.process_time() - begin, 1),
    }  # fmt: skip


def scores(robot: Robot, task: Task, learned: Task, policy: Policy, twin: Path, seed: int) -> dict[str, float]:
    """S of planning with the learned reward and of the cloned policy on `robot`, and the returns that it is made of."""
    unseen = seeds_of(seed, "unseen", UNSEEN)
    returns = {
        "oracle": mean_return(episodes(robot, task, lambda index: planning(robot, task, twin, index), unseen)),
        "learned": mean_return(episodes(robot, task, lambda index: planning(robot, learned, twin, index), unseen)),
        "random": mean_return(episodes(robot, task, lambda index: random_controller(robot.spec, index), unseen)),
        "bc": mean_return([SimulatedRobot(robot, task).rollout(policy, seed=index) for index in unseen]),
    }
    span = returns["oracle"] - returns["random"]
    return {
        "S": (returns["learned"] - returns["random"]) / span, "S_bc": (returns["bc"] - returns["random"]) / span,
        **{f"return_{kind}": round(value, 3) for kind, value in returns.items()},
    }  # fmt: skip


def guided(
    robot: Robot, task: Task, shown: Sequence[Rollout], seed: int, twin: Path, model: DynamicsModel
) -> tuple[Task, float]:
    """The learned reward that brings the robot nearest to what was shown, and the mean true return of the episodes that
    it was chosen by, which the learner does not know.

    The last reward, and those whose single episode came nearest, run some more, for one can be near by chance.
    """
    simulated, seen = SimulatedRobot(robot, task), list(shown)
    demonstrations = [Demonstration(each.states, each.actions) for each in shown]
    if model.learns:
        model.fit(transitions_of(seen), seed)
    learner = GuidedCostLearning(LEARNERS[robot.spec.name], robot.spec, model, demonstrations, seed)
    learn(learner, robot, simulated, twin, model, seen)
    found: list[tuple[float, Task, float]] = []
    for reward in (learner.reward(), *(reward for _, reward in learner.nearest)):
        again = [
            simulated.rollout_controller(planning(robot, reward, twin, index, model), seed=index)
            for index in seeds_of(seed, "choice", CHOSEN_BY)
        ]
        distances = [learner.distance(Demonstration(each.states, each.actions)) for each in again]
        found.append((float(np.mean(distances)), reward, mean_return(again)))
    _, chosen, own = min(found, key=lambda item: item[0])
    return chosen, own


def learn(
    learner: GuidedCostLearning, robot: Robot, simulated: SimulatedRobot, twin: Path, model: DynamicsModel,
    seen: list[Rollout],
) -> None:  # fmt: skip
    """All iterations, each with an episode of a planner that follows the reward, which joins `seen`."""
    spec = robot.spec
    scale = EXPLORATION * 0.5 * (np.array(spec.action.upper) - np.array(spec.action.lower))
    for index in range(learner.config.iterations):
        learner.iterate()
        number = stream_seed(learner.seed, index, 0, "learner")
        noise = generator(number, 0, 0, "noise").standard_normal((simulated.steps, spec.action.size))
        follow = planning(robot, learner.reward(), twin, number, model)
        episode = simulated.rollout_controller(disturbed(follow, scale * noise), seed=number)
        learner.add_episode(Demonstration(episode.states, episode.actions), log_density(noise, scale))
        seen.append(episode)
        if model.learns and index % 3 == 2:
            model.fit(transitions_of(seen), learner.seed)


def planning(robot: Robot, task: Task, twin: Path, seed: int, model: DynamicsModel | None = None) -> Controller:
    """Model predictive control, through the robot's true dynamics where there is no `model`."""
    settings = dict(PLANNERS[robot.spec.name])
    known = TwinModel(Twin(robot, twin)) if model is None else model
    if known.members > 1:
        settings["particles"] = known.members
    controller = PredictiveController(planner_of(settings, robot.spec, known, task, seed))
    return lambda time_step: controller.answer(time_step).plan


def disturbed(controller: Controller, noise: np.ndarray) -> Controller:
    """With noise [T, m] on what is executed."""
    return lambda time_step: Plan(controller(time_step).actions[:1] + noise[time_step.step])


def episodes(robot: Robot, task: Task, controller: Callable[[int], Controller], seeds: Sequence[int]) -> list[Rollout]:
    """One for each seed, from the robot's start distribution; `task` is what they are judged by."""
    judged = SimulatedRobot(robot, dataclasses.replace(task))
    return [judged.rollout_controller(controller(index), seed=index) for index in seeds]


def mean_return(rollouts: Sequence[Rollout]) -> float:
    """Of whole episodes."""
    return float(np.mean([rollout.total_return for rollout in rollouts]))


def seeds_of(seed: int, name: str, count: int) -> list[int]:
    """Of episodes that have nothing to do with those of another name."""
    return [stream_seed(seed, 0, index, name) for index in range(count)]


def heavier(robot: Robot, folder: Path) -> Robot:
    """The same robot with masses and inertias times 1.5, rotors among them: the reacher hardly has any other."""
    assert robot.mjcf is not None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scene.xml").write_text((robot.mjcf.parent / "scene.xml").read_text(encoding="utf-8"), encoding="utf-8")
    content, found = robot.mjcf.read_text(encoding="utf-8"), False
    for name, value in (("density", 1000), ("armature", 1)):
        changed = content.replace(f'{name}="{value}"', f'{name}="{value * HEAVIER:g}"')
        found, content = found or changed != content, changed
    if not found:
        raise RuntimeError(f"{robot.mjcf}: neither density nor armature is where it was")
    path = folder / robot.mjcf.name
    path.write_text(content, encoding="utf-8")
    return dataclasses.replace(robot, mjcf=path)


def turned(robot: Robot) -> Robot:
    """The same robot with starts that nobody showed: every angle turned by a normal of `TURNED`."""
    angular, start = robot.spec.state.angular, robot.start
    spread = [max(std, TURNED) if turns else std for std, turns in zip(start.position_std, angular, strict=False)]
    return dataclasses.replace(robot, start=dataclasses.replace(start, position_std=tuple(spread)))
