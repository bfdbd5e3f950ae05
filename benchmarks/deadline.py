# SPDX-License-Identifier: Apache-2.0
"""How far planners overrun their deadlines: every registered kind, several deadlines, several population sizes.

The planners plan through a learned ensemble of the size of its preset, for the cart-pole, with more iterations than any
deadline leaves time for. Each plan is made as planner_node makes it, from the state of the next step, on one thread;
every FIRST_EVERY-th has no earlier plan to go on from. A deadline is kept when the plan, or the refusal where there is
no time for a single candidate and nothing to answer, comes at most 1 ms or 5 % of the budget after it, whichever is
more.
"""

import argparse
import gc
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import bar, report

from mbrl_core.config import load_preset
from mbrl_core.messages import StepType, TimeStep
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.tasks import task_of_preset
from mbrl_dynamics.learner import LearnerConfig, OnlineLearner
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import OutOfTime, Planner
from mbrl_planner.registry import PLANNERS, build_planner, configure_planner
from mbrl_robot.simulation import MujocoSimulation

ROOT = Path(__file__).resolve().parents[1]
FIRST_EVERY = 10
ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE = 0.001, 0.05  # seconds, share of the budget
NEVER_DONE = 1000  # iterations


def learned_model(robot: Robot, seed: int) -> tuple[DynamicsModel, np.ndarray]:
    """The ensemble of the preset, fitted to 200 random steps, and their states [200, state_size]."""
    dynamics = load_preset(ROOT / "config" / "dynamics" / "ensemble.yaml", "dynamics")
    learner = OnlineLearner(make_model("ensemble", dynamics, robot.spec, seed), LearnerConfig(), seed)
    simulation, random = MujocoSimulation(robot), np.random.default_rng(seed)
    state = simulation.reset(random)
    states = [state]
    learner.add(TimeStep(1, 0, StepType.FIRST, state, np.full(robot.spec.action.size, np.nan), action_valid=False))
    for step in range(1, 201):
        action = random.uniform(robot.spec.action.lower, robot.spec.action.upper)
        state = simulation.step(action)
        learner.add(TimeStep(1, step, StepType.MID, state, action))
        states.append(state)
    learner.fit()
    return learner.published, np.array(states[:-1])


def make_planner(kind: str, population: int, robot: Robot, model: DynamicsModel) -> Planner:
    """A planner of the preset with another population."""
    preset = load_preset(ROOT / "config" / "planner" / f"{kind}.yaml", "planner")
    if population:
        preset["population_size"] = population
    _, config = configure_planner({**preset, "iterations": NEVER_DONE})
    task = task_of_preset(load_preset(ROOT / "config" / "tasks" / f"{robot.task}.yaml", "task"))
    objective = ModelObjective(model, task, config.particles, config.propagation, config, config.precision)
    return build_planner(kind, config, robot.spec, objective, 0)


def measure(planner: Planner, states: np.ndarray, budget: float, plans: int) -> list[dict[str, Any]]:
    """Makes `plans` plans of `budget` seconds each; one row a plan."""
    rows = []
    planner.reset()
    for step in range(plans):
        first = step % FIRST_EVERY == 0
        if first:
            planner.reset()
        state = states[step % len(states)]
        begin = time.monotonic()
        try:
            iterations = planner.plan(state, begin + budget, (1, step)).iterations
            refused = 0
        except OutOfTime:
            iterations, refused = 0, 1
        taken = time.monotonic() - begin
        rows.append({"first": int(first), "taken_ms": 1e3 * taken, "iterations": iterations, "refused": refused})
    return rows


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=150, help="plans of each kind, population and deadline")
    parser.add_argument("--deadlines", type=float, nargs="+", default=[5.0, 10.0, 20.0, 50.0], help="milliseconds")
    parser.add_argument("--populations", type=int, nargs="+", default=[0, 200, 1000], help="0 is that of the preset")
    parser.add_argument("--kinds", nargs="+", default=PLANNERS.names(), help="planners (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the model's data and weights")
    options = parser.parse_args()
    torch.set_num_threads(1)
    robot = load_robot(ROOT / "config" / "robots" / "cartpole.yaml")
    model, states = learned_model(robot, options.seed)
    rows: list[dict[str, Any]] = []
    for kind in options.kinds:
        for population in options.populations:
            planner = make_planner(kind, population, robot, model)
            planner.warm_up()
            # As planner_node does: no full collection between a state and its plan.
            gc.collect()
            gc.freeze()
            gc.disable()
            for deadline in options.deadlines:
                cell = measure(planner, states, 1e-3 * deadline, options.plans)
                size = planner.config.population_size
                rows += [{"kind": kind, "population": size, "deadline_ms": deadline, **row} for row in cell]
                print_cell(kind, size, deadline, cell)
            gc.enable()
    bars = []
    for kind in options.kinds:
        overrun = [
            max(0.0, row["taken_ms"] - row["deadline_ms"])
            / max(1e3 * ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE * row["deadline_ms"])
            for row in rows
            if row["kind"] == kind
        ]
        bars.append(bar(f"p99_overrun_over_tolerance_{kind}", float(np.percentile(overrun, 99.0)), at_most=1.0))
    return report("deadline", bars, rows)


def print_cell(kind: str, population: int, deadline: float, rows: list[dict[str, Any]]) -> None:
    """One line for people."""
    taken = np.array([row["taken_ms"] for row in rows])
    iterations, refused = np.mean([row["iterations"] for row in rows]), sum(row["refused"] for row in rows)
    overrun = np.percentile(np.maximum(taken - deadline, 0.0), [50.0, 99.0, 100.0])
    print(
        f"{kind:16s} population {population:5d} deadline {deadline:4.0f} ms: taken p50 {np.median(taken):5.1f} ms,"
        f" overrun p50 {overrun[0]:5.2f} p99 {overrun[1]:5.2f} most {overrun[2]:5.2f} ms,"
        f" {iterations:5.1f} iterations, {refused} refused",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
