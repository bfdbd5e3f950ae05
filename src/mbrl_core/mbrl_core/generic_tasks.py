# SPDX-License-Identifier: Apache-2.0
"""Tasks for any robot: joints, or a point of the robot, at a target. Their parameters say which robot it is."""

import re
from collections.abc import Mapping
from typing import ClassVar

from mbrl_core.config import ConfigurationError
from mbrl_core.kinematic_chain import ChainJoint, moving_point, point_of_chain
from mbrl_core.libraries import Batch, array_library
from mbrl_core.obstacles import ChainPoint
from mbrl_core.reaching import Reaching
from mbrl_core.specs import RobotSpec

SUCCESS_SHARE = 0.5  # of `width`: nearer than this the task is fulfilled


class AnyRobot(Reaching):
    """What tasks for any robot have in common: -w_distance d - w_close (1 - exp(-d^2 / width^2)) - w_action |a|^2
    - w_velocity sum_j (velocity_j / speed_j)^2, where d is the distance to the goal.

    Parameters: `joints` and `actions`, how many the robot has; `width`; `speed_J`, the velocity (m/s or rad/s) of joint
    number J, from 0, that costs w_velocity, 1 where it is not named; and those of the kind. Between joints 0 to
    joints - 1 come positions, then velocities, in the state.
    """

    state_size, action_size = 4, 2
    default_weights: ClassVar[Mapping[str, float]] = {"distance": 2.0, "close": 1.0, "velocity": 0.02, "action": 0.01}
    indexed_names: ClassVar[str] = ""  # regular expression of the kind's own parameters; group 1 is the joint

    def __post_init__(self) -> None:
        super().__post_init__()
        joints, actions = (self._count(name) for name in ("joints", "actions"))
        object.__setattr__(self, "state_size", 2 * joints)
        object.__setattr__(self, "action_size", actions)
        speeds = tuple(self.parameters.get(f"speed_{joint}", 1.0) for joint in range(joints))
        for name, value in (("width", self.parameters["width"]), *((f"speed_{j}", s) for j, s in enumerate(speeds))):
            if not value > 0.0:
                raise ConfigurationError(f"task {self.kind!r} parameter {name!r}: got {value:g}, expected more than 0")
        object.__setattr__(self, "_prices", tuple(1.0 / speed**2 for speed in speeds))

    def _count(self, name: str) -> int:
        value = self.parameters[name]
        if value != int(value) or not 1 <= value <= 1000:
            raise ConfigurationError(f"task {self.kind!r} parameter {name!r}: got {value:g}, expected a number from 1")
        return int(value)

    def _complete(self, role: str, given: Mapping[str, float], defaults: Mapping[str, float]) -> Mapping[str, float]:
        """Parameters are those given, or, where none is, those of an example."""
        if role != "parameter" or not given:
            return super()._complete(role, given, defaults)
        complete = {"width": defaults["width"], **{name: float(value) for name, value in given.items()}}
        for name in ("joints", "actions"):
            if name not in complete:
                raise ConfigurationError(f"task {self.kind!r}: expected a parameter {name!r}")
        pattern = re.compile(rf"speed_(\d+)|{self.indexed_names}")
        for name in complete:
            found = pattern.fullmatch(name)
            number = next((group for group in found.groups() if group and group.isdigit()), None) if found else None
            if name not in ("joints", "actions", "width") and found is None:
                raise ConfigurationError(
                    f"task {self.kind!r}: unknown parameter {name!r}, expected joints, actions, width, speed_J or"
                    f" {self.indexed_names.replace('(?:', '(')} with the number of a joint"
                )
            if number is not None and int(number) >= complete["joints"]:
                raise ConfigurationError(
                    f"task {self.kind!r} parameter {name!r}: got joint {number}, expected one of 0 to"
                    f" {complete['joints'] - 1:g}"
                )
        return complete

    def squared_distance(self, state: Batch) -> Batch:
        """d^2 [...] at states [..., state_size], in the square of the unit of `width`."""
        raise NotImplementedError

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        cost = self.distance_cost(self.squared_distance(next_state)) + self.weights["action"] * (action * action).sum(
            -1
        )
        prices: tuple[float, ...] = vars(self)["_prices"]
        for joint, price in enumerate(prices):
            velocity = next_state[..., len(prices) + joint]
            cost = cost + self.weights["velocity"] * price * velocity * velocity
        return -cost

    def state_is_success(self, state: Batch) -> Batch:
        return self.squared_distance(state) < (SUCCESS_SHARE * self.parameters["width"]) ** 2

    def _check_kind(self, spec: RobotSpec, joint: int, angular: bool, parameter: str) -> None:
        expected = "angular" if angular else "linear"
        if spec.state.kinds[joint] != expected:
            raise ConfigurationError(
                f"task {self.kind!r} parameter {parameter!r}: {spec.state.names[joint]!r} of robot {spec.name!r} is"
                f" {spec.state.kinds[joint]}, expected {expected}"
            )


