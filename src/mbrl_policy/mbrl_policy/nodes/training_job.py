# SPDX-License-Identifier: Apache-2.0
"""One training as the trainer's thread does it: iterations, checkpoints, and news for the node."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_core.checkpoint import CheckpointError, load_checkpoint, under
from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.learned_reward import LearnedReward
from mbrl_core.policies import Policy, policy_arrays, policy_from_arrays
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.checkpoints import CheckpointFolder
from mbrl_policy.training import Progress, TrainingAlgorithm, TrainingError, TrainingInterrupted
from mbrl_policy.training.algorithm import ROLE, best_reward_of

GROUPS = ("planner", "policy")  # of a goal's configuration: over those of the node's parameters
BEST = "best/"
NODE = "trainer_node"  # what the node keeps in a checkpoint beside what the algorithm keeps
REWARD = "reward.safetensors"  # among the checkpoints: the best learned reward
PICTURE = "reward.png"  # in the run directory

Checkpoint = tuple[dict[str, np.ndarray], dict[str, Any]]
Product = Policy | LearnedReward


@dataclass(frozen=True)
class TrainingGoal:
    """What was asked for. `budget` iterations in all and `time_budget` seconds; 0 is the algorithm's own, unlimited."""

    algorithm: str
    configuration: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Any]]
    data: str = ""
    budget: int = 0
    time_budget: float = 0.0


