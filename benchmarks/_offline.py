# SPDX-License-Identifier: Apache-2.0
"""Learning runs in one process: the graph's learner, exploration, planner and simulation in the offline trial loop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbrl_core.config import from_mapping, load_preset, load_tuning
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.tasks import Task
from mbrl_core.trial import Trial, run_trial
from mbrl_dynamics.learner import LearnerConfig, OnlineLearner
from mbrl_dynamics.registry import make_model
from mbrl_planner.controller import PredictiveController
from mbrl_planner.objective import ModelObjective
from mbrl_planner.registry import build_planner, configure_planner, make_planner
from mbrl_policy.exploration import ExplorationConfig, RandomExploration
from mbrl_robot.delayed_simulation import DelayedSimulation
from mbrl_robot.simulation import MujocoSimulation

CONFIG = Path(__file__).resolve().parents[1] / "config"


def preset(role: str, name: str, section: str) -> dict[str, Any]:
    """A group of parameters of a preset in config/; empty where the file has none such."""
    content = load_preset(CONFIG / role / f"{name}.yaml")
    return dict(content.get(section, {}))


def robot_file(robot: str) -> Path:
    """That of a robot of config/robots, or of one by its path, as launch files take it."""
    return Path(robot) if robot.endswith(".yaml") else CONFIG / "robots" / f"{robot}.yaml"


def tuning(robot: str, node: str) -> dict[str, Any]:
    """What the robot's tuning gives a node."""
    own = robot_file(robot)
    return load_tuning(
        own.with_name(f"{own.stem}_tuning.yaml") if robot.endswith(".yaml") else CONFIG / "tuning" / own.name, node
    )


class LearningRun:
    """A robot that learns online while a planner controls it; trials in order, the first one random.

    `planner` are parameters beside the preset and the robot's tuning. `machine` is simulated where it is given, the
    robot of that name with something changed.
    """

    def __init__(self, robot: str, seed: int, planner: Mapping[str, Any], machine: Robot | None = None) -> None:
        self.robot = load_robot(robot_file(robot)) if machine is None else machine
        self.seed = seed
        spec, tuned = self.robot.spec, tuning(robot, "learner")
        dynamics = {**preset("dynamics", "ensemble", "dynamics"), **tuned.get("dynamics", {})}
        learner = {**preset("dynamics", "ensemble", "learner"), **tuned.get("learner", {})}
        self.learner = OnlineLearner(
            make_model(dynamics["kind"], dynamics, spec, seed), from_mapping(LearnerConfig, learner), seed
        )
        exploration = {"seed": seed, **tuning(robot, "explore")}
        self._exploration = RandomExploration(from_mapping(ExplorationConfig, exploration), spec)
        values = {**preset("planner", "icem", "planner"), **tuning(robot, "planner").get("planner", {}), **planner}
        self._kind, self._config = configure_planner(values)
        self._simulation = DelayedSimulation(MujocoSimulation(self.robot), self.robot)
        self._trials = 0

    def trial(self, task: Task, steps: int) -> Trial:
        """Runs the next trial and learns from it."""
        self._trials += 1
        explores = self._trials == 1
        return run_trial(
            self._simulation,
            self._explore if explores else _Replanner(self, task),
            task,
            self.robot.spec,
            steps,
            episode=self._trials,
            seed=self.seed,
            observe=self._learn,
        )

    def _learn(self, time_step: TimeStep) -> None:
        self.learner.add(time_step)
        if self.learner.due:
            self.learner.fit()

    def _explore(self, time_step: TimeStep) -> Plan:
        return Plan(self._exploration.actions(time_step.episode, time_step.step, time_step.state)[:1])

    def objective(self, task: Task) -> ModelObjective:
        """Of the model in force."""
        config = self._config
        return ModelObjective(self.learner.published, task, config.particles, config.propagation, config)

    def controller(self, task: Task) -> PredictiveController:
        """A planner for one trial."""
        return PredictiveController(
            build_planner(self._kind, self._config, self.robot.spec, self.objective(task), self.seed)
        )


class _Replanner:
    """Plans with whatever model is in force."""

    def __init__(self, run: LearningRun, task: Task) -> None:
        self._run, self._task = run, task
        self._controller = run.controller(task)
        self._version = run.learner.version

    def __call__(self, time_step: TimeStep) -> Plan:
        if self._run.learner.version != self._version:
            self._version = self._run.learner.version
            self._controller.planner.objective = self._run.objective(self._task)
        return self._controller.answer(time_step).plan


def oracle_trial(robot: str, task: Task, steps: int, episode: int, seed: int) -> Trial:
    """An unhurried planner on the true dynamics; it does not know of obstacles."""
    machine = load_robot(robot_file(robot))
    values = {
        **preset("planner", "icem", "planner"),
        **tuning(robot, "planner").get("planner", {}),
        "population_size": 200,
        "iterations": 4,
    }
    truth = make_model("mujoco", {"robot_file": str(robot_file(robot)), "threads": 1}, machine.spec, 0)
    objective = ModelObjective(truth, task, truth.members, "mean")
    controller = PredictiveController(make_planner(values, machine.spec, objective, seed))
    return run_trial(
        MujocoSimulation(machine), lambda step: controller.answer(step).plan, task, machine.spec, steps, episode, seed
    )
