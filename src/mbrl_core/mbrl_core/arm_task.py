# SPDX-License-Identifier: Apache-2.0
"""Reaching with an arm of seven joints."""

from mbrl_core.libraries import Batch, array_library
from mbrl_core.obstacles import ChainPoint
from mbrl_core.reaching import Reaching

Vector = tuple[Batch, Batch, Batch]


class ArmTip(Reaching):
    """Tip of a seven-joint arm at a point: -w_distance |tip - goal| - w_close (1 - exp(-|tip - goal|^2 / width^2))
    - w_action |a|^2 - w_velocity |velocity|^2.

    State: seven joint angles (rad), their velocities (rad/s). Odd joints turn about the arm's own axis, even ones bend
    it about its y; at 0 it stands along z. Goal: tip position (m).
    """

    kind = "arm_tip"
    state_size, action_size, workspace_size = 14, 7, 3
    default_goal = (0.3, -0.35, 0.5)
    default_parameters = {"height": 0.3, "upper_length": 0.35, "lower_length": 0.3, "hand_length": 0.15, "width": 0.05}
    default_weights = {"distance": 2.0, "close": 1.0, "velocity": 0.01, "action": 0.01}

    def squared_distance(self, state: Batch) -> Batch:
        """|tip - goal|^2 in m^2, [...]."""
        tip = self.chain(state)[-1].position
        return sum((place - wanted) ** 2 for place, wanted in zip(tip, self.goal, strict=True))

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        distance = self.distance_cost(self.squared_distance(next_state))
        effort = (action * action).sum(-1)
        speed = (next_state[..., 7:] * next_state[..., 7:]).sum(-1)
        return -(distance + self.weights["action"] * effort + self.weights["velocity"] * speed)

    def state_is_success(self, state: Batch) -> Batch:
        return self.squared_distance(state) < 0.02**2

    def chain(self, state: Batch) -> list[ChainPoint]:
        """Shoulder, elbow, wrist and tip in space."""
        library = array_library(state)
        zero = library.zeros_like(state[..., 0])
        one = zero + 1.0
        side: Vector = (one, zero, zero)
        across: Vector = (zero, one, zero)
        along: Vector = (zero, zero, one)
        spin: Vector = (zero, zero, zero)
        points = [ChainPoint((zero, zero, zero + self.parameters["height"]), (zero, zero, zero))]
        for link, name in enumerate(("upper_length", "lower_length", "hand_length")):
            turn, bend = state[..., 2 * link], state[..., 2 * link + 1]
            spin = _add(spin, state[..., 7 + 2 * link], along)
            cosine, sine = library.cos(turn), library.sin(turn)
            side, across = _mix(cosine, side, sine, across), _mix(-sine, side, cosine, across)
            spin = _add(spin, state[..., 8 + 2 * link], across)
            cosine, sine = library.cos(bend), library.sin(bend)
            side, along = _mix(cosine, side, -sine, along), _mix(sine, side, cosine, along)
            length = self.parameters[name]
            points.append(
                ChainPoint(
                    _add(points[-1].position, length, along), _add(points[-1].velocity, length, _cross(spin, along))
                )
            )
        return points


def _mix(first: Batch, one: Vector, second: Batch, other: Vector) -> Vector:
    return tuple(first * a + second * b for a, b in zip(one, other, strict=True))


def _add(start: tuple[Batch, ...], share: Batch | float, direction: Vector) -> Vector:
    return tuple(a + share * b for a, b in zip(start, direction, strict=True))


def _cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
