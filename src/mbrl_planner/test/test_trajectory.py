# SPDX-License-Identifier: Apache-2.0
"""LQR, iLQR and DDP: linear-quadratic optima, limits, second order, and feedback that the executor closes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch
from analytic import CONTROL, DYNAMICS, STATE_WEIGHT, ExactDynamics, ExactObjective, double_integrator, spec_of
from simulated import SimulatedObjective, robot_and_task
from test_derivatives import SMALL, transitions_of

from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import make_task
from mbrl_dynamics.registry import make_model
from mbrl_planner.box_qp import box_qp
from mbrl_planner.controller import cut_plan
from mbrl_planner.expansion import TrajectoryProblem
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import Objective, Planner, PlanningError
from mbrl_planner.registry import make_planner
from mbrl_robot.executor import AddressedPlan, PlanExecutor
from mbrl_robot.simulation import MujocoSimulation

KINDS = ("lqr", "ilqr", "ddp")
HORIZON = 12


class DoubleObjective(ExactObjective):
    """An exact objective for trajectory optimisers in double precision."""

    def trajectory_problem(self, spec: RobotSpec) -> TrajectoryProblem:
        return TrajectoryProblem(ExactDynamics(self.step), self.reward, spec)


class RandomProblem(DoubleObjective):
    """x' = A x + B u + c; a penalty of state, action and next state with cross and linear terms, convex altogether."""

    def __init__(self, seed: int, states: int, actions: int) -> None:
        random = np.random.default_rng(seed)
        both = 2 * states + actions
        root = random.normal(size=(both, both))
        weight = torch.from_numpy(root @ root.T / both + 0.05 * np.eye(both))
        matrix = torch.from_numpy(random.normal(size=(states, states)) / np.sqrt(states))
        control = torch.from_numpy(random.normal(size=(states, actions)))
        offset, linear = torch.from_numpy(random.normal(size=states)), torch.from_numpy(random.normal(size=both))

        def step(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
            return state @ matrix.T + action @ control.T + offset

        def reward(state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
            joint = torch.cat([state, action, following], dim=-1)
            return -0.5 * torch.einsum("...i,ij,...j->...", joint, weight, joint) - joint @ linear

        super().__init__(step, reward)

    def total(self, state: Array, actions: Array) -> float:
        current, total = torch.from_numpy(state), 0.0
        for action in torch.from_numpy(actions):
            following = self.step(current, action)
            total += float(self.reward(current, action, following))
            current = following
        return total

    def optimum(self, state: Array, actions: int) -> Array:
        """The best actions [H, m], from the gradient and the Hessian of the return by all of them at once."""

        def total(flat: torch.Tensor) -> torch.Tensor:
            current, result = torch.from_numpy(state), torch.zeros((), dtype=torch.float64)
            for action in flat.view(HORIZON, actions):
                following = self.step(current, action)
                result = result + self.reward(current, action, following)
                current = following
            return result

        nothing = torch.zeros(HORIZON * actions, dtype=torch.float64)
        hessian = torch.autograd.functional.hessian(total, nothing)
        (gradient,) = torch.autograd.grad(total(nothing.requires_grad_(True)), nothing)
        return np.asarray(torch.linalg.solve(hessian, -gradient).view(HORIZON, actions).numpy())


def planner_of(kind: str, spec: RobotSpec, objective: Objective, **changes: Any) -> Planner:
    return make_planner({"kind": kind, "horizon": HORIZON, "iterations": 1, **changes}, spec, objective, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("states", "actions"), [(1, 1), (2, 1), (4, 2), (7, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_one_iteration_solves_linear_quadratic_problems(kind: str, states: int, actions: int, seed: int) -> None:
    problem = RandomProblem(seed, states, actions)
    state = np.random.default_rng(100 + seed).normal(size=states)
    changes = {} if kind == "lqr" else {"regularisation": 0.0}
    plan = planner_of(kind, spec_of(states, actions, 1e6), problem, **changes).plan(state)
    best = problem.total(state, problem.optimum(state, actions))
    assert plan.iterations == 1
    assert plan.predicted_return == pytest.approx(best, rel=1e-6)
    assert problem.total(state, plan.actions) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_box_qp_meets_the_conditions_of_optimality(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    root = random.normal(size=(size, size))
    hessian, linear = root @ root.T + 0.1 * np.eye(size), 3.0 * random.normal(size=size)
    lower, upper = -random.uniform(0.1, 1.0, size), random.uniform(0.1, 1.0, size)
    solution = box_qp(hessian, linear, lower, upper)
    point, gradient = solution.minimiser, hessian @ solution.minimiser + linear
    assert (point >= lower).all() and (point <= upper).all()
    np.testing.assert_allclose(gradient[solution.free], 0.0, atol=1e-6)
    held = ~solution.free
    assert (np.where(point == lower, gradient, -gradient)[held] > 0.0).all()
    np.testing.assert_allclose(
        hessian[np.ix_(solution.free, solution.free)] @ solution.solve(linear[solution.free]), linear[solution.free]
    )


def test_box_qp_refuses_what_is_not_convex() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        box_qp(np.diag([1.0, -1.0]), np.zeros(2), -np.ones(2), np.ones(2))


@pytest.mark.parametrize("kind", ["ilqr", "ddp"])
@pytest.mark.parametrize(("seed", "limit"), [(0, 0.6), (1, 0.6), (2, 1.0)])
def test_limits_against_a_general_optimiser(kind: str, seed: int, limit: float) -> None:
    states, actions = 3, 2
    problem = RandomProblem(seed, states, actions)
    state = np.random.default_rng(seed).normal(size=states)
    plan = planner_of(kind, spec_of(states, actions, limit), problem, iterations=50, tolerance=1e-12).plan(state)
    best = scipy.optimize.minimize(
        lambda flat: -problem.total(state, flat.reshape(HORIZON, actions)),
        np.zeros(HORIZON * actions),
        method="L-BFGS-B",
        bounds=[(-limit, limit)] * (HORIZON * actions),
        options={"ftol": 1e-14, "maxfun": 100_000},
    )
    at_limit = np.abs(plan.actions) == limit
    assert at_limit.any() and not at_limit.all()
    assert plan.predicted_return == pytest.approx(-best.fun, rel=1e-6)
    assert plan.gains is not None and plan.gains.shape == (HORIZON, actions, states)
    # The last action changes one step only; the others have no reason for a gain of exactly zero.
    np.testing.assert_array_equal((plan.gains == 0.0).all(axis=-1), at_limit)


def pendulum_problem() -> DoubleObjective:
    """A pendulum that is paid for standing: strongly curved dynamics."""

    def step(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        speed = state[..., 1] + 0.2 * (5.0 * torch.sin(state[..., 0]) + 4.0 * action[..., 0] * torch.cos(state[..., 0]))
        return torch.stack([state[..., 0] + 0.2 * speed, speed], dim=-1)

    def reward(state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        return -following.square().sum(dim=-1) - 0.1 * action.square().sum(dim=-1)

    return DoubleObjective(step, reward)


def test_ddp_converges_in_fewer_iterations_than_ilqr() -> None:
    counts = {}
    for kind in ("ilqr", "ddp"):
        settings = {"iterations": 100, "tolerance": 1e-13, "regularisation": 0.0}
        plan = planner_of(kind, spec_of(2, 1, 50.0), pendulum_problem(), **settings).plan(np.array([0.9, 0.0]))
        counts[kind] = (plan.iterations, plan.predicted_return)
    assert counts["ddp"][1] == pytest.approx(counts["ilqr"][1], rel=1e-9)
    assert counts["ddp"][0] < counts["ilqr"][0] < 100


def test_the_stationary_controller_is_that_of_the_riccati_equation() -> None:
    """The reward pays for the next state: Q = A'WA, S = B'WA, R = B'WB + action weight."""
    settings = {"infinite": True, "horizon": 30, "least_curvature": 1e-12}
    plan = planner_of("lqr", spec_of(2, 1, 100.0), double_integrator(), **settings).plan(np.array([1.0, 0.0]))
    weight = 2.0 * STATE_WEIGHT
    value = scipy.linalg.solve_discrete_are(
        DYNAMICS,
        CONTROL,
        DYNAMICS.T @ weight @ DYNAMICS,
        CONTROL.T @ weight @ CONTROL + 2.0 * 0.05,
        s=DYNAMICS.T @ weight @ CONTROL,
    )
    total = weight + value
    gain = -np.linalg.solve(CONTROL.T @ total @ CONTROL + 0.1, CONTROL.T @ total @ DYNAMICS)
    assert plan.gains is not None and plan.predicted_states is not None
    np.testing.assert_allclose(plan.gains, np.tile(gain, (30, 1, 1)), rtol=1e-4)
    np.testing.assert_allclose(plan.actions, plan.predicted_states[:-1] @ gain.T, atol=1e-4)


def test_no_stationary_controller_is_an_error_with_a_reason() -> None:
    def reward(state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        return -following.square().sum(dim=-1)

    objective = ExactObjective(lambda state, action: 2.0 * state, reward)
    with pytest.raises(PlanningError, match="'infinite': no stationary controller"):
        planner_of("lqr", spec_of(2, 1, 1.0), objective, infinite=True).plan(np.ones(2))


def test_an_objective_without_derivatives_is_refused() -> None:
    class Bare(Objective):
        def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(actions))

        def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
            return np.zeros((len(actions) + 1, 2)), np.zeros((len(actions) + 1, 2))

    with pytest.raises(PlanningError, match="Bare cannot be expanded"):
        planner_of("ilqr", spec_of(2, 1, 1.0), Bare()).plan(np.zeros(2))


@pytest.mark.parametrize("kind", KINDS)
def test_without_time_the_last_plan_goes_on_with_its_feedback(kind: str) -> None:
    planner = planner_of(kind, spec_of(2, 1, 3.0), double_integrator())
    first = planner.plan(np.array([1.0, 0.0]), step_key=(0, 0))
    second = planner.plan(np.array([0.9, 0.0]), deadline=0.0, step_key=(0, 2))
    assert second.iterations == 0 and np.isnan(second.predicted_return)
    for plan in (first, second):
        assert plan.gains is not None and plan.predicted_states is not None
    np.testing.assert_array_equal(second.gains[:-2], first.gains[2:])
    np.testing.assert_array_equal(second.predicted_states[:-2], first.predicted_states[2:])
    np.testing.assert_array_equal(second.gains[-2:], 0.0)


@pytest.mark.parametrize("kind", ["ilqr", "ddp"])
def test_a_long_rest_at_the_optimum_does_not_make_a_planner_slow(kind: str) -> None:
    planner, start = planner_of(kind, spec_of(2, 1, 3.0), double_integrator()), np.array([1.0, 0.0])
    fresh = planner.plan(start).predicted_return
    for step in range(60):
        planner.plan(np.zeros(2), step_key=(1, step))
    assert planner.plan(start, step_key=(1, 60)).predicted_return == pytest.approx(fresh, rel=1e-4)


def test_derivatives_that_are_not_finite_leave_the_best_start() -> None:
    def reward(state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        return -torch.sqrt(following[..., 0].square())  # the slope at zero is 0 / 0

    plan = planner_of("ilqr", spec_of(2, 1, 1.0), ExactObjective(lambda state, action: state, reward)).plan(np.zeros(2))
    assert np.isfinite(plan.actions).all() and plan.predicted_return == 0.0


@pytest.mark.parametrize("kind", ["ilqr", "ddp"])
def test_the_executor_closes_the_loop_between_plans(kind: str) -> None:
    """One plan for an upright pole on a cart, pushed at every step: its gains keep the pole up."""
    robot, task = robot_and_task("cartpole")
    settings = {"horizon": 45, "iterations": 5}
    plan = planner_of(kind, robot.spec, SimulatedObjective(robot, task), **settings).plan(
        np.array([0.0, np.pi, 0.0, 0.0])
    )
    assert plan.gains is not None
    angles = {}
    for name, gains in (("closed", plan.gains), ("open", np.zeros_like(plan.gains))):
        executor = PlanExecutor(robot.spec, ("planner",))
        executor.begin_episode(1)
        simulation, random = MujocoSimulation(robot), np.random.default_rng(0)
        # The estimated angle is half a turn the other way: differences are wrapped.
        state, worst = simulation.reset(np.array([0.0, -np.pi + 0.05, 0.0, 0.0])), 0.0
        sent = type(plan)(plan.actions, plan.predicted_states, gains=gains)
        for step in range(20):
            # Answers of the same plan to later steps, so that its rows are not too old.
            executor.accept(
                AddressedPlan(cut_plan(sent, step, len(sent.actions)), "planner", 1, step, step), step, step
            )
            row = executor.choose(step, state)
            assert row is not None
            state = simulation.step(np.clip(row.action + random.normal(0.0, 0.1, 1), -3.0, 3.0))
            worst = max(worst, abs(state[1] + np.pi))
        angles[name] = worst
    assert angles["closed"] < 0.1 < 0.5 < angles["open"]


@pytest.mark.parametrize("kind", KINDS)
def test_planning_through_an_ensemble(kind: str, fitted: Callable[[], ModelObjective]) -> None:
    objective = fitted()
    spec = objective.model.spec
    planner = make_planner({"kind": kind, "horizon": 10, "iterations": 3}, spec, objective, 0)
    start = np.array([0.1, np.pi - 0.05, 0.0, 0.0])
    plan = planner.plan(start)
    rested = objective.trajectory_problem(spec).open_loop(start, np.zeros((1, 10, 1)))[0]
    # Without a line search LQR keeps the trajectory that it started from where its own is worse.
    assert plan.predicted_return >= rested.total if kind == "lqr" else plan.predicted_return > rested.total + 0.1
    with torch.inference_mode():
        mean = ModelObjective(objective.model, objective.task, 3, "mean")
        returned = float(mean(start, torch.as_tensor(plan.actions, dtype=torch.float32)[None])[0])
        states, _ = mean.predict(start, plan.actions)
    assert plan.predicted_return == pytest.approx(returned, abs=1e-4)
    np.testing.assert_allclose(plan.predicted_states, states, atol=1e-4)


@pytest.fixture
def fitted() -> Callable[[], ModelObjective]:
    def make() -> ModelObjective:
        robot, _ = robot_and_task("cartpole")
        model = make_model("ensemble", {**SMALL["ensemble"], "first_steps": 60}, robot.spec, 0)
        model.fit(transitions_of(robot, 300), 0)
        return ModelObjective(model, make_task("cartpole_tip"), 3, "tsinf")

    return make
