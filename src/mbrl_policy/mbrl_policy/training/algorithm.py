# SPDX-License-Identifier: Apache-2.0
"""Training algorithms by name: one outer iteration at a time, the best policy or reward kept, resumable anywhere in
between.
"""

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mbrl_core.checkpoint import CheckpointError, save_checkpoint, under
from mbrl_core.config import ConfigurationError, parameter, to_mapping
from mbrl_core.dataset import Transitions
from mbrl_core.learned_reward import LearnedReward
from mbrl_core.policies import (
    POLICIES,
    Policy,
    make_policy,
    policy_arrays,
    policy_configuration,
    policy_from_arrays,
)
from mbrl_core.random_streams import generator, stream_seed
from mbrl_core.registry import Registry
from mbrl_dynamics.model import DynamicsModel
from mbrl_policy.training.kinds import MODULES
from mbrl_policy.training.rollouts import Rollout, TrainingRobot

ROLE = "trainer"
REWARD = "reward/content"  # in a checkpoint: the bytes of the best learned reward
SOURCES = ("model", "dataset", "planner", "demonstrations", "policy")

KeepGoing = Callable[[], bool]

TRAINERS: Registry["TrainingAlgorithm"] = Registry("trainer", MODULES)


class TrainingError(RuntimeError):
    """An iteration could not be done; the text says why. The trainer is as it was before it."""


class TrainingInterrupted(Exception):
    """`keep_going` turned false in the middle of an iteration. The trainer is as it was before it."""


@dataclass(frozen=True)
class TrainerConfig:
    """Parameters that every trainer has."""

    iterations: int = parameter(20, "outer iterations when nobody says how many", minimum=1, maximum=100_000)


@dataclass(frozen=True)
class Progress:
    """What one outer iteration came to.

    Attributes:
        iteration: finished so far, this one counted.
        mean_return: of the policy trained, as far as it is known after this iteration; NaN where it is not.
        kl: nats between successive controllers; NaN where the algorithm has none.
        loss: of the supervised or gradient step; NaN where it has none.
        rollouts: on the robot, since the beginning.
        seconds: this iteration.
        information: whatever else a kind tells, by name.
    """

    iteration: int
    mean_return: float = math.nan
    kl: float = math.nan
    loss: float = math.nan
    rollouts: int = 0
    seconds: float = 0.0
    information: Mapping[str, float] = field(default_factory=dict)


