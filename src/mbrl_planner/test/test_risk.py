# SPDX-License-Identifier: Apache-2.0
"""Risk: spreads and collision probabilities against closed forms, and which candidates they prefer."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from analytic import spec_of
from simulated import CONFIG
from torch import Tensor

from mbrl_core.config import ConfigurationError, from_mapping, load_preset, parameter
from mbrl_core.obstacles import ChainPoint
from mbrl_core.tasks import Task
from mbrl_dynamics.model import DynamicsModel, GaussianPrediction
from mbrl_planner.objective import ModelObjective
from mbrl_planner.planner import PlannerConfig
from mbrl_planner.registry import PLANNERS, make_planner
from mbrl_planner.risk import Risk, RiskConfig, check_risk, collision_probability, spread

SPEC = spec_of(2, 2, 1.0)
START = np.zeros(2)
MEMBERS, SHARE = 4, 2000


class Mover(Task):
    """Reward: the first coordinate of where a point in the plane gets to."""

    kind = "mover"
    state_size, action_size, workspace_size = 2, 2, 2

    def reward(self, state: Any, action: Any, next_state: Any) -> Any:
        return next_state[..., 0]

    def chain(self, state: Any) -> list[ChainPoint]:
        # The point moves with 2 m/s; a link of no length.
        point = ChainPoint((state[..., 0], state[..., 1]), (2.0, 0.0))
        return [point, point]


@dataclasses.dataclass(frozen=True)
class NoConfig:
    unused: int = parameter(0, "nothing")


class HandMade(DynamicsModel):
    """Members move by the action plus an offset of their own, with noise; both grow with the second action."""

    kind = "hand_made"

    def __init__(self, offsets: list[list[float]], noise: float, by_action: bool = False) -> None:
        super().__init__(NoConfig(), SPEC, len(offsets))
        self.offsets = torch.tensor(offsets)[:, None]
        self.noise = noise
        self.by_action = by_action

    def predict(self, state: Tensor, action: Tensor) -> GaussianPrediction:
        scale = action[..., 1:].abs() if self.by_action else torch.ones_like(action[..., 1:])
        change = torch.cat([action[..., :1], torch.zeros_like(action[..., :1])], dim=-1)
        mean = state + change + scale * self.offsets
        return GaussianPrediction(mean, (self.noise * scale).square().expand_as(mean))

    def fit(self, *arguments: Any) -> Any:
        raise NotImplementedError

    def state_arrays(self) -> dict[str, np.ndarray]:
        return {}

    def load_arrays(self, arrays: Any) -> None:
        pass


def objective(model: DynamicsModel, task: Task | None = None, particles: int = 0, **risk: Any) -> ModelObjective:
    found = ModelObjective(
        model, task or Mover(), particles or MEMBERS * SHARE, "tsinf", RiskConfig(**{"collision_weight": 0.0, **risk})
    )
    found.start(1)
    return found


def penalty(actions: list[list[float]], model: DynamicsModel, task: Task | None = None, **risk: Any) -> float:
    """What one candidate's risk takes from its return."""
    sequence = torch.tensor([actions])
    with torch.inference_mode():
        free = objective(model, task)(START, sequence)
        return float(free - objective(model, task, **risk)(START, sequence))


def test_spread_of_members_with_known_means_and_variances() -> None:
    """The law of total variance, to sampling error; noise alone does not pass for ignorance."""
    means, deviations = torch.tensor([0.0, 1.0, 2.0, 5.0]), torch.tensor([0.5, 1.0, 2.0, 0.1])
    for share, tolerance in ((4000, 0.03), (2, 0.05)):
        rows = 2 if share > 2 else 20_000
        noise = torch.randn(rows, MEMBERS, share, generator=torch.Generator().manual_seed(0))
        values = (means[:, None] + deviations[:, None] * noise).flatten(1)
        found = spread(values, MEMBERS, 1)
        assert found.mean.mean() == pytest.approx(2.0, abs=tolerance)
        assert found.epistemic.square().mean().sqrt() == pytest.approx(math.sqrt(3.5), rel=tolerance)
        expected = float(deviations.square().mean().sqrt())
        assert found.aleatoric.square().mean().sqrt() == pytest.approx(expected, rel=tolerance)


