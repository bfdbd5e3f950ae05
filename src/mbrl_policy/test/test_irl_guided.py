# SPDX-License-Identifier: Apache-2.0
"""Guided cost learning on a point mass, where everything is known in closed form."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from mbrl_core.dataset import Transitions
from mbrl_core.demonstrations import Demonstration
from mbrl_core.specs import ActionSpec, RobotSpec, StateSpec
from mbrl_dynamics.model import DynamicsModel, FitReport, GaussianPrediction, KeepGoing
from mbrl_policy.irl.guided_config import GuidedCostConfig
from mbrl_policy.irl.guided_cost import GuidedCostLearning, energy_distance
from mbrl_policy.irl.importance import effective_share, flattened_weights
from mbrl_policy.irl.proposals import Guide, Noise, difference
from mbrl_policy.irl.reward_model import RewardConfig, RewardModel

INFINITE = (math.inf, math.inf)
SPEC = RobotSpec(
    name="mass", period=0.1,
    state=StateSpec(("x", "v"), ("linear", "linear"), ("m", "m/s"), (-math.inf, -math.inf), INFINITE),
    action=ActionSpec(("x",), ("effort",), ("N",), (-2.0,), (2.0,), (1.0,), (math.inf,)),
)  # fmt: skip
MATRIX = torch.tensor([[1.0, 0.1], [0.0, 1.0]]).double()
CONTROL = torch.tensor([[0.0], [0.1]]).double()
HORIZON = 12


class Mass(DynamicsModel):
    """x' = A x + B u, in double precision."""

    kind = "mass"
    learns = False
    deterministic = True
    precision = torch.float64

    def __init__(self) -> None:
        super().__init__(None, SPEC, members=1)

    def predict(self, state: Tensor, action: Tensor) -> GaussianPrediction:
        mean = (state @ MATRIX.mT + action @ CONTROL.mT)[None]
        return GaussianPrediction(mean, torch.zeros_like(mean))

    def fit(self, transitions: Transitions, seed: int, keep_going: KeepGoing | None = None) -> FitReport:
        return FitReport(math.nan, 0, len(transitions), 0.0)

    def state_arrays(self) -> dict[str, np.ndarray]:
        return {}

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        pass


