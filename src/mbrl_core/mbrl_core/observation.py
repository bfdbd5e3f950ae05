# SPDX-License-Identifier: Apache-2.0
"""What of a robot everybody else sees: its whole state, or positions alone, and how it was some steps before.

The whole state [whole_size] is what robot_node and backends know: positions of the joints, their velocities, entries of
sensors. An observation is what is seen of it. The state [state_size] that time steps carry, models learn and tasks
judge holds the newest observation, and for each of `history` - 1 steps back how far the observation was from the
newest then, older less newest, angles the shorter way round. Such a difference is as good as the older observation, and
of the size of a step: a model that had to take a velocity from two angles would lose most of its digits. Last come the
actions between these observations, normalised, the newest first: two positions say how fast a joint was on the way, and
how fast it is now only together with what has driven it.
"""

import math

import numpy as np

from mbrl_core.specs import AGO, ActionSpec, Array, SpecError, StateSpec, state_difference


class Observation:
    """Makes states of whole states. `whole` describes these: `joints` positions, as many velocities, other entries.

    `actions` are those that a history remembers; None: none.
    """

    def __init__(
        self,
        whole: StateSpec,
        joints: int,
        with_velocities: bool,
        history: int,
        period: float,
        actions: ActionSpec | None = None,
    ) -> None:
        if not with_velocities and history < 2:
            raise SpecError(
                "estimation.history: got 1 beside observe: [positions], expected at least 2: one observation says"
                " nothing of how fast the joints are"
            )
        self.whole = whole
        self.joints = joints
        self.history = history
        self._with_velocities = with_velocities
        self._period = period
        seen = [index for index in range(whole.size) if with_velocities or not joints <= index < 2 * joints]
        self._seen = np.array(seen)
        self._angular = whole.angular[self._seen]
        self.plain = history == 1 and whole.size == 2 * joints
        self._action_size = 0 if actions is None else actions.size
        self.spec = self._spec(seen, actions)

    def _spec(self, seen: list[int], actions: ActionSpec | None) -> StateSpec:
        whole = self.whole
        names, kinds, units = ([values[index] for index in seen] for values in (whole.names, whole.kinds, whole.units))
        lower, upper = ([values[index] for index in seen] for values in (whole.lower, whole.upper))
        spread = [high - low for low, high in zip(lower, upper, strict=True)]
        for ago in range(1, self.history):
            names += [f"{whole.names[index]}{AGO}{ago}" for index in seen]
            kinds += ["linear"] * len(seen)
            units += [whole.units[index] for index in seen]
            lower += [-width for width in spread]
            upper += spread
        for ago in range(1, self.history) if actions is not None else ():
            assert actions is not None
            names += [f"{name}_action{AGO}{ago}" for name in actions.names]
            kinds += ["linear"] * actions.size
            units += ["1"] * actions.size
            lower += actions.lower
            upper += actions.upper
        return StateSpec(tuple(names), tuple(kinds), tuple(units), tuple(lower), tuple(upper))

    def first(self, whole: Array, action: Array | None = None) -> Array:
        """State [state_size] at the start of an episode in a whole state [whole_size]: nothing was different before.

        `action` [action_size] is that of rest, which the robot had until now; None: zero.
        """
        seen = np.asarray(whole, dtype=np.float64)[self._seen]
        past = self.history - 1
        rest = np.zeros(self._action_size) if action is None or not self._action_size else action
        return np.concatenate([seen, np.zeros(len(seen) * past), np.tile(rest, past)])

    def following(self, state: Array, whole: Array, action: Array) -> Array:
        """State [state_size] of a whole state [whole_size] one step after `state` [state_size] under `action`."""
        seen = np.asarray(whole, dtype=np.float64)[self._seen]
        if self.history == 1:
            return seen
        count, end = len(seen), len(seen) * self.history
        before = state_difference(state[:count], seen, self._angular)
        older = state[count : end - count].reshape(-1, count) + before
        parts = [seen, before, older.ravel()]
        if self._action_size:
            parts += [np.asarray(action, dtype=np.float64), state[end : state.size - self._action_size]]
        return np.concatenate(parts)

    def joint_state(self, state: Array) -> Array:
        """Positions and velocities [2 joints] of a state [state_size]: for a simulation to start in.

        Velocities that are not seen are those of the last step.
        """
        state = np.asarray(state, dtype=np.float64)
        if self._with_velocities:
            return state[: 2 * self.joints]
        count = len(self._seen)
        return np.concatenate([state[: self.joints], -state[count : count + self.joints] / self._period])


def require_plain(plain: bool, robot: str, what: str) -> None:
    """Raises SpecError where the state is not positions and velocities of the joints and nothing else."""
    if not plain:
        raise SpecError(
            f"robot {robot!r} has a section estimation with sensors, observe or history: {what} needs a state of"
            " positions and velocities of all joints and nothing else"
        )


def joint_entries(names: tuple[str, ...]) -> tuple[list[int], list[int] | None, list[int] | None]:
    """Where in a state are positions, velocities (None: not seen) and positions one step ago (None: no history)."""
    positions = [index for index, name in enumerate(names) if name.endswith("_position")]
    joints = [names[index].removesuffix("_position") for index in positions]

    def find(ending: str) -> list[int] | None:
        wanted = [joint + ending for joint in joints]
        return [names.index(name) for name in wanted] if set(wanted) <= set(names) else None

    return positions, find("_velocity"), find(f"_position{AGO}1")


def whole_spec(joint_spec: StateSpec, entries: list[tuple[str, str, str]]) -> StateSpec:
    """Appends sensors' entries (name, kind, unit), without limits, to positions and velocities of the joints.

    Raises SpecError where one has a name as a joint's.
    """
    for name, _, _ in entries:
        if name.endswith(("_position", "_velocity")):
            raise SpecError(f"estimation.sensors: got an entry {name!r}, which is a joint's name of a state")
    names, kinds, units = ([entry[index] for entry in entries] for index in range(3))
    return StateSpec(
        (*joint_spec.names, *names),
        (*joint_spec.kinds, *kinds),
        (*joint_spec.units, *units),
        (*joint_spec.lower, *([-math.inf] * len(entries))),
        (*joint_spec.upper, *([math.inf] * len(entries))),
    )
