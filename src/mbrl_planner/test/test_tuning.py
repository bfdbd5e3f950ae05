# SPDX-License-Identifier: Apache-2.0
"""What `./mbrl tune planner` chooses, for durations that are known."""

import dataclasses

import pytest
from simulated import CONFIG

from mbrl_core.config import load_preset
from mbrl_planner.planner import PlannerConfig
from mbrl_planner.registry import PLANNERS
from mbrl_planner.tuning import DoesNotFit, same_kind, tune

MEMBERS = 5


def preset(kind: str) -> PlannerConfig:
    return same_kind(load_preset(CONFIG / "planner" / f"{kind}.yaml", "planner"))[1]


def seconds(config: PlannerConfig) -> float:
    """Of a machine that does a candidate's particle in 10 us."""
    return config.iterations * (1e-3 + 1e-5 * config.population_size * config.particles)


def changed(config: PlannerConfig, other: PlannerConfig) -> set[str]:
    return {field.name for field in dataclasses.fields(config)
            if getattr(config, field.name) != getattr(other, field.name)}  # fmt: skip


@pytest.mark.parametrize("kind", PLANNERS.names())
@pytest.mark.parametrize("budget", [0.003, 0.01, 0.03, 0.1, 1.0])
def test_what_is_chosen_fits_and_uses_the_time(kind: str, budget: float) -> None:
    before = preset(kind)
    tuned = tune(before, MEMBERS, budget, seconds)
    assert seconds(tuned.config) == tuned.seconds <= budget
    assert changed(before, tuned.config) <= {"iterations", "population_size", "elites", "particles"}
    assert tuned.config.particles % MEMBERS == 0
    # Whoever follows the mean has one particle, whatever is configured.
    particles = tuned.config.particles if before.propagation == "mean" else 4 * MEMBERS
    # And a population that hardly takes time stays as it is.
    doubled = dataclasses.replace(before, population_size=2 * before.population_size, particles=MEMBERS)
    counts = seconds(doubled) > 1.15 * seconds(dataclasses.replace(before, particles=MEMBERS))
    whole = (2 * before.iterations, (4 if counts else 1) * before.population_size, particles)
    if (tuned.config.iterations, tuned.config.population_size, tuned.config.particles) != whole:
        # The next larger one of something would not have fitted.
        assert tuned.seconds > 0.55 * budget


def test_order_of_what_is_given_first() -> None:
    before = preset("icem")  # 3 iterations of 60 candidates with 5 particles
    small, middle, large, largest = (
        tune(before, MEMBERS, budget, seconds).config for budget in (0.007, 0.02, 0.06, 1.0)
    )
    assert (small.iterations, small.population_size, small.elites) == (2, 30, 5)
    assert middle.iterations == 3 and 105 <= middle.population_size <= 114 and middle.elites == 10
    assert (large.iterations, large.population_size, large.particles) == (4, 240, 5)
    assert (largest.iterations, largest.population_size, largest.particles) == (6, 240, 20)


def test_what_does_not_matter_stays() -> None:
    before = preset("icem")
    tuned = tune(before, MEMBERS, 0.05, lambda config: 0.01 * config.iterations)
    assert tuned.config.population_size == before.population_size and tuned.config.iterations == 5


def test_what_cannot_fit_is_an_error() -> None:
    with pytest.raises(DoesNotFit, match=r"a plan of 1 iterations of .* ms, expected at most 1.0 ms"):
        tune(preset("cem"), MEMBERS, 0.001, seconds)
