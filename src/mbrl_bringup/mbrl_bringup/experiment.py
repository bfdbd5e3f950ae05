# SPDX-License-Identifier: Apache-2.0
"""What an experiment is, without ROS: which trials there are, what each is worth, and what is kept of them."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_core.config import ConfigurationError, load_preset, parameter
from mbrl_core.learned_reward import load_reward
from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.observed_task import task_on
from mbrl_core.optimism import OptimismRecord
from mbrl_core.random_streams import generator
from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import Task, task_file_of, task_of_preset

SAFE = "safe"  # in the place of a controller: the robot's own safe action
ALGORITHMS = ("mbrl_0_5", "mbrl_0_5_mpc", "mbrl_1_0", "mbrl_1_5", "mbrl_2_0", "gps", "distil")


@dataclass(frozen=True)
class ExperimentConfig:
    """Parameters of an experiment."""

    robot_file: str = parameter("", "Path of the robot file")
    task_file: str = parameter("", "Path of the task preset; empty = the robot file's task, see task_file_of")
    reward_file: str = parameter("", "File of a learned reward that is the task, in place of a task_file; empty = none")
    run_directory: str = parameter("", "Folder for metrics.csv and steps.npz; empty = runs/<time>-<robot>")
    algorithm: str = parameter(
        "mbrl_1_5",
        "Name of the algorithm, for the record; its preset in config/algorithms is what makes it one",
        choices=ALGORITHMS,
    )
    mode: str = parameter("realtime", "realtime or lockstep, as the robot runs", choices=("realtime", "lockstep"))
    seed: int = parameter(0, "Keys start states and goals", minimum=0)
    trials: int = parameter(5, "Trials in all, random ones included", minimum=1, maximum=100_000)
    random_trials: int = parameter(1, "Trials of random exploration at the beginning", minimum=0, maximum=100_000)
    evaluation_trials: int = parameter(
        0, "Trials after those, for judging: the experiment does not wait for the learner any more", minimum=0
    )
    episode_steps: int = parameter(0, "Control steps in a trial; 0 = as the robot file says", minimum=0)
    refit: str = parameter(
        "every_trial",
        "every_trial: the next trial waits until the learner has trained on the last one; once: only the first learned"
        " trial waits",
        choices=("every_trial", "once"),
    )
    exploration_controller: str = parameter("explore", "Controller of the random trials")
    learned_controller: str = parameter("planner", "Controller of the learned trials")
    policy_controller: str = parameter("policy", "Controller that executes what the trainer has made")
    policy_trials: int = parameter(
        0,
        "Trials of that controller after all others, for judging; the trainer makes the policy before them",
        minimum=0,
    )
    handover_step: int = parameter(
        0,
        "Step at which the policy takes over in its first trial, which the learned controller begins; 0 = the policy"
        " begins it itself",
        minimum=0,
    )
    trainer: str = parameter(
        "", "Algorithm of the action `train` that makes the policy of the policy controller; empty = none"
    )
    trainer_configuration: str = parameter("", "JSON object of its parameters; empty = as its preset has them")
    train: str = parameter(
        "once",
        "once: before the policy's first trial; every_trial: before each of them",
        choices=("once", "every_trial"),
    )
    training_budget: int = parameter(0, "Iterations of one training; 0 = the algorithm's own", minimum=0)
    record: bool = parameter(False, "Wait for the recorder before the first trial")
    faults_in_a_row: int = parameter(
        3,
        "Attempts at one trial that may be lost, by a FAULT or since robot_node has started again; each is begun anew",
        minimum=0,
    )
    resume: bool = parameter(
        False, "Go on after the trials that the run directory holds already, as where this node is started again"
    )
    stay: bool = parameter(False, "Stay when all trials are over, where whoever restarts nodes would start it again")
    wait_for: tuple[str, ...] = parameter(
        ("learner",), "Nodes that must hear time_step before the first trial, beside the controllers"
    )
    ready_timeout: float = parameter(60.0, "Seconds to wait for nodes and for the start of an episode", minimum=0.1)
    stall_timeout: float = parameter(120.0, "Seconds without a time step after which a trial has failed", minimum=0.1)
    fit_timeout: float = parameter(300.0, "Seconds to wait for the learner between trials", minimum=0.1)
    training_timeout: float = parameter(3600.0, "Seconds that one training may take", minimum=0.1)


@dataclass(frozen=True)
class Trial:
    """One trial to run. `waits_for_fit`: the learner must have trained through the episode of the last trial;
    `trains`: a policy is made before it. `begins_with`: who moves the robot until `handover_step`, when `controller`
    is selected; empty = the trial is its own from the beginning.
    """

    index: int
    controller: str
    learned: bool
    evaluation: bool
    waits_for_fit: bool
    trains: bool = False
    begins_with: str = ""
    handover_step: int = 0

    @property
    def first_controller(self) -> str:
        """Who is selected when the episode begins."""
        return self.begins_with or self.controller


def make_trials(config: ExperimentConfig) -> list[Trial]:
    """All trials of an experiment, in order."""
    trials: list[Trial] = []
    first_of_policy = config.trials + config.evaluation_trials
    for index in range(first_of_policy + config.policy_trials):
        learned = index >= config.random_trials
        first_learned = index == config.random_trials
        evaluation = index >= config.trials
        controller = config.learned_controller if learned else config.exploration_controller
        if index >= first_of_policy:
            controller = config.policy_controller
        trains = bool(config.trainer) and learned and controller == config.policy_controller
        if config.train == "once":
            trains = trains and not any(trial.trains for trial in trials)
        refits = learned and config.refit == "every_trial" and not index > config.trials
        trials.append(
            Trial(
                index=index,
                controller=controller,
                learned=learned,
                evaluation=evaluation,
                waits_for_fit=index > 0 and (first_learned or refits or trains),
                trains=trains,
            )
        )
    if config.policy_trials and config.handover_step:
        trials[first_of_policy] = dataclasses.replace(
            trials[first_of_policy], begins_with=config.learned_controller, handover_step=config.handover_step
        )
    return trials


@dataclass(frozen=True)
class TaskPreset:
    """A task, and the ring (m) from which a new goal is drawn for every trial; None keeps the goal."""

    task: Task
    goal_radius: tuple[float, float] | None = None

    def for_trial(self, seed: int, trial: int, version: int) -> Task:
        """The task of a trial. Goals are drawn uniformly by area."""
        if self.goal_radius is None:
            return dataclasses.replace(self.task, version=version)
        random = generator(seed, trial, 0, "goal")
        inner, outer = self.goal_radius
        radius = math.sqrt(random.uniform(inner**2, outer**2))
        angle = random.uniform(-math.pi, math.pi)
        goal = (radius * math.cos(angle), radius * math.sin(angle))
        return dataclasses.replace(self.task, goal=goal, version=version)


def load_task(config: ExperimentConfig, robot_task: str, spec: RobotSpec) -> TaskPreset:
    """Reads the task preset, or the learned reward. Raises FileNotFoundError that lists the known tasks or names the
    reward's file, or ConfigurationError.
    """
    if config.reward_file:
        return TaskPreset(_load_reward(config, spec))
    path = Path(config.task_file) if config.task_file else task_file_of(config.robot_file, robot_task)
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"unknown task {path.stem!r}: {path} does not exist; tasks beside it: {known}")
    content = load_preset(path, "task")
    radius = content.pop("goal_radius", None)
    unknown = sorted(set(content) - {"kind", "goal", "parameters", "weights", "obstacles", "file"})
    if unknown:
        raise ConfigurationError(f"{path}: unknown key {unknown[0]!r} of the task")
    if "file" in content:
        # Beside the preset, wherever the node was started.
        content["file"] = str(path.parent / Path(str(content["file"])).expanduser())
    task = task_of_preset(content)
    task_on(task, spec)
    if radius is None:
        return TaskPreset(task)
    if len(radius) != 2 or not 0.0 <= radius[0] < radius[1] or len(task.goal) != 2:
        raise ConfigurationError(
            f"{path}: goal_radius: got {radius}, expected [inner, outer] in m and a goal of 2 numbers"
        )
    return TaskPreset(task, (float(radius[0]), float(radius[1])))


def _load_reward(config: ExperimentConfig, spec: RobotSpec) -> Task:
    file = config.reward_file
    if config.task_file:
        raise ConfigurationError(f"parameter 'reward_file': got {file!r} beside a task_file, expected one of the two")
    try:
        reward = load_reward(Path(file).expanduser())
    except OSError as error:
        text = f"parameter 'reward_file': {file!r}: {error.strerror}, expected a learned reward"
        raise FileNotFoundError(text) from None
    try:
        reward.check_robot(spec)
    except ConfigurationError as error:
        raise ConfigurationError(f"parameter 'reward_file': {file}: {error}") from None
    return reward


@dataclass
class TrialLog:
    """Collects one trial. Rewards and violations, steps at which the robot is inside an obstacle, count from the second
    time step on, with the task in force at each.
    """

    trial: Trial
    spec: RobotSpec
    task: Task
    steps: list[TimeStep] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    violations: list[bool] = field(default_factory=list)
    sample_times_ns: list[int] = field(default_factory=list)
    lost: int = 0
    plans: int = 0
    missed_deadlines: int = 0
    solve_times: list[float] = field(default_factory=list)
    optimism: OptimismRecord = field(default_factory=OptimismRecord)

    def add(self, time_step: TimeStep, sample_time_ns: int) -> None:
        """Takes the next time step of the trial's episode."""
        if self.steps:
            previous = self.steps[-1]
            self.lost += time_step.step - previous.step - 1
            reward = self.task.reward(previous.state, time_step.action, time_step.state)
            self.rewards.append(float(reward))
            self.violations.append(bool(self.task.violates(time_step.state)))
            if time_step.step == previous.step + 1:
                self.optimism.add_reward(previous.step, float(reward))
        if time_step.step_type == StepType.LAST:
            self.optimism.finish(terminated=time_step.end_reason == EndReason.TERMINATED)
        self.steps.append(time_step)
        self.sample_times_ns.append(sample_time_ns)

    def add_plan(self, solve_time: float, deadline_missed: bool, window: tuple[int, int], promise: float) -> None:
        """Takes what a plan of the trial says of how it was found, and its predicted return (`promise`) over its
        window: first step and number of steps."""
        self.optimism.add_plan(*window, promise)
        self.plans += 1
        self.missed_deadlines += deadline_missed
        self.solve_times.append(solve_time)

    @property
    def total_reward(self) -> float:
        """Return so far."""
        return math.fsum(self.rewards)

    @property
    def ended(self) -> bool:
        """Whether LAST has come."""
        return bool(self.steps) and self.steps[-1].step_type == StepType.LAST

    @property
    def end_reason(self) -> EndReason:
        """Why the episode ended."""
        return self.steps[-1].end_reason if self.steps else EndReason.NOT_ENDED

    def metrics(self, learner: "LearnerFigures") -> dict[str, Any]:
        """One row of metrics.csv. Times in seconds, ages in steps, errors as the learner defines them."""
        executed = self.steps[1:]
        own = [step for step in executed if not step.fallback]
        periods = np.diff(self.sample_times_ns) * 1e-9
        return {
            "trial": self.trial.index,
            "episode": self.steps[0].episode,
            "controller": self.trial.controller,
            "learned": int(self.trial.learned),
            "evaluation": int(self.trial.evaluation),
            "return": self.total_reward,
            "steps": len(executed),
            "end_reason": self.end_reason.name,
            "success_steps": self.success_steps(),
            "success_steps_at_end": self.success_steps_at_end(),
            "violations": sum(self.violations),
            "fallback_ticks": len(executed) - len(own),
            "safe_ticks": sum(step.controller == SAFE for step in executed),
            "age_p50": _percentile([step.row_age for step in own], 50),
            "age_p99": _percentile([step.row_age for step in own], 99),
            "invalid_actions": sum(not step.action_valid for step in executed),
            "lost_time_steps": self.lost,
            "plans": self.plans,
            "missed_deadlines": self.missed_deadlines,
            "solve_time_p50": _percentile(self.solve_times, 50),
            "solve_time_p99": _percentile(self.solve_times, 99),
            "optimism_gap": _mean([outcome.gap for outcome in self.optimism.outcomes]),
            "control_rate": 1.0 / float(np.mean(periods)) if len(periods) and np.mean(periods) > 0 else math.nan,
            "model_version": learner.model_version,
            "transitions": learner.transitions,
            "prequential_error": learner.prequential_error,
            "training_loss": learner.training_loss,
            "fit_seconds": learner.fit_seconds,
            "goal": " ".join(repr(value) for value in self.task.goal),
        }

    def _success(self) -> list[bool]:
        return [bool(self.task.state_is_success(step.state)) for step in self.steps[1:]]

    def success_steps(self) -> int:
        """Steps at which the task was fulfilled."""
        return sum(self._success())

    def success_steps_at_end(self) -> int:
        """Length of the unbroken run of such steps up to the last one."""
        success = self._success()
        return len(success) if all(success) else success[::-1].index(False)

    def arrays(self) -> dict[str, Array]:
        """Columns of steps.npz, one row a time step; the first row's action and reward are NaN.

        predicted_return and optimism_gap are of the newest plan whose first row is for this step, NaN without one.
        """
        plans = {outcome.start_step: outcome for outcome in self.optimism.outcomes}
        outcomes = [plans.get(step.step) for step in self.steps]
        return {
            "trial": np.full(len(self.steps), self.trial.index),
            "episode": np.array([step.episode for step in self.steps]),
            "step": np.array([step.step for step in self.steps]),
            "state": np.array([step.state for step in self.steps]).reshape(len(self.steps), -1),
            "action": np.array([step.action for step in self.steps]).reshape(len(self.steps), -1),
            "action_valid": np.array([step.action_valid for step in self.steps]),
            "reward": np.array([math.nan, *self.rewards]),
            "violation": np.array([False, *self.violations]),
            "row_age": np.array([step.row_age for step in self.steps]),
            "fallback": np.array([step.fallback for step in self.steps]),
            "controller": np.array([step.controller for step in self.steps]),
            "predicted_return": np.array([math.nan if plan is None else plan.predicted for plan in outcomes]),
            "optimism_gap": np.array([math.nan if plan is None else plan.gap for plan in outcomes]),
        }


@dataclass(frozen=True)
class LearnerFigures:
    """What the learner last said of itself."""

    model_version: int = 0
    transitions: int = 0
    trained_through_episode: int = 0
    episode: int = 0
    step: int = 0
    training: bool = False
    prequential_error: float = math.nan
    training_loss: float = math.nan
    fit_seconds: float = math.nan


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _percentile(values: list[Any], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else math.nan
