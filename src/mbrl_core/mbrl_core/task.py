# SPDX-License-Identifier: Apache-2.0
"""What every task is: a reward with a goal, parameters, weights and obstacles."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from mbrl_core.config import ConfigurationError
from mbrl_core.libraries import Batch, array_library
from mbrl_core.obstacles import ChainPoint, Nearest, checked_obstacles, nearest_point, spheres_of
from mbrl_core.specs import AGO, RobotSpec


@dataclass(frozen=True)
class Task:
    """A reward with a goal, parameters and weights, and obstacles that the robot must not hit.

    Subclasses name their `kind`, the state variables they use, and defaults; unknown parameter or weight names,
    goals of another size and obstacles that are none raise ConfigurationError. `version` grows with every change in a
    running system. `obstacles` are circles, or spheres where `workspace_size` is 3: centre and radius of each, one
    after the other (m). What must stay out of them is what `chain` says. The reward knows nothing of them: planners
    keep away as their collision parameters tell them to, and `violates` judges. `content` is what a `learned` kind was
    taught: safetensors bytes.
    """

    goal: tuple[float, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    version: int = 1
    obstacles: tuple[float, ...] = ()
    content: bytes = field(default=b"", repr=False)

    kind: ClassVar[str] = ""
    state_size: ClassVar[int] = 0
    action_size: ClassVar[int] = 0
    workspace_size: ClassVar[int] = 0  # dimensions that obstacles have; 0: the kind knows no `chain`
    learned: ClassVar[bool] = False  # whether the kind has `content`
    default_goal: ClassVar[tuple[float, ...]] = ()
    default_parameters: ClassVar[Mapping[str, float]] = {}
    default_weights: ClassVar[Mapping[str, float]] = {}

    def __post_init__(self) -> None:
        goal = tuple(float(value) for value in self.goal) or self.default_goal
        if len(goal) != self._goal_size():
            raise ConfigurationError(f"task {self.kind!r} goal: got {len(goal)} numbers, expected {self._goal_size()}")
        object.__setattr__(self, "goal", goal)
        object.__setattr__(self, "parameters", self._complete("parameter", self.parameters, self.default_parameters))
        object.__setattr__(self, "weights", self._complete("weight", self.weights, self.default_weights))
        if not all(math.isfinite(value) for value in (*goal, *self.parameters.values(), *self.weights.values())):
            raise ConfigurationError(f"task {self.kind!r}: goal, parameters and weights must be finite")
        object.__setattr__(self, "content", bytes(self.content))
        if bool(self.content) != self.learned:
            expected = "safetensors bytes of what was learned" if self.learned else "none: nothing of it is learned"
            raise ConfigurationError(f"task {self.kind!r} content: got {len(self.content)} bytes, expected {expected}")
        try:
            object.__setattr__(self, "obstacles", checked_obstacles(self.obstacles, self.workspace_size))
        except ValueError as error:
            raise ConfigurationError(f"task {self.kind!r} obstacles: {error}") from None

    def _goal_size(self) -> int:
        """Numbers that a goal has."""
        return len(self.default_goal)

    @property
    def spheres(self) -> list[tuple[float, ...]]:
        """(centre, radius) of each obstacle (m)."""
        return spheres_of(self.obstacles, self.workspace_size)

    def _complete(self, role: str, given: Mapping[str, float], defaults: Mapping[str, float]) -> Mapping[str, float]:
        unknown = sorted(set(given) - set(defaults))
        if unknown:
            known = ", ".join(defaults) or "none"
            raise ConfigurationError(f"task {self.kind!r}: unknown {role} {unknown[0]!r}, expected one of: {known}")
        return {**defaults, **{name: float(value) for name, value in given.items()}}

    def check_robot(self, spec: RobotSpec) -> None:
        """Raises ConfigurationError when the task is defined on states or actions of another size or another kind."""
        if not self.learned and any(AGO in name for name in spec.state.names):
            raise ConfigurationError(
                f"task {self.kind!r}: robot {spec.name!r} has states {', '.join(spec.state.names)}, expected positions"
                " and velocities"
            )
        if (spec.state.size, spec.action.size) != (self.state_size, self.action_size):
            raise ConfigurationError(
                f"task {self.kind!r}: robot {spec.name!r} has {spec.state.size} states and {spec.action.size} actions,"
                f" expected {self.state_size} and {self.action_size}"
            )

    def check_reward(self, library: Any = np) -> None:
        """Tries the reward, `terminated` and `violates` on a batch of zeros of `library`, numpy or torch.

        Raises ConfigurationError when one of them fails or returns another shape than that of the batch.
        """
        shape = (2, 3)
        state, action = library.zeros((*shape, self.state_size)), library.zeros((*shape, self.action_size))
        for name, arguments in (("reward", (state, action, state)), ("terminated", (state,)), ("violates", (state,))):
            what = f"task {self.kind!r}: {name} of states {[*state.shape]}"
            try:
                got = getattr(getattr(self, name)(*arguments), "shape", ())
            except Exception as error:
                raise ConfigurationError(f"{what}: {error!r}, expected numbers of shape {[*shape]}") from error
            if tuple(got) != shape:
                raise ConfigurationError(f"{what}: got shape {[*got]}, expected {[*shape]}")

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        """Reward of transitions.

        state, next_state [..., state_size] in SI units, action [..., action_size] in normalised units -> [...].
        """
        raise NotImplementedError

    def terminated(self, state: Batch) -> Batch:
        """Whether a state [..., state_size] ends the episode -> bool [...]. None does unless a subclass says so."""
        return array_library(state).zeros_like(state[..., 0]) > 0.0

    def state_is_success(self, state: Batch) -> Batch:
        """Whether a state [..., state_size] fulfils the task -> bool [...]; for judging, never for learning."""
        raise NotImplementedError

    def chain(self, state: Batch) -> list[ChainPoint]:
        """Points of the robot at a state [..., state_size], in the order of its links.

        The straight centre lines between successive ones must not hit obstacles: half a link's thickness belongs
        to the obstacles' radii.
        """
        raise NotImplementedError

    def nearest(self, state: Batch) -> Nearest:
        """The robot's point nearest to an obstacle at a state [..., state_size]; ValueError when there is none."""
        return nearest_point(self.chain(state), self.spheres)

    def violates(self, state: Batch) -> Batch:
        """Whether a state [..., state_size] has a point of the robot inside an obstacle -> bool [...]; for judging."""
        if not self.obstacles:
            return array_library(state).zeros_like(state[..., 0]) > 0.0
        return self.nearest(state).clearance < 0.0