def test_spread_without_noise_or_without_disagreement() -> None:
    agree = torch.tensor([[1.0, 3.0, 1.0, 3.0]], requires_grad=True)
    found = spread(agree, 2, 1)
    assert found.epistemic.item() == 0.0 and found.aleatoric.item() == pytest.approx(math.sqrt(2.0))
    certain = torch.tensor([[1.0, 1.0, 3.0, 3.0]], requires_grad=True)
    other = spread(certain, 2, -1)
    assert other.epistemic.item() == pytest.approx(1.0) and other.aleatoric.item() == 0.0
    for result, values in ((found, agree), (other, certain)):
        (gradient,) = torch.autograd.grad((result.epistemic + result.aleatoric).sum(), values)
        assert gradient.isfinite().all() and (gradient != 0.0).any()


def test_penalties_of_reward_spread() -> None:
    """One step: the reward is the first coordinate, whose spread is that of the hand-made members."""
    model = HandMade([[-3.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [3.0, 0.0]], noise=0.5)
    assert penalty([[0.2, 0.0]], model, epistemic_penalty=1.0) == pytest.approx(math.sqrt(5.0), rel=0.01)
    assert penalty([[0.2, 0.0]], model, aleatoric_penalty=1.0) == pytest.approx(0.5, rel=0.03)
    both = penalty([[0.2, 0.0]], model, epistemic_penalty=2.0, aleatoric_penalty=4.0)
    assert both == pytest.approx(2.0 * math.sqrt(5.0) + 2.0, rel=0.01)
    # A member's offset adds up over steps; noise adds up as a random walk.
    twice = [[0.2, 0.0]] * 2
    assert penalty(twice, model, epistemic_penalty=1.0) == pytest.approx(3.0 * math.sqrt(5.0), rel=0.01)
    assert penalty(twice, model, aleatoric_penalty=1.0) == pytest.approx(0.5 * (1.0 + math.sqrt(2.0)), rel=0.03)


@pytest.mark.parametrize(("mean", "deviation"), [(0.02, 0.0), (0.02, 0.03), (-0.01, 0.05), (0.3, 0.1)])
def test_collision_probability_of_gaussian_particles(mean: float, deviation: float) -> None:
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    found = collision_probability(mean + deviation * noise, 0.02).mean()
    argument = -mean / math.hypot(deviation, 0.02)
    assert found == pytest.approx(0.5 * (1.0 + math.erf(argument / math.sqrt(2.0))), abs=4e-3)


def test_collision_cost_is_speed_times_mean_and_deviation_across_members() -> None:
    """One of four members predicts that the point ends in the disc, for certain: p = (1, 0, 0, 0)."""
    task = Mover(obstacles=(1.0, 1.0, 0.5))
    model = HandMade([[1.0, 1.0], [9.0, 9.0], [-9.0, 9.0], [9.0, -9.0]], noise=0.0)
    settings = {"collision_weight": 3.0, "collision_least_speed": 0.0}
    still = [[0.0, 0.0]]
    assert penalty(still, model, task, **settings) == pytest.approx(3.0 * 2.0 * 0.25, rel=1e-4)
    deviation = math.sqrt(0.25 * 0.75)
    expected = 3.0 * 2.0 * (0.25 + 1.5 * deviation)
    assert penalty(still, model, task, **settings, collision_std_weight=1.5) == pytest.approx(expected, rel=1e-4)
    settings["collision_least_speed"] = 0.5
    assert penalty(still, model, task, **settings) == pytest.approx(3.0 * 2.5 * 0.25, rel=1e-4)


def test_noise_that_all_members_share_is_no_deviation_across_members() -> None:
    """Every member's particles are in the disc as often: their probabilities agree although particles do not."""
    task = Mover(obstacles=(1.0, 0.0, 1.0))
    model = HandMade([[0.0, 0.0]] * MEMBERS, noise=0.3)
    settings = {"collision_weight": 1.0, "collision_least_speed": 0.0}
    mean = penalty([[0.0, 0.0]], model, task, **settings)
    # The disc's edge is nearly straight at the start: half of the particles cross it.
    assert mean == pytest.approx(2.0 * 0.5, rel=0.15)
    risky = penalty([[0.0, 0.0]], model, task, **settings, collision_std_weight=10.0)
    assert (risky - mean) / 20.0 < 0.02


def test_penalties_rank_candidates() -> None:
    """The second action widens what members disagree about, the first one earns."""
    model = HandMade([[-1.0, 0.0], [-0.2, 0.0], [0.2, 0.0], [1.0, 0.0]], noise=0.1, by_action=True)
    certain, uncertain = [[0.5, 0.0]] * 3, [[0.6, 0.5]] * 3
    candidates = torch.tensor([certain, uncertain])
    with torch.inference_mode():
        free = objective(model)(START, candidates)
        careful = objective(model, epistemic_penalty=1.0)(START, candidates)
    assert free[1] > free[0] and careful[0] > careful[1]
    assert careful[0] == free[0]  # nothing is uncertain about it

    # Members disagree whether the way is free; on average both candidates are in the disc as much.
    task = Mover(obstacles=(0.0, 1.0, 0.4))
    split = HandMade([[0.0, 1.0], [0.0, -1.0], [0.0, 1.0], [0.0, -1.0]], noise=0.0, by_action=True)
    candidates = torch.tensor([[[0.0, 0.6]], [[0.1, 1.0]]])
    with torch.inference_mode():
        neutral = objective(split, task, collision_weight=1.0)(START, candidates)
        averse = objective(split, task, collision_weight=1.0, collision_std_weight=2.0)(START, candidates)
    # On the edge every second member says one half; in the middle every second member is sure.
    assert (neutral - averse)[1] == pytest.approx(2.0 * (neutral - averse)[0], rel=0.01)


def test_steps_after_the_end_cost_nothing() -> None:
    class Ending(Mover):
        def terminated(self, state: Any) -> Any:
            return state[..., 0] > 0.5

    model = HandMade([[0.0, 0.0]] * MEMBERS, noise=0.0)
    run = [[1.0, 0.0]] * 3
    settings = {"collision_weight": 1.0, "collision_least_speed": 0.0}
    disc = (2.5, 0.0, 1.2)  # reached by the second step
    assert penalty(run, model, Mover(obstacles=disc), **settings) == pytest.approx(4.0, rel=1e-4)
    assert penalty(run, model, Ending(obstacles=disc), **settings) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "risk",
    [
        {"epistemic_penalty": 1.0},
        {"aleatoric_penalty": 1.0},
        {"collision_weight": 2.0, "collision_width": 0.3},
        {"collision_weight": 2.0, "collision_width": 0.3, "collision_std_weight": 1.5},
    ],
)
def test_gradients_are_those_of_differences(risk: dict[str, float]) -> None:
    model = HandMade([[-1.0, 0.1], [-0.2, 0.2], [0.2, 0.3], [1.0, 0.4]], noise=0.2, by_action=True)
    found = objective(model, Mover(obstacles=(1.0, 0.5, 0.4)), particles=12, **risk)
    actions = 0.3 + 0.5 * torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(2))

    def returns(values: Tensor) -> Tensor:
        found.start(5)
        with torch.inference_mode():
            return found(START, values)

    found.start(5)
    returned, gradient = found.with_gradient(START, actions)
    torch.testing.assert_close(returned, returns(actions))
    for step, dimension in ((0, 0), (1, 1), (3, 0)):
        shift = torch.zeros_like(actions)
        shift[:, step, dimension] = 1e-2
        slope = (returns(actions + shift) - returns(actions - shift)) / 2e-2
        torch.testing.assert_close(gradient[:, step, dimension], slope, rtol=0.02, atol=0.02)


