# SPDX-License-Identifier: Apache-2.0
"""Decision problems with finitely many states over a finite horizon, solved exactly: by softmax and by maximum.

    Q_t(s, a) = r(s) + E V_(t+1)(s'),   V_t = log sum_a exp Q_t,   pi_t = exp(Q_t - V_t),   V_T = 0

is the distribution over behaviours of largest causal entropy among those that earn as much (Ziebart et al. 2008,
"Maximum entropy inverse reinforcement learning"; Ziebart 2010, "Modeling purposeful adaptive behavior with the
principle of maximum causal entropy", chapter 5, for random transitions). An episode earns r(s_0) + ... + r(s_(T-1)).
"""

from dataclasses import dataclass

import numpy as np

from mbrl_core.specs import Array

TIES = 1e-9  # of a value, relative: actions within it are equally good


@dataclass(frozen=True)
class TabularProblem:
    """Transitions of a problem without its reward.

    Attributes:
        successors: [S, A, K], integers: the states that an action may lead to.
        probabilities: [S, A, K], of each; they sum to one.
        start: [S], distribution of the first state.
        horizon: T, states that an episode has.

    Raises ValueError on shapes that do not fit, successors that are no states and weights that are no distribution.
    """

    successors: np.ndarray
    probabilities: Array
    start: Array
    horizon: int

    def __post_init__(self) -> None:
        if self.start.ndim != 1 or self.successors.ndim != 3 or len(self.successors) != len(self.start):
            raise ValueError(
                f"problem: got successors {self.successors.shape} and start {self.start.shape}, expected [S, A, K], [S]"
            )
        if self.probabilities.shape != self.successors.shape:
            raise ValueError(
                f"problem's probabilities: got shape {self.probabilities.shape}, expected {self.successors.shape}"
            )
        states = len(self.start)
        if not np.issubdtype(self.successors.dtype, np.integer):
            raise ValueError(f"problem's successors: got {self.successors.dtype}, expected integers")
        if ((self.successors < 0) | (self.successors >= states)).any():
            raise ValueError(f"problem's successors: expected states 0 to {states - 1}")
        for name, values in (("probabilities", self.probabilities), ("start", self.start)):
            if not ((values >= 0.0).all() and np.allclose(values.sum(axis=-1), 1.0, atol=1e-9)):
                raise ValueError(f"problem's {name}: expected distributions, numbers of at least 0 that sum to one")
        if self.horizon < 1:
            raise ValueError(f"problem's horizon: got {self.horizon}, expected at least 1")

    @property
    def states(self) -> int:
        """S."""
        return len(self.start)

    @property
    def actions(self) -> int:
        """A."""
        return int(self.successors.shape[1])

    def expected(self, value: Array) -> Array:
        """E value(s') [S, A] of value [S]."""
        return np.asarray((self.probabilities * value[self.successors]).sum(axis=-1))

    def check_reward(self, reward: Array) -> None:
        """Raises ValueError when `reward` is not [S] finite numbers."""
        if reward.shape != (self.states,) or not np.isfinite(reward).all():
            raise ValueError(f"reward: got shape {reward.shape}, expected {self.states} finite numbers, one a state")


@dataclass(frozen=True)
class Solution:
    """A policy [T, S, A] and the values V [T + 1, S] by which it was found: soft ones, or expected returns."""

    policy: Array
    value: Array

    def start_value(self, problem: TabularProblem) -> float:
        """E V_0. Of a soft solution, the log of the partition function."""
        return float(problem.start @ self.value[0])


def soft_solution(problem: TabularProblem, reward: Array) -> Solution:
    """The policy of maximum causal entropy for a reward [S]: the module's recursion. Raises ValueError."""
    problem.check_reward(reward)
    policy, value = _empty(problem)
    for step in reversed(range(problem.horizon)):
        quality = reward[:, None] + problem.expected(value[step + 1])
        most = quality.max(axis=1)
        value[step] = most + np.log(np.exp(quality - most[:, None]).sum(axis=1))
        policy[step] = np.exp(quality - value[step][:, None])
    return Solution(policy, value)


def optimal_solution(problem: TabularProblem, reward: Array) -> Solution:
    """The policy of largest expected return; equally good actions are equally likely. Raises ValueError."""
    problem.check_reward(reward)
    policy, value = _empty(problem)
    for step in reversed(range(problem.horizon)):
        quality = reward[:, None] + problem.expected(value[step + 1])
        value[step] = quality.max(axis=1)
        best = quality >= value[step][:, None] - TIES * max(1.0, float(np.abs(quality).max()))
        policy[step] = best / best.sum(axis=1, keepdims=True)
    return Solution(policy, value)


def uniform_policy(problem: TabularProblem) -> Array:
    """[T, S, A]: every action as likely as the others."""
    return np.full((problem.horizon, problem.states, problem.actions), 1.0 / problem.actions)


def visitation(problem: TabularProblem, policy: Array) -> Array:
    """[T, S], probability of being in a state at a step, exactly: the forward recursion

        D_0 = start,   D_(t+1)(s') = sum_(s, a) D_t(s) pi_t(a | s) P(s' | s, a)

    Each row sums to one. Raises ValueError on a policy of another shape.
    """
    expected = (problem.horizon, problem.states, problem.actions)
    if policy.shape != expected:
        raise ValueError(f"policy: got shape {policy.shape}, expected {expected}")
    result = np.empty((problem.horizon, problem.states))
    result[0] = problem.start
    for step in range(problem.horizon - 1):
        flow = (result[step][:, None] * policy[step])[..., None] * problem.probabilities
        result[step + 1] = np.bincount(problem.successors.ravel(), flow.ravel(), minlength=problem.states)
    return result


def expected_return(problem: TabularProblem, policy: Array, reward: Array) -> float:
    """Of a policy [T, S, A] for a reward [S], exactly. Raises ValueError."""
    problem.check_reward(reward)
    return float(visitation(problem, policy).sum(axis=0) @ reward)


def value_difference(problem: TabularProblem, true_reward: Array, learned_reward: Array) -> float:
    """Expected value difference (Levine, Popovic and Koltun 2011) as a share of what there is to gain:

        (R* - R) / (R* - R_uniform)

    returns for the true reward of its own optimal policy, of the learned reward's optimal policy, and of random
    actions. 0 is perfect. Raises ValueError where nothing can be gained.
    """
    best = optimal_solution(problem, true_reward).start_value(problem)
    random = expected_return(problem, uniform_policy(problem), true_reward)
    if not best > random:
        raise ValueError(f"true reward: its optimal return {best:g} is no better than {random:g} of random actions")
    got = expected_return(problem, optimal_solution(problem, learned_reward).policy, true_reward)
    return (best - got) / (best - random)


def _empty(problem: TabularProblem) -> tuple[Array, Array]:
    policy = np.empty((problem.horizon, problem.states, problem.actions))
    return policy, np.zeros((problem.horizon + 1, problem.states))
