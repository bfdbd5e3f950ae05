# SPDX-License-Identifier: Apache-2.0
"""What a policy that imitates minimises, by its kind."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from mbrl_core.policies import MixturePolicy, NetworkPolicy, Policy
from mbrl_policy.imitation.label_tensors import Batch

LEAST_SLOPE = 0.05  # of the squashing, in half ranges, where a residual is taken back through it


class Losses:
    """Of a policy on a batch; `half_range` [m] is that of its actions. See `fit_policy`."""

    def __init__(self, policy: Policy, batch: Batch, half_range: Tensor) -> None:
        self._policy, self._batch, self._half_range = policy, batch, half_range
        self._outputs = policy.outputs(policy.observe(batch.state)) if isinstance(policy, NetworkPolicy) else None

    def told(self) -> float:
        """The loss to be told."""
        return float(self._loss.detach())

    def gradients(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Of what is minimised, by each of `parameters`; of the noise's part by the noise's own alone."""
        objective = self._mixture_surprise() if isinstance(self._policy, MixturePolicy) else self._loss
        noise = self._noise_parameters()
        noises = torch.autograd.grad(self._residual_surprise(), noise, retain_graph=True) if noise else ()
        found = torch.autograd.grad(objective, parameters, materialize_grads=True)
        own = {id(parameter): gradient for parameter, gradient in zip(noise, noises, strict=True)}
        return [
            gradient + own[id(parameter)] if id(parameter) in own else gradient
            for parameter, gradient in zip(parameters, found, strict=True)
        ]

    def _noise_parameters(self) -> list[Tensor]:
        policy = self._policy
        learned = isinstance(policy, NetworkPolicy) and not isinstance(policy, MixturePolicy)
        return list(policy.noise_parameters()) if learned else []

    @cached_property
    def _gaussian(self) -> tuple[Tensor, Tensor]:
        if self._outputs is None:
            return self._policy.gaussian(self._batch.state, self._batch.step)
        return self._policy.gaussian_of(self._outputs)

    @cached_property
    def _error(self) -> Tensor:
        """[b, m], half ranges."""
        mean, _ = self._gaussian
        action = self._policy.squashed(mean) if self._policy.squash else mean
        return (action - self._batch.target) / self._half_range

    @cached_property
    def _loss(self) -> Tensor:
        error, precision = self._error, self._batch.precision
        if precision is None:
            loss = error.square().mean()
        else:
            loss = torch.einsum("bi,bij,bj->b", error, precision, error).mean() / error.shape[-1]
        later, known = self._batch.later, self._batch.known
        if later is None or known is None:
            return loss
        rows = ((self._policy.chunk_of(self._outputs)[:, 1:] - later) / self._half_range).square().mean(dim=-1)
        return (len(error) * loss + (rows * known).sum()) / (len(error) + known.sum())

    def _mixture_surprise(self) -> Tensor:
        """Negative log likelihood, less constants, of the actions under the whole mixture."""
        logits, means, stds = self._policy.parts_of(self._outputs)
        target = self._policy.unsquashed(self._batch.target) if self._policy.squash else self._batch.target
        scaled = (target.unsqueeze(-2) - means) / stds
        densities = -(0.5 * scaled.square() + stds.log()).sum(dim=-1)
        return (torch.logsumexp(logits, dim=-1) - torch.logsumexp(logits + densities, dim=-1)).mean()

    def _residual_surprise(self) -> Tensor:
        """Negative log likelihood, less constants, of the errors under the policy's noise alone."""
        policy, residual = self._policy, self._error.detach()
        mean, factor = self._gaussian
        if policy.squash:
            residual = residual / (1.0 - torch.tanh(mean.detach()).square()).clamp_min(LEAST_SLOPE)
        else:
            residual = residual * self._half_range
        std = factor.diagonal(dim1=-2, dim2=-1)
        if policy.config.covariance == "full":
            scaled = torch.linalg.solve_triangular(factor, residual.unsqueeze(-1), upper=False).squeeze(-1)
        else:
            scaled = residual / std
        return (0.5 * scaled.square() + std.log()).sum(dim=-1).mean()
