# SPDX-License-Identifier: Apache-2.0
"""What a teacher would do in states that it was asked about."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mbrl_core.demonstrations import Demonstration
from mbrl_core.messages import TimeStep
from mbrl_core.specs import Array, RobotSpec
from mbrl_policy.training import Rollout


@dataclass(frozen=True)
class Labels:
    """N states and the teacher's actions there.

    Attributes:
        states: [N, n], SI units.
        steps: [N], integers, of the episode.
        actions: [N, m], normalised units, within the limits.
        gains: [N, m, n], how the action changes with the state; zero where the teacher does not say.
        precisions: [N, m, m], how much it matters to meet the action, Q_uu; the identity where nobody says.
        follows: [N], booleans: the row before is of the step before in the same episode, and the teacher moved the
            robot from there to here; false in all rows where None.

    Raises ValueError on shapes that do not fit and numbers that are not finite.
    """

    states: Array
    steps: np.ndarray
    actions: Array
    gains: Array
    precisions: Array
    follows: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.follows is None:
            object.__setattr__(self, "follows", np.zeros(len(self.states), bool))
        if self.states.ndim != 2 or self.actions.ndim != 2:
            raise ValueError(f"labels: got states {self.states.shape} and actions {self.actions.shape}, expected [N, n]"
                             " and [N, m]")  # fmt: skip
        count, size, width = len(self.states), self.states.shape[1], self.actions.shape[1]
        shapes = {"steps": (count,), "actions": (count, width), "gains": (count, width, size),
                  "precisions": (count, width, width), "follows": (count,)}  # fmt: skip
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"labels {name}: got shape {getattr(self, name).shape}, expected {shape}")
        for name in ("states", "actions", "gains", "precisions"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"labels {name}: have numbers that are not finite")

    def __len__(self) -> int:
        return len(self.states)

    @classmethod
    def none(cls, spec: RobotSpec) -> "Labels":
        """N = 0 of a robot."""
        n, m = spec.state.size, spec.action.size
        return cls(np.zeros((0, n)), np.zeros(0, int), np.zeros((0, m)), np.zeros((0, m, n)), np.zeros((0, m, m)))

    @classmethod
    def of_actions(cls, states: Array, actions: Array, first_step: int = 0) -> "Labels":
        """Of a teacher who moved the robot for T >= 1 steps without a gap: states [T, n], its actions [T, m]."""
        count, n, m = len(actions), states.shape[1], actions.shape[1]
        precisions, follows = np.tile(np.eye(m), (count, 1, 1)), np.arange(count) > 0
        return cls(
            states, first_step + np.arange(count), actions, np.zeros((count, m, n)), precisions, follows
        )  # fmt: skip

    @classmethod
    def of_rollout(cls, rollout: Rollout) -> "Labels":
        """Of a demonstration: the actions that the teacher meant, and where nobody says so those executed."""
        actions = rollout.actions if rollout.intended is None else rollout.intended
        return cls.of_actions(rollout.states[:-1], actions, rollout.first_step)

    @classmethod
    def of_demonstration(cls, demonstration: Demonstration) -> "Labels":
        """The same of what a bag holds. Raises ValueError where what was meant is lost in part."""
        actions = demonstration.actions if demonstration.intended is None else demonstration.intended
        return cls.of_actions(demonstration.states[:-1], actions, demonstration.first_step)

    @classmethod
    def joined(cls, parts: Iterable["Labels"]) -> "Labels":
        """All of at least one part, in order."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def chunks(self, length: int) -> tuple[Array, np.ndarray]:
        """Actions [N, length, m] of the steps from each row's on, and whether they are known [N, length]: as long as
        the teacher went on moving the robot. Unknown ones are the last known.
        """
        assert self.follows is not None
        index = np.tile(np.arange(len(self))[:, None], (1, length))
        known = np.ones((len(self), length), bool)
        for row in range(1, length):
            following = np.minimum(index[:, row - 1] + 1, len(self) - 1)
            known[:, row] = known[:, row - 1] & self.follows[following] & (index[:, row - 1] + 1 < len(self))
            index[:, row] = np.where(known[:, row], following, index[:, row - 1])
        return self.actions[index], known

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies by name, for a checkpoint."""
        return {f"labels/{name}": values.copy() for name, values in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Labels":
        """The reverse. Raises KeyError on what is missing, ValueError as the class does."""
        names = ("states", "steps", "actions", "gains", "precisions", "follows")
        return cls(*(np.array(arrays[f"labels/{name}"]) for name in names))


class LabelBook:
    """Writes down what a teacher said in the course of an episode."""

    def __init__(self) -> None:
        self._rows: list[tuple[np.ndarray, int, np.ndarray, np.ndarray, np.ndarray, bool]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        time_step: TimeStep,
        action: np.ndarray,
        gain: np.ndarray | None = None,
        precision: np.ndarray | None = None,
        follows: bool = False,
    ) -> None:
        """action [m] in the state of `time_step`; gain [m, n], precision [m, m] and `follows` as `Labels` has them."""
        size = len(action)
        gain = np.zeros((size, len(time_step.state))) if gain is None else gain
        precision = np.eye(size) if precision is None else precision
        self._rows.append((np.array(time_step.state), time_step.step, np.array(action), gain, precision, follows))

    def labels(self) -> Labels:
        """Of at least one state."""
        return Labels(*(np.array(column) for column in zip(*self._rows, strict=True)))
