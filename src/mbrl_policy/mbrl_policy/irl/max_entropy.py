# SPDX-License-Identifier: Apache-2.0
"""Maximum entropy inverse reinforcement learning on tabular problems: linear rewards, and networks of features."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_policy.irl.tabular import TabularProblem, soft_solution, visitation


@dataclass(frozen=True)
class MaxEntropyConfig:
    """Parameters of the linear variant."""

    tolerance: float = parameter(1e-4, "largest feature expectation that may be left unmatched", minimum=1e-12)
    iterations: int = parameter(2000, "of L-BFGS at most", minimum=1, maximum=1_000_000)


@dataclass(frozen=True)
class DeepConfig:
    """Parameters of the deep variant."""

    hidden: tuple[int, ...] = parameter((32, 32), "units of each hidden layer of the reward network", minimum=1)
    iterations: int = parameter(400, "gradient steps of Adam", minimum=1, maximum=1_000_000)
    learning_rate: float = parameter(0.01, "of Adam at first; falls to zero as a cosine", minimum=1e-7, maximum=1.0)
    weight_decay: float = parameter(1e-4, "pull of every weight towards zero, as AdamW has it", minimum=0.0)


@dataclass(frozen=True)
class TabularReward:
    """What was inferred.

    Attributes:
        reward: [S].
        weights: [F] of the features, None where the reward is not linear in them.
        mismatch: largest difference of a feature expectation, the expert's less that of the soft policy; of an
            expected number of visits to a state where the reward is not linear.
        iterations: gradient evaluations.
    """

    reward: Array
    weights: Array | None
    mismatch: float
    iterations: int


def feature_expectations(problem: TabularProblem, policy: Array, features: Array) -> Array:
    """E sum_t phi(s_t) [F], exactly, of a policy [T, S, A] and features [S, F]. Raises ValueError."""
    check_features(problem, features)
    return np.asarray(visitation(problem, policy).sum(axis=0) @ features)


def check_features(problem: TabularProblem, features: Array) -> None:
    """Raises ValueError when features are not [S, F] finite numbers."""
    if features.ndim != 2 or len(features) != problem.states or not np.isfinite(features).all():
        raise ValueError(f"features: got shape {features.shape}, expected finite numbers [{problem.states}, F]")


def max_entropy(
    problem: TabularProblem, features: Array, expert: Array, config: MaxEntropyConfig | None = None
) -> TabularReward:
    """Weights theta of r = features theta that make the expert's behaviour most likely (Ziebart et al. 2008).

    `features` [S, F], `expert` [F]: the expert's exact feature expectations. The log likelihood theta' expert - E V_0
    is concave and its gradient is expert - E_pi sum_t phi(s_t); L-BFGS with a line search climbs it until no
    expectation is off by more than the tolerance. An expert that never errs is met in the limit of large weights only.
    Raises ValueError on shapes that do not fit and expectations that are not finite.
    """
    check_features(problem, features)
    if expert.shape != features.shape[1:] or not np.isfinite(expert).all():
        raise ValueError(f"expert's expectations: got shape {expert.shape}, expected finite [{features.shape[1]}]")
    config = config or MaxEntropyConfig()
    theta = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    found, evaluations = (math.inf, np.zeros(len(expert))), 0

    def closure() -> Tensor:
        nonlocal found, evaluations
        evaluations += 1
        weights = theta.detach().numpy().copy()
        solution = soft_solution(problem, features @ weights)
        gradient = expert - feature_expectations(problem, solution.policy, features)
        found = min(found, (float(np.abs(gradient).max()), weights), key=lambda item: item[0])
        theta.grad = torch.from_numpy(-gradient)
        return torch.tensor(solution.start_value(problem) - float(weights @ expert), dtype=torch.float64)

    while evaluations < config.iterations and found[0] > config.tolerance:
        # A fresh curvature estimate now and then: far out, where weights grow without end, an old one misleads.
        before = found[0]
        optimiser = torch.optim.LBFGS(
            [theta], max_iter=min(200, config.iterations - evaluations), tolerance_grad=0.5 * config.tolerance,
            tolerance_change=0.0, history_size=30, line_search_fn="strong_wolfe",
        )  # fmt: skip
        optimiser.step(closure)
        if found[0] >= before:
            break
    return TabularReward(features @ found[1], found[1], found[0], evaluations)


def deep_max_entropy(
    problem: TabularProblem,
    features: Array,
    expert: Array,
    config: DeepConfig | None = None,
    seed: int = 0,
    watch: Callable[[int, Array], None] = lambda iteration, reward: None,
) -> tuple[TabularReward, Callable[[Array], Array]]:
    """A network r = f(phi(s)) instead of weights (Wulfmeier, Ondruska and Posner 2015, "Maximum entropy deep inverse
    reinforcement learning").

    `features` [S, F], `expert` [S]: expected number of the expert's visits to each state, exactly. The gradient by
    the reward of each state is expert - sum_t D_t, its difference to the soft policy's visits, and goes on through the
    network. Returns what was inferred, and the reward [S'] of any features [S', F], for other worlds. `watch` sees
    each iteration's reward. Raises ValueError on shapes that do not fit.
    """
    check_features(problem, features)
    if expert.shape != (problem.states,) or not np.isfinite(expert).all():
        raise ValueError(f"expert's visits: got shape {expert.shape}, expected {problem.states} finite numbers")
    config = config or DeepConfig()
    centre, width = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    network = _network(features.shape[1], config.hidden, seed)
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.iterations)

    def inputs(values: Array) -> Tensor:
        return torch.from_numpy((values - centre) / width)

    def reward_of(values: Array) -> Array:
        with torch.no_grad():
            return np.asarray(network(inputs(values))[:, 0].numpy())

    for iteration in range(config.iterations):
        reward = network(inputs(features))[:, 0]
        told = reward.detach().numpy().copy()
        watch(iteration, told)
        visits = visitation(problem, soft_solution(problem, told).policy).sum(axis=0)
        optimiser.zero_grad()
        reward.backward(torch.from_numpy(visits - expert))
        optimiser.step()
        schedule.step()
    final = reward_of(features)
    visits = visitation(problem, soft_solution(problem, final).policy).sum(axis=0)
    return TabularReward(final, None, float(np.abs(expert - visits).max()), config.iterations), reward_of


def _network(inputs: int, hidden: tuple[int, ...], seed: int) -> torch.nn.Sequential:
    """In double precision, with weights drawn from `seed` alone."""
    random = torch.Generator().manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for size in (*hidden, 1):
        layer = torch.nn.Linear(inputs, size, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(
                torch.randn(size, inputs, generator=random, dtype=torch.float64) * math.sqrt(2.0 / inputs)
            )
            layer.bias.zero_()
        layers += [layer, torch.nn.ReLU()]
        inputs = size
    return torch.nn.Sequential(*layers[:-1])