def wanted(state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
    """Come to x = 0.2 and rest there."""
    offset = next_state - torch.tensor([0.2, 0.0], dtype=next_state.dtype)
    price = torch.tensor([60.0, 4.0], dtype=next_state.dtype)
    return -(price * offset.square()).sum(dim=-1) - 2.0 * action.square().sum(dim=-1)


def guide(limit_weight: float = 0.0) -> Guide:
    return Guide(Mass(), SPEC, Noise(1e-3, 10.0), limit_weight)


def starts(count: int = 3, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    first = spread * torch.randn(count, 1, 2, generator=random).double()
    return first.expand(-1, HORIZON + 1, -1).clone(), torch.zeros(count, HORIZON, 1).double()


def demonstrations(count: int = 6) -> list[Demonstration]:
    """Drawn from exp(return), as the expert of the model does."""
    best = guide().improved(wanted, *starts(count), iterations=2)
    states, actions = guide().sampled(best, 1, torch.Generator().manual_seed(5))
    return [Demonstration(states[index, 0].numpy(), actions[index, 0].numpy()) for index in range(count)]


def test_the_proposal_of_a_linear_quadratic_problem_is_the_target_itself() -> None:
    # Then R - log q is log Z for every trajectory: importance weights without any variance. Limits stay out of reach.
    best = guide().improved(wanted, *starts(), iterations=2)
    states, actions = guide().sampled(best, 20, torch.Generator().manual_seed(1))
    inside = (actions.abs() <= 2.0).all(dim=-1).all(dim=-1)
    returns = wanted(states[:, :, :-1], actions, states[:, :, 1:]).sum(dim=-1)
    partition = returns - best.log_densities(states, actions)
    for start in range(3):
        own = partition[start, inside[start]]
        assert len(own) > 3
        np.testing.assert_allclose(own, own[0].expand_as(own), atol=1e-3)


def test_densities_are_those_of_the_noise() -> None:
    best = guide().improved(wanted, *starts(), iterations=1)
    states = best.states[:, None]
    actions = best.actions[:, None] + 0.3
    expected = torch.distributions.Normal(0.0, best.roots[..., 0, 0]).log_prob(torch.tensor(0.3).double()).sum(dim=1)
    np.testing.assert_allclose(best.log_densities(states, actions)[:, 0], expected)


def test_the_trajectory_is_the_best_one() -> None:
    best = guide().improved(wanted, *starts(1), iterations=2)

    def total(change: Tensor) -> float:
        states, actions = guide().roll_out(
            best.states[:, :1], lambda _, step: best.actions[:, None, step] + change[step], HORIZON
        )
        return float(wanted(states[:, :, :-1], actions, states[:, :, 1:]).sum())

    at, random = total(torch.zeros(HORIZON).double()), torch.Generator().manual_seed(2)
    for _ in range(20):
        assert total(0.05 * torch.randn(HORIZON, generator=random).double()) < at


def test_actions_beyond_the_limits_cost_and_are_clipped() -> None:
    far, actions = starts(1)
    best = guide(limit_weight=50.0).improved(lambda *parts: 100.0 * wanted(*parts), far, actions, iterations=10)
    assert best.actions.abs().max() < 3.0
    pushed, _ = guide().roll_out(far[:, :1], lambda at, _: torch.full((1, 1, 1), 50.0).double(), HORIZON)
    held, _ = guide().roll_out(far[:, :1], lambda at, _: torch.full((1, 1, 1), 2.0).double(), HORIZON)
    assert torch.equal(pushed, held)


def test_differences_of_angles_go_the_shorter_way_round() -> None:
    ends = torch.tensor([3.1, 3.1]).double()
    error = difference(ends, -ends, torch.tensor([True, False]))
    assert error.tolist() == pytest.approx([6.2 - 2.0 * math.pi, 6.2], abs=1e-6)


def test_weights_are_flattened_no_more_than_needed() -> None:
    weights = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -1.0, -2.0, -3.0], [0.0, -900.0, -901.0, -math.inf]]).double()
    flat = flattened_weights(weights, 0.5)
    np.testing.assert_allclose(flat[0], 0.25)
    assert torch.equal(flat[1], torch.softmax(weights[1], dim=0)) == bool(effective_share(weights[1:2]) >= 0.5)
    assert float(effective_share(flat[2:].log())) == pytest.approx(0.5, abs=1e-6)
    assert flat[2, 3] == 0.0
    np.testing.assert_allclose(effective_share(torch.tensor([[0.0, -math.inf]]).double()), 0.5)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("hidden", [(4, 5), (4,), ()])
@pytest.mark.parametrize("head", ["squares", "linear"])
def test_the_mean_of_the_members_is_the_task_that_they_become(head: str, hidden: tuple[int, ...], members: int) -> None:
    random = np.random.default_rng(0)
    states, actions = random.normal(size=(10, 5, 2)), random.normal(size=(10, 5, 1))
    config = RewardConfig(members=members, head=head, hidden=hidden, action_input=head == "linear")
    model = RewardModel(config, SPEC, states.reshape(-1, 2), actions.reshape(-1, 1), seed=3)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.from_numpy(0.1 * random.normal(size=value.shape)))
    parts = [torch.from_numpy(values) for values in (states, actions, states + 0.1)]
    rewards = model.rewards(*parts).detach()
    assert rewards.shape == (members, 10, 5) and (members == 1 or rewards.std(dim=0).min() > 0.0)
    np.testing.assert_allclose(model.task().reward(*parts), rewards.mean(dim=0), rtol=1e-12)


def gain_of(objective: str, seed: int) -> float:
    """How much of what there is to gain, from no action to the best, planning with the learned reward gains."""
    # The discriminator has to reach the density of the samples, whatever its scale: decay would hold it back.
    settings = {"head": "linear", "weight_decay": 1e-3} if objective == "adversarial" else {}
    config = GuidedCostConfig(
        objective=objective,
        horizon=HORIZON,
        windows=1,
        hidden=(16,),
        least_noise=0.02,
        learning_rate=0.01,
        averaging=0.95,
        gradient_steps=30,
        memory=3,
        iterations=1000,
        **settings,  # type: ignore[arg-type]
    )
    learner = GuidedCostLearning(config, SPEC, Mass(), demonstrations(16), seed=seed)
    for _ in range(20):
        learner.iterate()
    best = guide(20.0).improved(learner.reward().reward, *starts(4), iterations=10)
    true = guide().improved(wanted, *starts(4), iterations=2)
    idle = guide().roll_out(starts(4)[0][:, :1], lambda at, _: torch.zeros(4, 1, 1).double(), HORIZON)
    returns = [
        float(wanted(states[:, :-1], actions, states[:, 1:]).sum())
        for states, actions in (
            (true.states, true.actions), (best.states, best.actions), (idle[0][:, 0], idle[1][:, 0])
        )
    ]  # fmt: skip
    return (returns[1] - returns[2]) / (returns[0] - returns[2])


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["guided_cost", "adversarial"])
def test_what_was_wanted_is_found_again(objective: str) -> None:
    # Without `weight_decay` networks learn sixteen demonstrations by heart, and half of what there is to gain is lost.
    assert min(gain_of(objective, seed) for seed in range(3)) > 0.9