class TipTarget(AnyRobot):
    """A point of the robot at a goal in space (m): `AnyRobot` with d = |tip - goal|.

    Parameters: `tip_x`, `tip_y`, `tip_z`, where the point is with all joints at 0 (m), and of each joint J that moves
    it `hinge_J_axis_x` to `_z` and `hinge_J_anchor_x` to `_z`, direction and a point of its axis (m) with all joints at
    0, or `slide_J_axis_x` to `_z`; 0 where they are not named. Joints stand in order from the base.
    """

    kind = "tip_target"
    workspace_size = 3
    default_goal = (0.5, 0.5, 0.0)
    default_parameters: ClassVar[Mapping[str, float]] = {
        "joints": 2.0, "actions": 2.0, "width": 0.1, "tip_x": 1.0,
        "hinge_0_axis_z": 1.0, "hinge_1_axis_z": 1.0, "hinge_1_anchor_x": 0.5,
    }  # fmt: skip
    indexed_names = r"tip_[xyz]|hinge_(\d+)_(?:axis|anchor)_[xyz]|slide_(\d+)_axis_[xyz]"

    def __post_init__(self) -> None:
        super().__post_init__()
        named = {
            (int(found[2]), found[1] == "hinge")
            for name in self.parameters
            if (found := re.match(r"(hinge|slide)_(\d+)_", name))
        }
        joints = []
        for index, hinge in sorted(named):
            prefix = f"{'hinge' if hinge else 'slide'}_{index}"
            try:
                joints.append(
                    ChainJoint(index, hinge, self._vector(f"{prefix}_axis"), self._vector(f"{prefix}_anchor"))
                )
            except ValueError as error:
                raise ConfigurationError(f"task {self.kind!r}: {error}") from None
        if not joints or len({joint.index for joint in joints}) < len(joints):
            raise ConfigurationError(
                f"task {self.kind!r}: expected each joint once, as hinge or as slide, at least one"
            )
        object.__setattr__(self, "_joints", tuple(joints))
        object.__setattr__(self, "_tip", self._vector("tip"))

    def _vector(self, prefix: str) -> tuple[float, float, float]:
        x, y, z = (self.parameters.get(f"{prefix}_{axis}", 0.0) for axis in "xyz")
        return x, y, z

    def check_robot(self, spec: RobotSpec) -> None:
        """Raises ConfigurationError when the robot has other joints or actions than the parameters say."""
        super().check_robot(spec)
        for joint in vars(self)["_joints"]:
            name = f"{'hinge' if joint.hinge else 'slide'}_{joint.index}_axis"
            self._check_kind(spec, joint.index, joint.hinge, name)

    def tip(self, state: Batch) -> tuple[Batch, Batch, Batch]:
        """Coordinates of the point (m), each [...], at states [..., state_size]."""
        return point_of_chain(vars(self)["_joints"], vars(self)["_tip"], state)

    def squared_distance(self, state: Batch) -> Batch:
        """|tip - goal|^2 in m^2."""
        return sum((place - wanted) ** 2 for place, wanted in zip(self.tip(state), self.goal, strict=True))

    def chain(self, state: Batch) -> list[ChainPoint]:
        """The hinges' anchors, from the base, and the tip, in space."""
        joints, count = vars(self)["_joints"], self.state_size // 2
        points = [
            moving_point(joints[:number], joint.anchor, state, count)
            for number, joint in enumerate(joints)
            if joint.hinge
        ]
        tip = moving_point(joints, vars(self)["_tip"], state, count)
        # A straight line needs two points.
        return [*points, tip] if points else [tip, tip]


class JointTarget(AnyRobot):
    """Joints at target positions (rad or m): `AnyRobot` with d^2 = mean_j (error_j / scale_j)^2.

    Parameters: of each joint J that has a target either `joint_J`, its scale (rad or m), error = position - target, or
    `turn_J` for a hinge without limits, where whole turns do not count: error = 2 sin((position - target) / 2). The
    goal holds the targets in the order of the joints. `width` is a number of scales.
    """

    kind = "joint_target"
    default_goal = (0.5, -0.5)
    default_parameters: ClassVar[Mapping[str, float]] = {
        "joints": 2.0, "actions": 2.0, "width": 0.1, "joint_0": 1.0, "turn_1": 1.0,
    }  # fmt: skip
    indexed_names = r"(?:joint|turn)_(\d+)"

    def __post_init__(self) -> None:
        given = self.parameters or self.default_parameters
        found = sorted((int(match[2]), match[1] == "turn", float(given[name]))
                       for name in given if (match := re.fullmatch(r"(joint|turn)_(\d+)", name)))  # fmt: skip
        if not found or len({index for index, _, _ in found}) < len(found) or any(scale <= 0 for *_, scale in found):
            raise ConfigurationError(
                f"task {self.kind!r}: expected a parameter joint_J or turn_J above 0 for each joint with a target, once"
            )
        object.__setattr__(self, "_targets", tuple(found))
        goal = tuple(self.goal) or (self.default_goal if not self.parameters else ())
        if len(goal) != len(found):
            raise ConfigurationError(f"task {self.kind!r} goal: got {len(goal)} numbers, expected {len(found)}")
        super().__post_init__()

    def _goal_size(self) -> int:
        return len(vars(self)["_targets"])

    def check_robot(self, spec: RobotSpec) -> None:
        """Raises ConfigurationError when the robot has other joints or actions than the parameters say."""
        super().check_robot(spec)
        for index, turn, _ in vars(self)["_targets"]:
            if turn:
                self._check_kind(spec, index, True, f"turn_{index}")

    def squared_distance(self, state: Batch) -> Batch:
        """Mean over joints of (error / scale)^2."""
        library, total = array_library(state), 0.0
        targets = vars(self)["_targets"]
        for (index, turn, scale), wanted in zip(targets, self.goal, strict=True):
            error = state[..., index] - wanted
            if turn:
                error = 2.0 * library.sin(0.5 * error)
            total = total + (error / scale) ** 2 / len(targets)
        return total
