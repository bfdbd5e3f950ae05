# SPDX-License-Identifier: Apache-2.0
"""Finds, on this machine, the largest plans that fit a time: iterations, population and particles of a planner."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_core.config import ConfigurationError
from mbrl_core.dataset import Transitions
from mbrl_core.random_streams import generator
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import Task
from mbrl_dynamics.model import DynamicsModel
from mbrl_dynamics.registry import make_model
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import PlannerConfig
from mbrl_planner.registry import PLANNERS, build_planner, configure_planner

LEAST_ITERATIONS = 3  # where the preset has as many
LARGEST_POPULATION = 4  # times that of the preset
LEAST_POPULATION = 0.5  # times that of the preset, for which iterations are given up
PARTICLES_PER_MEMBER = 4  # at most
QUANTILE = 0.9  # of the durations of plans that has to fit

Seconds = Callable[[PlannerConfig], float]


@dataclass(frozen=True)
class Tuned:
    """A configuration that fits, and the seconds that a plan takes with it (the QUANTILE of those measured)."""

    config: PlannerConfig
    seconds: float


class DoesNotFit(ValueError):
    """Not even the smallest plan fits. The text says by how much."""


def tune(preset: PlannerConfig, members: int, budget: float, seconds: Seconds) -> Tuned:
    """The configuration like `preset` of which a plan takes at most `budget` seconds and that earns most.

    `members` of the model: particles are a multiple of it. `seconds(config)` measures. What earns most is decided by an
    order that benchmarks of the planners suggest: first LEAST_ITERATIONS iterations, since one large batch is worth
    less than the same candidates in three; then the population, up to LARGEST_POPULATION times that of the preset,
    where return has levelled off; then more iterations, up to twice the preset's; then particles, which average
    out noise that candidates share anyway. Whatever a kind's time does not depend on stays as in the preset.

    Raises DoesNotFit.
    """
    # Spread within a member takes two of its particles.
    fewest = 2 * members if preset.separates_members else members
    few = fewest if preset.particles >= fewest else preset.particles
    least = min(LEAST_ITERATIONS, preset.iterations)
    config = _resized(preset, preset.population_size, iterations=least, particles=few)
    lowest = max(2, round(LEAST_POPULATION * preset.population_size))
    fits = _measured(budget, seconds)
    population_counts = seconds(_resized(config, 2 * preset.population_size)) > 1.15 * seconds(config)
    if population_counts:
        highest = LARGEST_POPULATION * preset.population_size
        best = _largest(lowest, highest, lambda size: fits(_resized(config, size)))
        if best is None:
            best, least = _smaller(config, lowest, fits)
        config = _resized(config, best, iterations=least)
    if not fits(config):
        raise DoesNotFit(
            f"a plan of {config.iterations} iterations of {config.population_size} candidates takes"
            f" {1e3 * seconds(config):.1f} ms, expected at most {1e3 * budget:.1f} ms: a shorter horizon, a smaller"
            " model or a longer control period would help"
        )
    most = max(2 * preset.iterations, least)
    if not population_counts or config.population_size == LARGEST_POPULATION * preset.population_size:
        config = _resized(config, config.population_size,
                          iterations=_largest(least, most, lambda n: fits(_resized(config, config.population_size,
                                                                                  iterations=n))) or least)  # fmt: skip
    if preset.propagation != "mean" and config.iterations == most:
        share = _largest(1, PARTICLES_PER_MEMBER, lambda n: fits(_with_particles(config, n * few))) or 1
        config = _with_particles(config, share * few)
    return Tuned(config, seconds(config))


def _measured(budget: float, seconds: Seconds) -> Callable[[PlannerConfig], bool]:
    known: dict[PlannerConfig, bool] = {}

    def fits(config: PlannerConfig) -> bool:
        if config not in known:
            known[config] = seconds(config) <= budget
        return known[config]

    return fits


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int | None:
    """Largest number from `low` to `high` that fits, within a twentieth of it; None when `low` does not."""
    if not fits(low):
        return None
    if fits(high):
        return high
    while high - low > max(1, low // 20):
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _smaller(config: PlannerConfig, lowest: int, fits: Callable[[PlannerConfig], bool]) -> tuple[int, int]:
    """Population and iterations where not even `lowest` candidates fit `config.iterations` times."""
    for iterations in range(config.iterations - 1, 0, -1):
        if fits(_resized(config, lowest, iterations=iterations)):
            return lowest, iterations
    found = _largest(2, lowest, lambda size: fits(_resized(config, size, iterations=1)))
    return found or lowest, 1


def _resized(config: PlannerConfig, population: int, **changes: Any) -> PlannerConfig:
    """Another population, with elites that stay the same number or, in a smaller population, the same share."""
    elites = getattr(config, "elites", None)
    if elites is not None and population < config.population_size:
        changes["elites"] = max(1, elites * population // config.population_size)
    return dataclasses.replace(config, population_size=population, **changes)


def _with_particles(config: PlannerConfig, particles: int) -> PlannerConfig:
    return dataclasses.replace(config, particles=particles)


class Stopwatch:
    """Measures plans of a kind of planner with a model of the size that a learner would have."""

    def __init__(self, kind: str, spec: RobotSpec, task: Task, dynamics: Mapping[str, Any], plans: int = 12) -> None:
        self._kind = kind
        self._task = task
        self._plans = plans
        self.model = rehearsal_model(spec, dynamics)

    def __call__(self, config: PlannerConfig) -> float:
        """Seconds of a plan, the QUANTILE of `plans`, each warm-started from the one before."""
        objective = ModelObjective(
            self.model, self._task, config.particles, config.propagation, config, config.precision, config.device
        )
        planner = build_planner(self._kind, config, self.model.spec, objective, 0)
        state = np.zeros(self.model.spec.state.size)
        durations = []
        for step in range(self._plans + 2):
            begin = time.perf_counter()
            planner.plan(state, None, (1, step))
            durations.append(time.perf_counter() - begin)
        return float(np.quantile(durations[2:], QUANTILE))


def rehearsal_model(spec: RobotSpec, dynamics: Mapping[str, Any]) -> DynamicsModel:
    """A model of a `dynamics` preset that has seen a little: it takes as long as one that has seen much."""
    transitions = rehearsal_data(spec, 100)
    quick = {name: min(int(dynamics.get(name, 20)), 20) for name in ("first_steps", "refit_steps")}
    try:
        model = make_model(str(dynamics["kind"]), {**dynamics, **quick}, spec, 0)
    except ConfigurationError:
        model = make_model(str(dynamics["kind"]), dict(dynamics), spec, 0)
    model.fit(transitions, 0)
    return model


def rehearsal_data(spec: RobotSpec, count: int) -> Transitions:
    """Transitions of a robot that hardly moves."""
    random = generator(0, 0, 0, "rehearsal")
    state = random.normal(size=(count, spec.state.size))
    action = random.uniform(spec.action.lower, spec.action.upper, (count, spec.action.size))
    following = state + 0.01 * random.normal(size=state.shape)
    return Transitions(state, action, following, np.zeros(count, dtype=int), np.arange(count))


def same_kind(preset: Mapping[str, Any], *overrides: Mapping[str, Any]) -> tuple[str, PlannerConfig]:
    """Kind and configuration of a `planner` preset under the overrides that a robot's tuning brings.

    What of those is a parameter of other kinds alone is passed over, as planner_node does: a tuning file holds for all.
    """
    tuned = {name: value for override in overrides for name, value in override.items()}
    own = _parameters(PLANNERS.get(str({**preset, **tuned}.get("kind", ""))).configuration)
    foreign = set().union(*map(_parameters, PLANNERS.configurations())) - own
    return configure_planner({**preset, **{name: value for name, value in tuned.items() if name not in foreign}})


def _parameters(configuration: type) -> set[str]:
    return {item.name for item in dataclasses.fields(configuration)}