def test_what_a_planner_finds_that_nobody_showed_loses_its_reward() -> None:
    shown = demonstrations()
    config = GuidedCostConfig(horizon=HORIZON, windows=1, hidden=(16,), gradient_steps=30, averaging=0.0)
    first = GuidedCostLearning(config, SPEC, Mass(), shown, seed=0).reward()
    # All noise, to either side: among so many there are some that the first reward likes better than what was shown.
    random = torch.Generator().manual_seed(3)
    begin = torch.tensor(np.stack([each.states[:1] for each in shown])).repeat(1, 200, 1)
    moves = torch.randn(len(shown), 200, HORIZON, 1, generator=random).double()
    states, actions = guide().roll_out(begin, lambda _, step: moves[:, :, step], HORIZON)
    best = int(first.reward(states[:, :, :-1], actions, states[:, :, 1:]).sum(dim=-1).flatten().argmax())
    strange = Demonstration(states.flatten(0, 1)[best].numpy(), actions.flatten(0, 1)[best].numpy())
    gaps = []
    for episodes in (0, 10):
        learner = GuidedCostLearning(config, SPEC, Mass(), shown, seed=0)
        for _ in range(episodes):
            learner.add_episode(strange, 0.0)
        learner.iterate()
        reward = learner.reward().reward
        own = reward(strange.states[:-1], strange.actions, strange.states[1:]).sum()
        gaps.append(np.mean([reward(each.states[:-1], each.actions, each.states[1:]).sum() for each in shown]) - own)
    assert gaps[1] > gaps[0]


def test_the_same_seed_gives_the_same_reward() -> None:
    config = GuidedCostConfig(horizon=HORIZON, windows=1, gradient_steps=3, rate_weight=0.1, monotone_weight=0.1)
    contents = []
    for seed in (1, 1, 2):
        learner = GuidedCostLearning(config, SPEC, Mass(), demonstrations(3), seed)
        learner.iterate()
        contents.append(learner.reward().content)
    assert contents[0] == contents[1] != contents[2]


def test_bad_demonstrations_are_refused() -> None:
    config = GuidedCostConfig(horizon=HORIZON + 1)
    with pytest.raises(ValueError, match="the longest of 2 has 12 steps, expected at least a window of 13"):
        GuidedCostLearning(config, SPEC, Mass(), demonstrations(2), 0)
    with pytest.raises(ValueError, match="got none"):
        GuidedCostLearning(config, SPEC, Mass(), [], 0)
    other = Demonstration(np.zeros((20, 3)), np.zeros((19, 1)))
    with pytest.raises(ValueError, match="3 state"):
        GuidedCostLearning(config, SPEC, Mass(), [other], 0)


def test_the_reward_of_the_nearest_episode_is_kept() -> None:
    shown = demonstrations(4)
    learner = GuidedCostLearning(GuidedCostConfig(horizon=HORIZON, windows=1, gradient_steps=2), SPEC, Mass(), shown, 0)
    assert learner.best_reward() == learner.reward()
    near = learner.add_episode(shown[0], 0.0)
    kept = learner.reward()
    learner.iterate()
    far = learner.add_episode(Demonstration(shown[0].states + 3.0, shown[0].actions), 0.0)
    assert near < far and [distance for distance, _ in learner.nearest] == [near, far]
    assert learner.best_reward() == kept != learner.reward()


def test_the_energy_distance_is_that_of_distributions() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(4000, 2)), random.normal(size=(400, 2))
    assert energy_distance(first, first) == pytest.approx(0.0, abs=1e-12)
    assert energy_distance(first, second) < 0.02 < 0.3 < energy_distance(first, second + 1.0)
    # Two points at a distance of three.
    assert energy_distance(np.zeros((1, 1)), np.full((1, 1), 3.0)) == pytest.approx(6.0)
