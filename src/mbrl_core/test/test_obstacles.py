# SPDX-License-Identifier: Apache-2.0
"""Obstacles of a task: distances and speeds of hand-made chains, every kind's points, and what is refused."""

import math
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from mbrl_core.config import ConfigurationError
from mbrl_core.obstacles import ChainPoint, nearest_point
from mbrl_core.tasks import TASKS, CartpoleTip, Task, make_task

WITH_CHAIN = sorted(kind for kind, task in TASKS.items() if task.workspace_size)
MJCF = Path(__file__).resolve().parents[2] / "mbrl_description" / "mjcf"


def some_states(size: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-2.0, 2.0, (40, size))


def point(*numbers: float) -> ChainPoint:
    half = len(numbers) // 2
    return ChainPoint(tuple(np.float64(item) for item in numbers[:half]), tuple(numbers[half:]))


# A link along x from the origin, at rest, to (2, 0), moving up with 4 m/s: a point at share s moves with 4 s.
@pytest.mark.parametrize(
    ("sphere", "clearance", "speed"),
    [
        ((1.0, 0.5, 0.2), 0.3, 2.0),  # beside the middle
        ((0.5, 0.1, 0.2), -0.1, 1.0),  # the link goes through it
        ((3.0, 0.0, 0.25), 0.75, 4.0),  # beyond the end
        ((-3.0, 4.0, 1.0), 4.0, 0.0),  # before the start
    ],
)
def test_nearest_point_of_a_link(sphere: tuple[float, ...], clearance: float, speed: float) -> None:
    nearest = nearest_point([point(0, 0, 0, 0), point(2, 0, 0, 4)], [sphere])
    assert nearest.clearance == pytest.approx(clearance, abs=1e-5)
    assert nearest.speed == pytest.approx(speed, abs=1e-5)


def test_the_nearest_of_several_links_and_spheres_counts() -> None:
    chain = [point(0, 0, 0, 0), point(2, 0, 0, 4), point(2, 2, 0, 6)]
    spheres = [(1.0, -0.5, 0.2), (2.5, 1.0, 0.4), (9.0, 9.0, 1.0)]
    nearest = nearest_point(chain, spheres)
    assert nearest.clearance == pytest.approx(0.1, abs=1e-5)
    assert nearest.speed == pytest.approx(5.0, abs=1e-5)
    with pytest.raises(ValueError, match="got 3 points and 0 spheres"):
        nearest_point(chain, [])


def test_spheres_in_space() -> None:
    nearest = nearest_point([point(0, 0, 0, 0, 0, 0), point(0, 0, 2, 1, 2, 2)], [(3.0, 4.0, 2.0, 1.0)])
    assert nearest.clearance == pytest.approx(4.0, abs=1e-5)
    assert nearest.speed == pytest.approx(3.0, abs=1e-5)


@pytest.mark.parametrize("kind", WITH_CHAIN)
def test_points_move_as_their_velocities_say(kind: str) -> None:
    task = make_task(kind)
    state = some_states(task.state_size)
    half, step = task.state_size // 2, 1e-6
    moved = state.copy()
    moved[:, :half] += step * state[:, half:]
    for before, after in zip(task.chain(state), task.chain(moved), strict=True):
        for dimension in range(task.workspace_size):
            change = (after.position[dimension] - before.position[dimension]) / step
            np.testing.assert_allclose(before.velocity[dimension] + 0.0 * change, change, atol=1e-5)


# Bodies whose origins, and the site, that the points of the chain are, and the axes of its plane.
@pytest.mark.parametrize(
    ("kind", "robot", "bodies", "axes"),
    [
        ("cartpole_tip", "cartpole", ["pole"], [0, 2]),
        ("pendulum_upright", "pendulum", [1], [0, 2]),
        ("acrobot_tip", "acrobot", [1, "lower_link"], [0, 2]),
        ("reacher_tip", "reacher", [1, "forearm"], [0, 1]),
        ("arm_tip", "arm", ["shoulder", "elbow", "wrist"], [0, 1, 2]),
    ],
)
def test_chains_are_those_of_the_robots(kind: str, robot: str, bodies: list[Any], axes: list[int]) -> None:
    model = mujoco.MjModel.from_xml_path(str(MJCF / f"{robot}.xml"))
    data = mujoco.MjData(model)
    task = make_task(kind)
    for state in some_states(task.state_size)[:5]:
        data.qpos[:] = state[: model.nq]
        mujoco.mj_forward(model, data)
        # Goals of pendulum and acrobot are relative to the pivot, which does not move.
        origin = np.zeros(3) if kind in ("cartpole_tip", "arm_tip") else data.body(1).xpos
        truth = [data.body(name).xpos for name in bodies] + [data.site("tip").xpos]
        for item, place in zip(task.chain(state), truth, strict=True):
            np.testing.assert_allclose(item.position, (place - origin)[axes], atol=1e-9)