def test_reward_along_a_mean_trajectory_is_that_of_one_particle() -> None:
    task = Mover(obstacles=(1.0, 0.0, 0.5))
    config = RiskConfig(collision_weight=3.0, collision_width=0.05)
    model = HandMade([[0.0, 0.0]], noise=0.0)
    found = ModelObjective(model, task, 1, "mean", config)
    risk = Risk.of(config, task, "mean", 1, model)
    assert risk is not None
    actions = torch.tensor([[[0.4, 0.0], [0.4, 0.0], [0.4, 0.0]]])
    states = torch.cat([torch.zeros(1, 1, 2), actions.cumsum(dim=1)], dim=1)
    rewards = risk.reward_along_mean(states[:, :-1], actions, states[:, 1:])
    with torch.inference_mode():
        torch.testing.assert_close(rewards.sum(dim=-1), found(START, actions))
    assert float(rewards[0, 1]) < 0.0 < float(rewards[0, 0])
    (trajectory,) = found.trajectory_problem(SPEC).open_loop(START, actions.double().numpy())
    assert trajectory.total == pytest.approx(float(rewards.sum()), rel=1e-5)
    free = Risk(config, Mover(), 1).reward_along_mean(states[:, :-1], actions, states[:, 1:])
    torch.testing.assert_close(free, states[:, 1:, 0])


