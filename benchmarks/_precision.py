# SPDX-License-Identifier: Apache-2.0
"""What plans lose when the model's products are rounded, judged in float32 with common noise, in two ways.

What the last iteration makes of the same candidates (CEM the mean of its elites, iCEM the best one); and a whole plan,
of which every iteration was rounded. The optimiser being chaotic, two whole plans differ by chance as well, to either
side and sometimes by a swing the other way round: that is reported with its interval, and no criterion.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _offline import LearningRun, preset

from mbrl_core.dataset import Transitions
from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import Task, make_task
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import Planner
from mbrl_planner.registry import make_planner

PETS_NETWORK = {"members": 5, "hidden_size": 200, "hidden_layers": 4}
# One step of PETS on its cart-pole: Chua et al. 2018, and mbrl-lib's preset pets_cartpole_paper_version.
PETS_PLANNER = {
    "kind": "cem",
    "horizon": 30,
    "iterations": 5,
    "population_size": 500,
    "elites": 50,
    "particles": 20,
    "initial_std": 0.5,
    "momentum": 0.1,
}
JUDGING_PARTICLES = 500


@dataclass(frozen=True)
class Learned:
    """What came of a run on the simulated cart-pole: models of both sizes, and the states it met, [n, state_size]."""

    spec: RobotSpec
    task: Task
    small: DynamicsModel
    large: DynamicsModel
    states: Array


def learn(seed: int, trials: int) -> Learned:
    """A random trial and `trials` learned ones of 200 steps with the default presets; then the paper's network too."""
    run, task = LearningRun("cartpole", seed, {}), make_task("cartpole_tip")
    done = [run.trial(task, 200) for _ in range(trials + 1)]
    parts = [
        Transitions(
            trial.state[:-1],
            trial.action,
            trial.state[1:],
            np.full(len(trial.action), index, dtype=np.int64),
            np.arange(len(trial.action)),
        )
        for index, trial in enumerate(done)
    ]
    data = Transitions(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))
    large = make_model("ensemble", PETS_NETWORK, run.robot.spec, seed)
    large.fit(data, seed)
    return Learned(run.robot.spec, task, run.learner.published, large, done[-1].state)


class Recording(ModelObjective):
    """Keeps the candidates of the newest plan and their returns, to be looked at in another precision."""

    def start(self, seed: int) -> None:
        super().start(seed)
        self.seed = seed
        self.calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        returns = super().__call__(state, actions)
        self.calls.append((actions.clone(), returns))
        return returns

    def choices(self, other: ModelObjective, state: Array, elites: int) -> dict[str, Array]:
        """Mean of the last iteration's `elites` best candidates, [H, action_size], as this and `other` see them."""
        other.start(self.seed)
        with torch.inference_mode():
            # All iterations, so that the last one meets the same noise.
            rounded = [other(state, actions) for actions, _ in self.calls][-1]
        actions, exact = self.calls[-1]
        best = {"float32": exact.topk(elites).indices, "bfloat16": rounded.topk(elites).indices}
        return {name: actions[indices].mean(dim=0).numpy() for name, indices in best.items()}


def pairs(
    learned: Learned, model: DynamicsModel, mapping: Mapping[str, Any], seed: int, steps: Iterable[int], warm: bool
) -> Iterator[dict[str, Any]]:
    """Plans in both precisions from states of the last trial, with the same random numbers; with `warm` each goes on
    from the plan that float32 made for the step before."""
    particles, propagation = mapping["particles"], mapping["propagation"]
    exact = Recording(model, learned.task, particles, propagation)
    rounded = ModelObjective(model, learned.task, particles, propagation, precision="bfloat16")
    planner = make_planner(mapping, learned.spec, exact, seed)
    for step in steps:
        if not warm:
            planner.reset()
        twin = _twin_of(planner)
        twin.objective = rounded
        plans = {
            precision: made.plan(learned.states[step], None, (1, int(step)))
            for precision, made in (("float32", planner), ("bfloat16", twin))
        }
        state, elites = learned.states[step], mapping["elites"] if planner.kind == "cem" else 1
        sequences = {f"return_{precision}": plan.actions for precision, plan in plans.items()}
        choices = exact.choices(rounded, state, elites)
        sequences |= {f"chosen_{precision}": actions for precision, actions in choices.items()}
        yield judged(learned, model, propagation, sequences, state, int(step))


def _twin_of(planner: Planner) -> Planner:
    """A copy of a planner with its warm start, less its objective."""
    objective, planner.objective = planner.objective, None  # type: ignore[assignment]
    twin = copy.deepcopy(planner)
    planner.objective = objective
    return twin


def paper_sized(learned: Learned, propagation: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Plans of the paper's size, from `count` states along the last trial."""
    steps = np.linspace(0, len(learned.states) - 2, count).astype(int)
    yield from pairs(learned, learned.large, {**PETS_PLANNER, "propagation": propagation}, seed, steps, warm=False)


def preset_sized(learned: Learned, seed: int) -> Iterator[dict[str, Any]]:
    """Plans of the default preset along the whole last trial."""
    mapping = preset("planner", "icem", "planner")
    yield from pairs(learned, learned.small, mapping, seed, range(len(learned.states) - 1), warm=True)


def judged(
    learned: Learned, model: DynamicsModel, propagation: str, sequences: Mapping[str, Array], state: Array, step: int
) -> dict[str, Any]:
    """Expected returns of action sequences from `state` in float32, all with the same noise."""
    objective = ModelObjective(model, learned.task, JUDGING_PARTICLES, propagation)
    objective.start(step)
    actions = torch.as_tensor(np.stack(list(sequences.values())), dtype=torch.float32)
    with torch.inference_mode():
        returns = objective(state, actions)
    return {"step": step, **dict(zip(sequences, returns.tolist(), strict=True))}


def percent_lost(rows: list[dict[str, Any]], column: str, resamples: int = 10_000) -> tuple[float, float, float]:
    """What bfloat16 loses of columns `return` or `chosen`, in percent of float32's mean; lower and upper 95 % bounds.

    The bounds are one-sided each, by bootstrap over plans.
    """
    full = np.array([row[f"{column}_float32"] for row in rows])
    lost = full - np.array([row[f"{column}_bfloat16"] for row in rows])
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(rows), (resamples, len(rows)))
    shares = 100.0 * lost[drawn].mean(axis=1) / np.abs(full[drawn].mean(axis=1))
    lower, upper = np.percentile(shares, (5.0, 95.0))
    return float(100.0 * lost.mean() / abs(full.mean())), float(lower), float(upper)
