# SPDX-License-Identifier: Apache-2.0
"""Trajectory optimisation: LQR against scipy's Riccati solutions, iLQR on linear-quadratic problems, and iLQR and DDP
against CEM on the cart-pole with known dynamics.

Full episodes of model predictive control, every planner through MuJoCo on one thread, from the same starts. A score is
the return on the scale from random actions (0) to the unhurried planner (1). CEM has about 22,000 model calls a plan,
beyond which it hardly improves.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
from _learning import lower_bound_of_interquartile_mean
from common import bar, report

from mbrl_core.random_streams import generator
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import ActionSpec, Array, RobotSpec, StateSpec
from mbrl_core.tasks import make_task
from mbrl_dynamics.registry import make_model
from mbrl_planner.expansion import TrajectoryProblem
from mbrl_planner.lqr import LinearDynamics, QuadraticPenalty, infinite_horizon
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import Objective
from mbrl_planner.registry import make_planner
from mbrl_robot.simulation import MujocoSimulation

ROBOT_FILE = Path(__file__).resolve().parent.parent / "config" / "robots" / "cartpole.yaml"
# Returns of 200 steps: of random actions, and of an unhurried iCEM through the true dynamics.
RANDOM_RETURN, UNHURRIED_RETURN = -4.0, 181.0
MARGIN = 0.02  # of the score, by which iLQR may be less than CEM
SIZES = ((1, 1), (2, 1), (4, 2), (7, 3), (12, 4))
HORIZON = 25
PLANNERS: Mapping[str, Mapping[str, Any]] = {
    "cem": {"horizon": HORIZON, "population_size": 220, "elites": 22, "iterations": 4, "particles": 1},
    "ilqr": {"horizon": HORIZON, "iterations": 1, "restarts": 0},
    "ddp": {"horizon": HORIZON, "iterations": 1, "restarts": 0},
}


class LinearQuadratic(Objective):
    """x' = A x + B u + c and a convex penalty 1/2 z'Wz + w'z of z = (state, action, next state), drawn from a seed."""

    def __init__(self, seed: int, states: int, actions: int) -> None:
        random = np.random.default_rng(seed)
        both = 2 * states + actions
        root = random.normal(size=(both, both))
        self.weight, self.linear = root @ root.T / both + 0.05 * np.eye(both), random.normal(size=both)
        matrix = random.normal(size=(states, states))
        # Not unstable: plans are executed in single precision here, without their feedback.
        self.matrix = matrix / max(1.0, float(np.abs(np.linalg.eigvals(matrix)).max()))
        self.control, self.offset = random.normal(size=(states, actions)), torch.from_numpy(random.normal(size=states))

    def step(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Next states [N, n]."""
        return state @ torch.from_numpy(self.matrix.T) + action @ torch.from_numpy(self.control.T) + self.offset

    def rollout(self, state: torch.Tensor, actions: torch.Tensor, keep_going: object = None) -> torch.Tensor:
        """States [N, H + 1, n]; nothing here is hurried."""
        states = [state.expand(len(actions), -1)]
        for index in range(actions.shape[1]):
            states.append(self.step(states[-1], actions[:, index]))
        return torch.stack(states, dim=1)

    def jacobians(self, state: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same in every row."""
        by_state, by_action = torch.from_numpy(self.matrix), torch.from_numpy(self.control)
        return by_state.expand(len(state), -1, -1), by_action.expand(len(state), -1, -1)

    def hessians(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """None of them: zero."""
        both = state.shape[1] + action.shape[1]
        return torch.zeros(len(state), state.shape[1], both, both, dtype=torch.float64)

    def reward(self, state: torch.Tensor, action: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """Minus the penalty, [...]."""
        joint = torch.cat([state, action, following], dim=-1)
        weight, linear = torch.from_numpy(self.weight), torch.from_numpy(self.linear)
        return -0.5 * ((joint @ weight) * joint).sum(dim=-1) - joint @ linear

    def trajectory_problem(self, spec: RobotSpec) -> TrajectoryProblem:
        """See Objective."""
        return TrajectoryProblem(self, self.reward, spec)

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        """Returns [N]; in double precision, other than for sampling planners."""
        states = self.rollout(torch.from_numpy(state), actions)
        return self.reward(states[:, :-1], actions, states[:, 1:]).sum(dim=-1)

    def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
        """See Objective."""
        states = self.rollout(torch.from_numpy(state), torch.from_numpy(actions)[None])[0].numpy()
        return states, np.zeros_like(states)

    def best_return(self, state: Array, horizon: int) -> float:
        """The optimum over all actions at once: the return is a quadratic function of them."""

        def total(flat: torch.Tensor) -> torch.Tensor:
            return self(state, flat.view(1, horizon, -1))[0]

        nothing = torch.zeros(horizon * self.control.shape[1], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(total(nothing), nothing)
        hessian = torch.autograd.functional.hessian(total, nothing.detach())
        return float(total(torch.linalg.solve(hessian, -gradient)))


def free_spec(states: int, actions: int) -> RobotSpec:
    """A robot without limits that matter."""
    return RobotSpec(
        name="linear",
        period=0.1,
        state=StateSpec(
            tuple(f"x{index}" for index in range(states)), ("linear",) * states, ("m",) * states,
            (-np.inf,) * states, (np.inf,) * states,
        ),
        action=ActionSpec(
            tuple(f"u{index}" for index in range(actions)), ("effort",) * actions, ("N",) * actions,
            (-1e6,) * actions, (1e6,) * actions, (1.0,) * actions, (np.inf,) * actions,
        ),
    )  # fmt: skip


def riccati_error(seed: int, states: int, actions: int) -> float:
    """Largest difference from scipy's solution of the algebraic Riccati equation, relative to its largest entry."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(states + actions, states + actions))
    joint = root @ root.T + 0.1 * np.eye(states + actions)
    dynamics = LinearDynamics(
        random.normal(size=(states, states)), random.normal(size=(states, actions)), random.normal(size=states)
    )
    penalty = QuadraticPenalty(
        joint[:states, :states], joint[states:, :states], joint[states:, states:], np.zeros(states), np.zeros(actions)
    )
    expected = scipy.linalg.solve_discrete_are(
        dynamics.matrix, dynamics.control, penalty.state, penalty.action, s=penalty.cross.T
    )
    return float(np.abs(infinite_horizon(dynamics, penalty).value - expected).max() / np.abs(expected).max())


def gap_after_one_iteration(seed: int, states: int, actions: int) -> float:
    """Return that one iteration of iLQR leaves on a linear-quadratic problem, relative to the optimum."""
    problem = LinearQuadratic(seed, states, actions)
    state = np.random.default_rng(seed + 1).normal(size=states)
    settings = {"kind": "ilqr", "horizon": HORIZON, "iterations": 1, "regularisation": 0.0}
    plan = make_planner(settings, free_spec(states, actions), problem, seed).plan(state)
    best = problem.best_return(state, HORIZON)
    reached = float(problem(state, torch.from_numpy(plan.actions)[None])[0])
    return (best - reached) / abs(best)


def episode(kind: str, seed: int) -> dict[str, Any]:
    """An episode on the cart-pole: return and seconds of planning."""
    torch.set_num_threads(1)
    robot = load_robot(ROBOT_FILE)
    model = make_model("mujoco", {"robot_file": str(ROBOT_FILE)}, robot.spec, seed)
    task = make_task("cartpole_tip")
    objective = ModelObjective(model, task, 1, "mean")
    planner = make_planner({"kind": kind, "propagation": "mean", **PLANNERS[kind]}, robot.spec, objective, seed)
    planner.warm_up(10.0)
    simulation = MujocoSimulation(robot)
    state, total, seconds, longest = simulation.reset(generator(seed, 0, 0, "start")), 0.0, 0.0, 0.0
    for step in range(robot.episode_steps):
        begin = time.perf_counter()
        action = planner.plan(state, step_key=(1, step)).actions[0]
        taken = time.perf_counter() - begin
        following = simulation.step(action)
        total += float(task.reward(state, action, following))
        state, seconds, longest = following, seconds + taken, max(longest, taken)
    return {
        "planner": kind,
        "seed": seed,
        "return": total,
        "score": (total - RANDOM_RETURN) / (UNHURRIED_RETURN - RANDOM_RETURN),
        "mean_plan_seconds": seconds / robot.episode_steps,
        "longest_plan_seconds": longest,
    }


def episodes_of_seed(seed: int) -> list[dict[str, Any]]:
    """All planners on one start, one after the other on the same core."""
    return [episode(kind, seed) for kind in PLANNERS]


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="episodes of each planner (default: 10)")
    parser.add_argument("--first-seed", type=int, default=0, help="first of them (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="episodes at a time (default: 2)")
    options = parser.parse_args()
    if options.seeds < 1 or options.workers < 1 or options.first_seed < 0:
        parser.error("--seeds and --workers: expected at least 1, --first-seed at least 0")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    problems = [(seed, *sizes) for seed in seeds for sizes in SIZES]
    lqr_error = max(riccati_error(*problem) for problem in problems)
    gap = max(gap_after_one_iteration(*problem) for problem in problems)
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.workers) as pool:
        for found in pool.map(episodes_of_seed, seeds):
            rows += found
            for row in found:
                line = "{planner:5} seed {seed}: return {return:6.1f}, {mean_plan_seconds:.4f} s a plan".format(**row)
                print(line, flush=True)

    def column(kind: str, name: str) -> Array:
        return np.array([row[name] for row in rows if row["planner"] == kind])

    for kind in PLANNERS:
        returned, taken = column(kind, "return").mean(), column(kind, "mean_plan_seconds").mean()
        share = taken / column("cem", "mean_plan_seconds").mean()
        print(f"{kind}: mean return {returned:.1f}, {1e3 * taken:.1f} ms a plan, {share:.3f} of CEM's time")
    difference = column("ilqr", "score") - column("cem", "score")
    time_share = column("ilqr", "mean_plan_seconds").sum() / column("cem", "mean_plan_seconds").sum()
    bars = [
        bar("lqr_error", lqr_error, at_most=1e-6),
        bar("ilqr_gap_after_one_iteration", gap, at_most=1e-6),
        bar("ilqr_minus_cem_score_lower_bound", lower_bound_of_interquartile_mean(difference), at_least=-MARGIN),
        bar("ilqr_share_of_cem_time", time_share, at_most=0.1),
    ]
    return report("trajectory", bars, rows)


if __name__ == "__main__":
    sys.exit(main())
