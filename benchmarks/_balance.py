# SPDX-License-Identifier: Apache-2.0
"""A task at which a cart-pole can fail: to hold the pole up and come to the middle of a short rail."""

import math

from mbrl_core.libraries import Batch, array_library
from mbrl_core.tasks import Task


class CartpoleBalance(Task):
    """1 - w_x p^2 - w_theta (1 - cos theta) - w_v v^2 - w_a a^2 - w_wall max(0, |p| - margin)^2 / (1 - margin)^2.

    p is the cart's position as a share of the rail. State as in the `cartpole_tip` task: hinge pi is upright, theta =
    hinge - pi. It is a failure, after which nothing is earned, when the rail ends, |p| > 1, or the pole has fallen,
    |theta| > angle. The last term is the price of being near an obstacle, without which no planner that follows
    derivatives could see one.
    """

    kind = "cartpole_balance"
    state_size, action_size = 4, 1
    default_goal = (0.0,)
    default_parameters = {"rail": 1.0, "angle": 0.8, "margin": 0.6}
    default_weights = {"position": 0.5, "angle": 1.0, "speed": 0.05, "action": 0.01, "wall": 1.0}

    def reward(self, state: Batch, action: Batch, next_state: Batch) -> Batch:
        library = array_library(next_state)
        position = (next_state[..., 0] - self.goal[0]) / self.parameters["rail"]
        upright = 1.0 + library.cos(next_state[..., 1])
        speed = next_state[..., 2] * next_state[..., 2] + next_state[..., 3] * next_state[..., 3]
        near = library.abs(position) - self.parameters["margin"]
        near = 0.5 * (near + library.abs(near)) / (1.0 - self.parameters["margin"])
        return (
            1.0
            - self.weights["wall"] * near * near
            - self.weights["position"] * position * position
            - self.weights["angle"] * upright
            - self.weights["speed"] * speed
            - self.weights["action"] * action[..., 0] * action[..., 0]
        )

    def terminated(self, state: Batch) -> Batch:
        library = array_library(state)
        fallen = library.cos(state[..., 1]) > -math.cos(self.parameters["angle"])
        return fallen | (library.abs(state[..., 0]) > self.parameters["rail"])

    def state_is_success(self, state: Batch) -> Batch:
        library = array_library(state)
        return (library.cos(state[..., 1]) < -math.cos(0.1)) & (library.abs(state[..., 0] - self.goal[0]) < 0.1)


class EndlessBalance(CartpoleBalance):
    """The same rewards without an end: what a planner follows, for whom an end would be a way out of bad rewards."""

    kind = "cartpole_endless_balance"

    def terminated(self, state: Batch) -> Batch:
        return Task.terminated(self, state)
