# SPDX-License-Identifier: Apache-2.0
"""The policy network of POPLIN, as a function of its weights, and its distillation from plans."""

import copy

import torch
from torch import Tensor

from mbrl_core.policies import Policy, make_policy
from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.closed_loop import BatchPolicy

BATCH_SIZE = 128  # states of a gradient step
LEAST_SCALE = 0.1  # of a linear state variable, SI units: one that hardly varies is not blown up


class PolicyNetwork:
    """A deterministic policy within the action limits, whose weights may differ from candidate to candidate.

    It starts neutral: the last layer is zero, so that the action is the centre of the limits in every state.
    `layers` 0 is a linear policy; both kinds are squashed into the limits by tanh. The network is small: it stays on
    the processor, and so do its answers, whatever device rolls it out.
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
        weight, bias = layers[-1]
        return [*layers[:-1], (weight[: len(self._centre)], bias[: len(self._centre)])]

    def act(self, states: Tensor) -> Tensor:
        """Actions [..., action_size] in states [..., state_size]."""
        return self.module.mode(states.cpu())

    def perturbed(self, changes: Tensor) -> BatchPolicy:
        """Policies whose weights differ by changes [N, K, D], K at least the steps of the rollout, or 1 for all steps.

        D is `weight_count`: of each layer the matrix by rows, then the bias.
        """
        count, steps, _ = changes.shape
        parts = changes.split([values.numel() for layer in self._layers() for values in layer], dim=2)
        layers = [
            (
                # Columns are inputs: [N, K, inputs, outputs] and [N, K, 1, outputs].
                (matrix + parts[2 * index].view(count, steps, *matrix.shape)).mT,
                (bias + parts[2 * index + 1]).unsqueeze(2),
            )
            for index, (matrix, bias) in enumerate(self._layers())
        ]

        def act(states: Tensor, step: int) -> Tensor:
            values, own = self.module.observe(states.cpu()), min(step, steps - 1)
            for matrix, bias in layers[:-1]:
                values = torch.baddbmm(bias[:, own], values, matrix[:, own]).tanh_()
            matrix, bias = layers[-1]
            values = torch.baddbmm(bias[:, own], values, matrix[:, own]).tanh_()
            return torch.addcmul(self._centre, self._half_range, values)

        return act

    def weight_scales(self) -> Tensor:
        """[D]: 1 / sqrt(inputs) of the layer, so that a layer's sums change alike whatever its width."""
        parts = [
            torch.full((values.numel(),), matrix.shape[1] ** -0.5)
            for matrix, bias in self._layers()
            for values in (matrix, bias)
        ]
        return torch.cat(parts)

    def add(self, change: Tensor) -> None:
        """Adds a change [D] to the weights."""
        sizes = [values.numel() for layer in self._layers() for values in layer]
        with torch.no_grad():
            for values, part in zip((v for layer in self._layers() for v in layer), change.split(sizes), strict=True):
                values += part.view_as(values)
        self.trained = True

    def scale_observations(self, states: Tensor) -> None:
        """Makes the scale of the linear observations their root mean square over states [n, state_size], and changes
        the first layer so that the policy stays the same.
        """
        with torch.no_grad():
            old = self.module.observation_scale.clone()
            observed = self.module.observe(states) * old
            new = torch.ones_like(old)
            linear = slice(0, self._linear_count)
            new[linear] = observed[:, linear].square().mean(dim=0).sqrt().clamp_min(LEAST_SCALE)
            self.module.observation_scale.copy_(new)
            self._layers()[0][0].mul_(new / old)

    def clone_behaviour(self, states: Tensor, actions: Tensor, steps: int, learning_rate: float, seed: int) -> None:
        """Least squares on actions [n, action_size] in states [n, state_size], in shares of half the action range, by
        `steps` steps of Adam.

        The same weights, data and seed give the same result; one that is not finite is dropped.
        """
        generator = torch.Generator().manual_seed(seed)
        trained = copy.deepcopy(self.module)
        optimiser = torch.optim.Adam(trained.parameters(), lr=learning_rate)
        size = min(BATCH_SIZE, len(states))
        for _ in range(steps):
            rows = torch.randint(len(states), (size,), generator=generator)
            loss = ((trained.mode(states[rows]) - actions[rows]) / self._half_range).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if all(bool(torch.isfinite(values).all()) for values in trained.parameters()):
            self.module, self.trained = trained, True