@pytest.mark.parametrize("kind", WITH_CHAIN)
def test_violations_are_the_same_for_numpy_and_torch(kind: str) -> None:
    free = make_task(kind)
    # One disc on the last point of the first state's chain, and one far away.
    state = some_states(free.state_size)
    place = [float(item) for item in free.chain(state[0])[-1].position]
    task = make_task(kind, obstacles=(*place, 0.05, *(50.0 for _ in place), 1.0))
    found = task.violates(state)
    assert found[0] and not found.all()
    np.testing.assert_array_equal(found, task.violates(torch.from_numpy(state)).numpy())
    assert task.violates(state.reshape(2, 20, -1)).shape == (2, 20)
    assert not free.violates(state).any()
    # The reward knows nothing of obstacles.
    action = np.zeros((len(state), task.action_size))
    np.testing.assert_array_equal(task.reward(state, action, state), free.reward(state, action, state))


@pytest.mark.parametrize("kind", WITH_CHAIN)
def test_clearance_and_speed_have_the_derivatives_that_differences_say(kind: str) -> None:
    size = TASKS[kind].workspace_size
    task = make_task(kind, obstacles=(*(0.3, -0.2, 0.4)[:size], 0.1, *(-0.4, 0.3, 0.6)[:size], 0.2))
    state = torch.from_numpy(some_states(task.state_size)[:4]).requires_grad_(True)

    def both(values: torch.Tensor) -> torch.Tensor:
        nearest = task.nearest(values)
        return torch.stack([nearest.clearance, nearest.speed])

    assert torch.autograd.gradcheck(both, (state,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("kind", WITH_CHAIN)
def test_derivatives_are_finite_at_rest_and_at_an_obstacle_s_centre(kind: str) -> None:
    place = [float(item) for item in make_task(kind).chain(np.zeros(TASKS[kind].state_size))[-1].position]
    task = make_task(kind, obstacles=(*place, 0.1))
    state = torch.zeros(1, task.state_size, requires_grad=True)
    nearest = task.nearest(state)
    (gradient,) = torch.autograd.grad((nearest.clearance + nearest.speed).sum(), state)
    assert nearest.clearance.item() == pytest.approx(-0.1, abs=1e-5)
    assert gradient.isfinite().all()


class Walker(CartpoleTip):
    kind = "walker"
    workspace_size = 3


class Abstract(Task):
    kind = "abstract"


@pytest.mark.parametrize(
    ("kind", "obstacles", "message"),
    [
        (CartpoleTip, (1.0, 2.0), r"obstacles: got 2 numbers, expected a multiple of 3: centre \(2\) and radius"),
        (CartpoleTip, ((1.0, 2.0, 0.1),), r"got \(\(1.0, 2.0, 0.1\),\), expected numbers, one obstacle's after"),
        (CartpoleTip, 0.1, "got 0.1, expected numbers"),
        (CartpoleTip, (1.0, 2.0, 0.1, 3.0), "got 4 numbers, expected a multiple of 3"),
        (CartpoleTip, (1.0, math.nan, 0.1), r"got \[1.0, nan, 0.1\], expected finite numbers and a radius above 0"),
        (CartpoleTip, (1.0, 0.0, 0.1, 1.0, 2.0, 0.0), r"got \[1.0, 2.0, 0.0\], expected finite numbers and a radius"),
        (CartpoleTip, (1.0, 0.0, -0.1), "a radius above 0"),
        (Walker, (1.0, 0.0, 0.1), "got 3 numbers, expected a multiple of 4"),
        (Abstract, (1.0,), "task 'abstract' obstacles: got some, expected none"),
    ],
)
def test_bad_obstacles_are_refused(kind: type[Task], obstacles: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        kind(obstacles=obstacles)


def test_spheres_are_the_rows_of_the_numbers() -> None:
    assert make_task("reacher_tip", obstacles=[1, 2, 3, 4.0, 5.0, 6.0]).spheres == [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)]
    assert make_task("reacher_tip").spheres == []
    with pytest.raises(ConfigurationError, match="task 'reacher_tip' obstacles: got 'x', expected numbers"):
        make_task("reacher_tip", obstacles="x")  # type: ignore[arg-type]
    assert Walker(obstacles=(1.0, 2.0, 3.0, 4.0)).spheres == [(1.0, 2.0, 3.0, 4.0)]