def merged_configuration(
    algorithm: str, configuration: Mapping[str, Any], presets: str, groups: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The algorithm's parameters, those of its preset `presets`/ALGORITHM.yaml under those of `configuration`, and the
    groups `planner` and `policy`, those of `configuration` over `groups`.

    A group of another kind than the node's takes nothing from it. Raises ConfigurationError.
    """
    preset = Path(presets) / f"{algorithm}.yaml"
    own = load_preset(preset, "trainer") if presets and preset.is_file() else {}
    parameters = {**own, **{name: value for name, value in configuration.items() if name not in GROUPS}}
    result = {name: dict(values) for name, values in groups.items()}
    for name in GROUPS:
        given = configuration.get(name, {})
        if not isinstance(given, dict):
            raise ConfigurationError(f"configuration: {name!r} is {given!r}, expected an object of parameters")
        base = result.get(name, {})
        result[name] = {**base, **given} if given.get("kind", base.get("kind")) == base.get("kind") else dict(given)
    return {name: value for name, value in parameters.items() if name != "kind"}, result


def newest_whole(folder: CheckpointFolder, refuse: Callable[[str], object]) -> Checkpoint | None:
    """The newest checkpoint of a trainer that can be read; `refuse` hears of those that cannot."""
    for path in reversed(folder.paths()):
        try:
            arrays, information = load_checkpoint(path)
            own = information.get(NODE)
            if information.get("role") != ROLE or not isinstance(own, dict) or not {"number", "version"} <= set(own):
                raise CheckpointError(f"{path}: got role {information.get('role')!r}, expected {ROLE!r} of a node")
            return arrays, information
        except (CheckpointError, OSError) as error:
            refuse(str(error))
    return None


def best_of(checkpoint: Checkpoint, spec: RobotSpec) -> tuple[Product, float] | None:
    """Best policy or reward of a checkpoint and its mean return, NaN where that is unknown; None when it has none.

    Raises CheckpointError on one of another interface, or whose numbers do not fit.
    """
    arrays, information = checkpoint
    best = information.get("best")
    if best is None and information.get("reward") is None:
        return None
    interface = str(information.get("interface_hash"))
    if interface != spec.interface_hash:
        raise CheckpointError(
            f"trainer's checkpoint: interface {interface[:12]!r}, expected {spec.interface_hash[:12]!r} of robot"
            f" {spec.name!r}"
        )
    if best is None:
        return _best_reward(checkpoint, spec)
    policy = policy_from_arrays(best["kind"], best["configuration"], under(BEST, arrays), spec, "trainer's checkpoint")
    return policy, math.nan if best["return"] is None else float(best["return"])


def _best_reward(checkpoint: Checkpoint, spec: RobotSpec) -> tuple[LearnedReward, float]:
    try:
        found = best_reward_of(*checkpoint)
        assert found is not None
        found[0].check_robot(spec)
    except (ConfigurationError, KeyError, TypeError) as error:
        raise CheckpointError(f"trainer's checkpoint: {error}") from None
    return found[0], found[1] if math.isfinite(found[1]) else math.nan


@dataclass(frozen=True)
class News:
    """What came of an iteration, or of taking up a checkpoint: `product`, of that `version`, where it is better than
    the one before.
    """

    progress: Progress
    version: int
    product: Product | None
    best_return: float


class TrainingJob:
    """Runs in the training thread. `emit` and `refuse` are called from there."""

    def __init__(
        self,
        goal: TrainingGoal,
        make: Callable[[], TrainingAlgorithm],
        keep_going: Callable[[], bool],
        emit: Callable[[News], object],
        refuse: Callable[[str], object],
        folder: CheckpointFolder | None,
        checkpoint: Checkpoint | None,
        number: int,
    ) -> None:
        """`checkpoint` is taken up where it is of the same training and was not finished; `number` is the next one's.
        A product's version is the number of the first checkpoint that has it.
        """
        self.goal = goal
        self.iterations = 0
        self.best_return = math.nan
        self.checkpoint = checkpoint
        self.number = number
        self.cancelled = False
        self._make, self._keep_going, self._emit, self._refuse = make, keep_going, emit, refuse
        self._folder = folder
        self._version = 0
        self._best: dict[str, np.ndarray] | None = None
        self._begin = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the goal was taken."""
        return time.monotonic() - self._begin

    def keep_going(self) -> bool:
        """False once it was cancelled, the node ends, or time is up."""
        in_time = self.goal.time_budget <= 0.0 or self.elapsed < self.goal.time_budget
        return in_time and not self.cancelled and self._keep_going()

    def run(self) -> None:
        """Trains. Raises what the algorithm raises; what was best until then has been told and saved."""
        algorithm = self._make()
        self._resume(algorithm)
        budget = self.goal.budget or algorithm.config.iterations
        try:
            self._iterate(algorithm, budget)
        finally:
            self._draw(algorithm)

    def _iterate(self, algorithm: TrainingAlgorithm, budget: int) -> None:
        while algorithm.iteration < budget and self.keep_going():
            try:
                progress = algorithm.iterate(self.keep_going)
            except TrainingInterrupted:
                break
            except Exception:
                if not self.keep_going():
                    break
                raise
            self._after(algorithm, progress, finished=algorithm.iteration >= budget)

    def _resume(self, algorithm: TrainingAlgorithm) -> None:
        if self.checkpoint is None or self.checkpoint[1][NODE].get("finished", True):
            return
        try:
            algorithm.restore(*self.checkpoint)
        except CheckpointError:
            return  # of another training
        self.iterations = algorithm.iteration
        product = self._new_best(algorithm)
        self._version = int(self.checkpoint[1][NODE]["version"])
        self._tell(Progress(algorithm.iteration, rollouts=algorithm.rollouts), product)

    def _after(self, algorithm: TrainingAlgorithm, progress: Progress, finished: bool) -> None:
        self.iterations = progress.iteration
        product = self._new_best(algorithm)
        if product is not None:
            self._version = self.number
        arrays, information = algorithm.state()
        information[NODE] = {"number": self.number, "version": self._version, "finished": finished}
        self.checkpoint = arrays, information
        if self._folder is not None:
            try:
                if isinstance(product, LearnedReward):
                    product.save(self._folder.folder / REWARD)
                self._folder.save(self.number, arrays, information)
            except OSError as error:
                self._refuse(f"checkpoint was not written: {error}")
        self.number += 1
        self._tell(progress, product)

    def _new_best(self, algorithm: TrainingAlgorithm) -> Product | None:
        """The best policy or reward where it is another than it was."""
        self.best_return = algorithm.best_return if math.isfinite(algorithm.best_return) else math.nan
        product: Product | None = algorithm.reward()
        if isinstance(product, LearnedReward):
            arrays = {REWARD: np.frombuffer(product.content, dtype=np.uint8)}
        else:
            try:
                product = algorithm.policy()
            except TrainingError:
                return None  # none yet
            arrays = policy_arrays(product)
        before, self._best = self._best, arrays
        return None if before is not None and _same(before, self._best) else product

    def _tell(self, progress: Progress, product: Product | None) -> None:
        self._emit(News(progress, self._version, product, self.best_return))

    def _draw(self, algorithm: TrainingAlgorithm) -> None:
        """The reward over the states that were shown, beside the task in force, which nothing was learned from; not
        while the node ends.
        """
        reward, task = algorithm.reward(), algorithm.robot.task
        if reward is None or self._folder is None or not self._keep_going():
            return
        # Here: drawing takes a second to load, and most trainings draw nothing.
        from mbrl_policy.irl.picture import draw_rewards

        tasks = {"learned reward": reward, f"task {task.kind!r}": task}
        try:
            draw_rewards(
                self._folder.folder.parent / PICTURE, algorithm.robot.spec, tasks,
                [each.states for each in algorithm.demonstrations],
            )  # fmt: skip
        except Exception as error:  # whatever it is, the training is none the worse for it
            self._refuse(f"{PICTURE} was not drawn: {error}")


def _same(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