class TrainingAlgorithm(ABC):
    """Trains one policy on one robot, or learns one reward.

    A kind registers in TRAINERS with its configuration (a TrainerConfig), names what it `needs` of SOURCES, and has
    `_iterate`, `_state` and `_restore`; it counts its rollouts in `rollouts`. Everything random is drawn from streams
    keyed by (seed, iteration), `random`, `rollout_seed` and `torch_seed`, so that a restored trainer goes on as if it
    had never stopped.

    Raises ConfigurationError when a source that the kind needs is missing; kinds add what else does not fit.
    """

    kind: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    takes_parts: ClassVar[bool] = False  # of episodes, as demonstrations

    def __init__(
        self,
        config: Any,
        robot: TrainingRobot,
        seed: int,
        *,
        model: DynamicsModel | None = None,
        dataset: Transitions | None = None,
        planner: Mapping[str, Any] | None = None,
        demonstrations: Sequence[Rollout] = (),
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        """`model` is a trained one, `planner` a planner group (`{kind: icem, ...}`), `policy` a policy group as in
        config/policy (`{kind: mlp, observed: [...], ...}`), an mlp where None.
        """
        self.config = config
        self.robot = robot
        self.seed = seed
        self.model = model
        self.dataset = dataset
        self.planner = None if planner is None else dict(planner)
        self.demonstrations = tuple(demonstrations)
        self.policy_settings = _complete(policy)
        self.iteration = 0
        self.rollouts = 0
        self.best_return = -math.inf
        self._best: Policy | None = None
        self._best_reward: LearnedReward | None = None
        for source in self.needs:
            if getattr(self, source) in (None, ()):
                raise ConfigurationError(
                    f"trainer {self.kind!r}: got no {source}, expected one; it needs {', '.join(self.needs)}"
                )

    def new_policy(self) -> Policy:
        """A policy of the `policy` settings with weights drawn for this iteration. Raises ConfigurationError."""
        settings = {name: value for name, value in self.policy_settings.items() if name != "kind"}
        return make_policy(self.policy_settings["kind"], settings, self.robot.spec, self.torch_seed("policy"))

    @abstractmethod
    def _iterate(self, keep_going: KeepGoing) -> Progress:
        """One outer iteration: `self.iteration` of them are behind it. Calls `_consider` with what it comes to, or sets
        `_best_reward` and `best_return`.

        Asks `keep_going` at least once a rollout or a second and raises TrainingInterrupted once it says no. Sets
        `mean_return`, `kl`, `loss` and `information`; the caller knows the rest.
        """

    @abstractmethod
    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What the kind keeps from iteration to iteration: arrays, copied, and what JSON can hold."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        """Takes up `_state`. Raises CheckpointError, or KeyError where something is missing."""

    def iterate(self, keep_going: KeepGoing = lambda: True) -> Progress:
        """One outer iteration. After an exception everything is as before it, so that it may be tried again or saved.

        Raises TrainingInterrupted once `keep_going` says no; TrainingError or RolloutError when it cannot be done.
        """
        begin, before = time.perf_counter(), self.state()
        try:
            progress = self._iterate(keep_going)
        except BaseException:
            self.restore(*before)
            raise
        self.iteration += 1
        return Progress(
            self.iteration, progress.mean_return, progress.kl, progress.loss, self.rollouts,
            time.perf_counter() - begin, dict(progress.information),
        )  # fmt: skip

    def policy(self) -> Policy:
        """A copy of the best policy so far. Raises TrainingError while there is none: always in kinds that learn a
        reward.
        """
        if self._best is None:
            raise TrainingError(f"trainer {self.kind!r}: no policy before the first iteration is done")
        return copy.deepcopy(self._best)

    def reward(self) -> LearnedReward | None:
        """The best reward so far, of kinds that learn one; None while there is none. `best_return` is then that of the
        episode that it was tried in.
        """
        return self._best_reward

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that a checkpoint has to hold: arrays, and information that JSON can hold."""
        arrays, own = self._state()
        content = {f"own/{name}": array for name, array in arrays.items()}
        information: dict[str, Any] = {
            "role": ROLE, "kind": self.kind, "configuration": to_mapping(self.config),
            "policy": self.policy_settings, "interface_hash": self.robot.spec.interface_hash, "seed": self.seed,
            "iteration": self.iteration, "rollouts": self.rollouts, "own": own, "best": None, "reward": None,
        }  # fmt: skip
        if self._best_reward is not None:
            content[REWARD] = np.frombuffer(self._best_reward.content, dtype=np.uint8)
            information["reward"] = {"return": _known(self.best_return)}
        if self._best is not None:
            content |= {f"best/{name}": array for name, array in policy_arrays(self._best).items()}
            information["best"] = {
                "kind": self._best.kind, "configuration": policy_configuration(self._best),
                "return": _known(self.best_return),
            }  # fmt: skip
        return content, information

    def restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        """Goes on from where `state` was taken.

        Raises CheckpointError when that was another kind, configuration, policy, seed or robot, or lacks something.
        """
        expected = {
            "role": ROLE, "kind": self.kind, "configuration": to_mapping(self.config),
            "policy": self.policy_settings, "interface_hash": self.robot.spec.interface_hash, "seed": self.seed,
        }  # fmt: skip
        for name, value in expected.items():
            if information.get(name) != value:
                raise CheckpointError(f"trainer's {name}: got {information.get(name)!r}, expected {value!r}")
        try:
            iteration, rollouts = int(information["iteration"]), int(information["rollouts"])
            best, best_return = self._restored_best(arrays, information["best"])
            reward = best_reward_of(arrays, information)
            self._restore(under("own/", arrays), information["own"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"trainer {self.kind!r}: a checkpoint that lacks {error}") from None
        self.iteration, self.rollouts = iteration, rollouts
        self._best, self.best_return = best, best_return
        self._best_reward = None
        if reward is not None:
            self._best_reward, self.best_return = reward

    def random(self, name: str, index: int = 0) -> np.random.Generator:
        """The stream (seed, iteration, index, `name`)."""
        return generator(self.seed, self.iteration, index, name)

    def rollout_seed(self, index: int) -> int:
        """For rollout `index` of this iteration."""
        return stream_seed(self.seed, self.iteration, index, "rollout")

    def torch_seed(self, name: str, index: int = 0) -> int:
        """For a torch.Generator, or for weights, of this iteration."""
        return stream_seed(self.seed, self.iteration, index, name)

    def _consider(self, policy: Policy, mean_return: float) -> bool:
        """Keeps a copy of `policy` when there is none yet, or none with as large a return. NaN never replaces."""
        if self._best is not None and not mean_return > self.best_return:
            return False
        self._best = copy.deepcopy(policy)
        self.best_return = mean_return if math.isfinite(mean_return) else -math.inf
        return True

    def _restored_best(
        self, arrays: Mapping[str, np.ndarray], best: Mapping[str, Any] | None
    ) -> tuple[Policy | None, float]:
        if best is None:
            return None, -math.inf
        own = under("best/", arrays)
        policy = policy_from_arrays(best["kind"], best["configuration"], own, self.robot.spec, "trainer's best policy")
        return policy, _return_of(best)


def best_reward_of(
    arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]
) -> tuple[LearnedReward, float] | None:
    """The best reward of a checkpoint and its return, -inf where that is unknown; None when it has none.

    Raises CheckpointError on bytes that are no learned reward, KeyError where they are missing.
    """
    best = information.get("reward")
    if best is None:
        return None
    try:
        return LearnedReward(content=arrays[REWARD].tobytes()), _return_of(best)
    except ConfigurationError as error:
        raise CheckpointError(f"trainer's best reward: {error}") from None


def _known(value: float) -> float | None:
    """JSON has no infinities."""
    return value if math.isfinite(value) else None


def _return_of(best: Mapping[str, Any]) -> float:
    return -math.inf if best["return"] is None else float(best["return"])


def make_trainer(
    kind: str, mapping: Mapping[str, Any], robot: TrainingRobot, seed: int, **sources: Any
) -> TrainingAlgorithm:
    """A trainer by name. `mapping` holds the kind's parameters, a `kind` key among them is passed over; `sources` are
    those of SOURCES that there are.

    Raises ConfigurationError on an unknown kind, source or parameter, a value out of range, or a missing source.
    """
    unknown = sorted(set(sources) - set(SOURCES))
    if unknown:
        raise ConfigurationError(f"trainer source: got {unknown[0]!r}, expected some of {', '.join(SOURCES)}")
    entry = TRAINERS.get(kind)
    return entry.implementation(TRAINERS.configure(kind, dict(mapping)), robot, seed, **sources)


def save_trainer(path: str | Path, trainer: TrainingAlgorithm) -> None:
    """Writes a checkpoint, atomically. `trainer.restore(*load_checkpoint(path))` takes it up. Raises OSError."""
    save_checkpoint(path, *trainer.state())


def _complete(policy: Mapping[str, Any] | None) -> dict[str, Any]:
    """A `policy` group with every parameter of its kind. Raises ConfigurationError."""
    mapping = dict(policy or {"kind": "mlp"})
    kind = mapping.get("kind")
    if not isinstance(kind, str):
        raise ConfigurationError(
            f"parameter 'policy.kind': got {kind!r}, expected one of {', '.join(POLICIES.names())}"
        )
    return {"kind": kind, **to_mapping(POLICIES.configure(kind, mapping))}
