# SPDX-License-Identifier: Apache-2.0
"""The policy network of POPLIN, as a function of its weights, and its distillation from plans."""

import copy
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mbrl_core.policies import Policy, make_policy
from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import RobotSpec

BATCH_SIZE = 128  # states of a gradient step
LEAST_SCALE = 0.1  # of a linear state variable: one that hardly varies is not blown up


class PolicyNetwork:
    """A deterministic policy whose weights may differ from candidate to candidate.

    It starts neutral: the last layer is zero, so that the action is the centre of the limits in every state.
    `layers` 0 is a linear policy; every kind is squashed into the limits by tanh.
    """

    def __init__(self, layers: int, units: int, spec: RobotSpec, seed: int) -> None:
        kind, sizes = ("mlp", {"hidden_layers": layers, "hidden_units": units}) if layers else ("linear", {})
        self.module: Policy = make_policy(
            kind, {"squash": True, **sizes}, spec, stream_seed(seed, 0, 0, "poplin_policy")
        )
        self.trained = False
        lower, upper = torch.tensor(spec.action.lower).float(), torch.tensor(spec.action.upper).float()
        self._centre, self._half_range = 0.5 * (lower + upper), 0.5 * (upper - lower)
        self._linear_count = int((~spec.state.angular).sum())
        with torch.no_grad():
            for values in self._layers()[-1]:
                values.zero_()
        self.weight_count = sum(values.numel() for layer in self._layers() for values in layer)

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight [outputs, inputs] and bias [outputs] of each layer, without the outputs that are no actions."""
        modules = [module for module in self.module.modules() if isinstance(module, torch.nn.Linear)]
        layers = [(module.weight, module.bias) for module in modules]
        size = len(self._centre)
        return [*layers[:-1], (layers[-1][0][:size], layers[-1][1][:size])]

    def act(self, states: Tensor) -> Tensor:
        """Actions [..., action_size] of states [..., state_size]."""
        actions: Tensor = self.module.mode(states)
        return actions

    def act_with(self, weights: Tensor, states: Tensor) -> Tensor:
        """Actions [N, P, action_size] of states [N, P, state_size], candidate n with its own weights [N, D]."""
        values, used = self.module.observe(states), 0
        layers = self._layers()
        for index, (matrix, bias) in enumerate(layers):
            outputs, inputs = matrix.shape
            own = weights[:, used : used + matrix.numel()].view(-1, outputs, inputs)
            used += matrix.numel()
            own_bias = weights[:, None, used : used + outputs]
            used += outputs
            values = torch.baddbmm(own_bias, values, own.mT)
            if index < len(layers) - 1:
                values = torch.tanh(values)
        return self._centre + self._half_range * torch.tanh(values)

    def weights(self) -> Tensor:
        """All weights, [D]: of each layer the matrix, then the bias."""
        return torch.cat([values.detach().flatten() for layer in self._layers() for values in layer])

    def add(self, change: Tensor) -> None:
        """Adds a change [D] to the weights."""
        with torch.no_grad():
            parts = iter(change.split([values.numel() for layer in self._layers() for values in layer]))
            for layer in self._layers():
                for values in layer:
                    values += next(parts).view_as(values)
        self.trained = True

    def weight_scales(self) -> Tensor:
        """[D]: 1 / sqrt(inputs) of the layer, so that a layer's sums change alike whatever its width."""
        parts = [
            torch.full((values.numel(),), matrix.shape[1] ** -0.5)
            for matrix, bias in self._layers()
            for values in (matrix, bias)
        ]
        return torch.cat(parts)

    def rescale(self, states: Tensor) -> None:
        """Sets the scale of the linear observations to their root mean square over states [n, state_size], and the
        first layer so that the policy stays the same.
        """
        with torch.no_grad():
            old = self.module.observation_scale.clone()
            raw = self.module.observe(states) * old
            new = torch.ones_like(old)
            size = self._linear_count
            new[:size] = raw[:, :size].square().mean(dim=0).sqrt().clamp_min(LEAST_SCALE)
            self.module.observation_scale.copy_(new)
            first = next(module for module in self.module.modules() if isinstance(module, torch.nn.Linear))
            first.weight.mul_(new / old)

    def clone_behaviour(self, states: Tensor, actions: Tensor, steps: int, learning_rate: float, seed: int) -> float:
        """Regression on actions [n, action_size] of states [n, state_size] by `steps` steps of Adam.

        Returns the mean squared error of the last step, in shares of half the action range. Weights that are not
        finite afterwards are dropped. The same weights, data and seed give the same result.
        """
        generator = torch.Generator().manual_seed(seed)
        trained = copy.deepcopy(self.module)
        optimiser = torch.optim.Adam(trained.parameters(), lr=learning_rate)
        loss = torch.zeros(())
        for _ in range(steps):
            rows = torch.randint(len(states), (min(BATCH_SIZE, len(states)),), generator=generator)
            loss = ((trained.mode(states[rows]) - actions[rows]) / self._half_range).square().mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        if all(torch.isfinite(values).all() for values in trained.parameters()):
            self.module, self.trained = trained, True
        return float(loss.detach())