@pytest.mark.parametrize("kind", PLANNERS.names())
def test_off_is_the_same_bytes_and_every_kind_plans_with_it_on(kind: str) -> None:
    model = HandMade([[-0.1, 0.0], [0.1, 0.1]], noise=0.1)
    disc = (0.6, 0.0, 0.3)
    settings = {"horizon": 5, "iterations": 3, "particles": 4}
    values = load_preset(CONFIG / "planner" / f"{kind}.yaml", "planner") | settings

    def plan(task: Task, risk: RiskConfig | None) -> bytes:
        planner = make_planner(values, SPEC, ModelObjective(model, task, 4, "tsinf", risk), 3)
        return planner.plan(START).actions.tobytes()

    ignored = RiskConfig(collision_weight=0.0)
    everything = RiskConfig(1.0, 1.0, 10.0, 1.0)
    bare = plan(Mover(), None)
    assert plan(Mover(), PlannerConfig()) == bare
    assert plan(Mover(obstacles=disc), ignored) == bare
    # LQR's one expansion, about where the point is, does not reach as far as the disc.
    assert (plan(Mover(obstacles=disc), everything) != bare) == (kind != "lqr")


def test_nothing_is_computed_when_off() -> None:
    def of(task: Task, **values: float) -> Risk | None:
        return Risk.of(RiskConfig(**values), task, "tsinf", 4, HandMade([[0.0, 0.0]] * 2, noise=0.1))

    assert of(Mover()) is None and of(Mover(), collision_std_weight=1.0) is None
    assert of(Mover(obstacles=(0.0, 0.0, 1.0)), collision_weight=0.0) is None
    assert of(Mover(obstacles=(0.0, 0.0, 1.0))) is not None and of(Mover(), epistemic_penalty=1.0) is not None


def refused(match: str, call: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError, match=match):
        call()


class Certain(HandMade):
    deterministic = True


def test_members_without_noise_need_one_particle_each() -> None:
    offsets = [[-1.0, 0.0], [1.0, 0.0]]
    sequence = torch.tensor([[[0.2, 0.0]]])
    with torch.inference_mode():
        found = objective(Certain(offsets, noise=0.0), particles=2, epistemic_penalty=3.0, aleatoric_penalty=9.0)
        assert float(found(START, sequence)) == pytest.approx(0.2 - 3.0)


def test_what_cannot_be_told_apart_is_refused() -> None:
    five = HandMade([[0.0, 0.0]] * 5, noise=0.1)
    for name in ("epistemic_penalty", "aleatoric_penalty", "collision_std_weight"):
        config = RiskConfig(**{name: 1.0})
        check_risk(config, "tsinf", 10, five)
        check_risk(config, "tsinf", 5)
        check_risk(config, "tsinf", 1, Certain([[0.0, 0.0]], noise=0.0))
        refused(
            rf"'planner.particles': got 5, expected at least 10 .* when 'planner.{name}' is above 0",
            lambda config=config: check_risk(config, "tsinf", 5, five),  # type: ignore[misc]
        )
        for propagation in ("ts1", "mean"):
            refused(
                rf"'planner.propagation': got '{propagation}', expected tsinf when 'planner.{name}'",
                lambda config=config, propagation=propagation: check_risk(config, propagation, 10),  # type: ignore
            )
    # The mean alone goes with every propagation and any number of particles.
    for propagation in ("ts1", "tsinf", "mean"):
        check_risk(RiskConfig(), propagation, 5, five)
    for name in ("epistemic_penalty", "collision_weight", "collision_std_weight", "collision_least_speed"):
        refused(f"parameter '{name}': got -1.0", lambda name=name: from_mapping(RiskConfig, {name: -1.0}))  # type: ignore


def test_any_propagation_serves_the_mean_alone() -> None:
    model = HandMade([[0.0, 0.0]] * MEMBERS, noise=0.0)
    task = Mover(obstacles=(1.0, 0.0, 0.5))
    for propagation in ("ts1", "tsinf", "mean"):
        config = RiskConfig(collision_weight=3.0, collision_least_speed=0.0)
        found = ModelObjective(model, task, MEMBERS, propagation, config)
        with torch.inference_mode():
            assert float(found(START, torch.tensor([[[1.0, 0.0]]]))) == pytest.approx(1.0 - 3.0 * 2.0, rel=1e-4)
