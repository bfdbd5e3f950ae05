# SPDX-License-Identifier: Apache-2.0
"""CEM over perturbations of a policy that is rolled out in closed loop."""

from abc import abstractmethod

import numpy as np
import torch

from mbrl_core.specs import Array
from mbrl_dynamics.closed_loop import BatchPolicy
from mbrl_planner.cem import truncated_normal
from mbrl_planner.planner import Actions, Answer
from mbrl_planner.poplin import PolicyPlanner, PoplinConfig


class ClosedLoopCem(PolicyPlanner):
    """CEM over perturbations z of a policy, each candidate a policy that meets the states of its own particles.

    The mean of z is one of an iteration's candidates, and starts the next plan with the initial variance. Departing
    from the paper, which executes the mean, the best candidate of all iterations is executed: what the mean of
    policies would do is not known without one more rollout.
    """

    config: PoplinConfig

    def reset(self) -> None:
        super().reset()
        self._mean: Actions = np.zeros(self._shape(), dtype=np.float32)
        self._best = Answer(self._central_actions(), -np.inf)
        self._best_perturbation = self._mean

    def _begin(self, passed: int) -> None:
        self._mean = self._moved(self._mean, passed)
        self._variance: Actions = np.broadcast_to(self._std() ** 2, self._mean.shape)
        self._best = Answer(self._central_actions(), -np.inf)

    def _iterate(self, state: Array, index: int, last: bool) -> None:
        config = self.config
        candidates = truncated_normal(self.random, (config.population_size, *self._mean.shape))
        candidates[0] = 0.0  # the mean itself is a candidate
        candidates *= np.sqrt(self._variance)
        candidates += self._mean
        returns, actions = self._evaluate_policies(state, self._policy, candidates)
        order = np.argsort(-returns)[: self._of_evaluated(config.elites)]
        order = order[np.isfinite(returns[order])]
        best = int(order[0])
        if returns[best] > self._best.predicted_return:
            self._best = Answer(actions[best].copy(), float(returns[best]), self.objective.prediction(best))
            self._best_perturbation = candidates[best].copy()
        elites = candidates[order]
        keep = np.float32(config.momentum)
        self._mean = keep * self._mean + (1 - keep) * elites.mean(axis=0)
        self._variance = keep * self._variance + (1 - keep) * elites.var(axis=0)

    def _answer(self) -> Answer:
        return self._best

    @abstractmethod
    def _shape(self) -> tuple[int, ...]:
        """Shape of z."""

    @abstractmethod
    def _std(self) -> Actions:
        """Standard deviation of z at the start of a plan, of a shape that broadcasts to that of z."""

    @abstractmethod
    def _moved(self, values: Actions, passed: int) -> Actions:
        """z for a plan that begins `passed` < H steps later."""

    @abstractmethod
    def _policy(self, candidates: torch.Tensor) -> BatchPolicy:
        """The policies that candidates [N, ...] perturb the policy to."""
