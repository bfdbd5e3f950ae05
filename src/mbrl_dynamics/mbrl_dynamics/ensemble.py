# SPDX-License-Identifier: Apache-2.0
"""Probabilistic neural ensemble."""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import parameter
from mbrl_core.dataset import Transitions
from mbrl_core.random_streams import generator, stream_seed
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.encoding import Encoder, Normalisation
from mbrl_dynamics.ensemble_derivatives import MeanDerivatives
from mbrl_dynamics.ensemble_folding import FoldedEnsemble
from mbrl_dynamics.ensemble_gradient import LikelihoodGradient
from mbrl_dynamics.ensemble_kernel import EnsembleKernel
from mbrl_dynamics.ensemble_stepper import EnsembleStepper
from mbrl_dynamics.kernels import kernels
from mbrl_dynamics.model import (
    DynamicsModel,
    FitInterrupted,
    FitReport,
    GaussianPrediction,
    KeepGoing,
    check_arrays,
)
from mbrl_dynamics.propagation import Draws
from mbrl_dynamics.registry import DYNAMICS

KEPT_STEPPERS = 16  # a deadline cuts batches into parts of many sizes


@dataclass(frozen=True)
class EnsembleConfig:
    """Parameters of the ensemble."""

    members: int = parameter(5, "networks in the ensemble", minimum=1, maximum=100)
    hidden_size: int = parameter(128, "units of a hidden layer", minimum=1, maximum=4096)
    hidden_layers: int = parameter(2, "hidden layers", minimum=1, maximum=10)
    learning_rate: float = parameter(3e-3, "Adam's step size at the start of a fit", minimum=0.0)
    final_learning_rate: float = parameter(3e-5, "Adam's step size at the end of a fit", minimum=0.0)
    weight_decay: float = parameter(1e-4, "decoupled weight decay", minimum=0.0)
    batch_size: int = parameter(64, "transitions a member sees in one gradient step", minimum=1)
    first_steps: int = parameter(1500, "gradient steps of the first fit", minimum=1)
    refit_steps: int = parameter(300, "gradient steps of each later fit", minimum=1)
    variance_weighting: float = parameter(
        0.5, "beta of the beta-NLL loss (arXiv:2203.09168); 0 is the plain likelihood", minimum=0.0, maximum=1.0
    )
    bootstrap: bool = parameter(True, "weigh each member's data by Poisson counts (online bootstrap)")
    ridge: float = parameter(1e-3, "regularisation of the linear part's first estimate", minimum=0.0)


@DYNAMICS.register("ensemble", EnsembleConfig)
class Ensemble(DynamicsModel):
    """Bootstrapped networks that each predict mean and variance of the change of state.

    Chua et al. 2018, "Deep Reinforcement Learning in a Handful of Trials", sections 4 and A.1: Gaussian negative log
    likelihood, log variance softly bounded by two learned vectors. Beyond the paper: terms of the likelihood are
    weighted so that misfit does not pass for noise (`variance_weighting`); a linear path beside the
    layers, started at the ridge solution, carries the integration of velocities and whatever else is
    linear from the first fit on; fits go on from the last one, with the weights carried over to new
    normalisation so that the function does not change (van Hasselt et al. 2016, "Learning values across many
    orders of magnitude", proposition 1).
    """

    kind = "ensemble"

    def __init__(self, configuration: EnsembleConfig, spec: RobotSpec, seed: int) -> None:
        super().__init__(configuration, spec, configuration.members)
        self.encoder = Encoder(spec)
        self.normalisation = Normalisation.identity(self.encoder)
        self.fits = 0
        self._steppers: dict[int, EnsembleStepper] = {}  # by rows, of the present weights
        self._kernels: dict[str, EnsembleKernel] = {}  # by variant, likewise
        sizes = [self.encoder.size] + [configuration.hidden_size] * configuration.hidden_layers
        random = torch.Generator().manual_seed(stream_seed(seed, 0, 0, "ensemble/weights"))
        members, outputs = configuration.members, spec.state.size
        self.weights: dict[str, Tensor] = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            bound = 1.0 / math.sqrt(fan_in)
            self.weights[f"weight_{layer}"] = _uniform((members, fan_in, fan_out), math.sqrt(3.0) * bound, random)
            self.weights[f"bias_{layer}"] = _uniform((members, 1, fan_out), bound, random)
        # The change starts at what the linear path says: the output layer begins small.
        bound = 0.1 / math.sqrt(sizes[-1])
        self.weights["weight_out"] = _uniform((members, sizes[-1], 2 * outputs), bound, random)
        self.weights["bias_out"] = torch.zeros(members, 1, 2 * outputs)
        self.weights["weight_linear"] = torch.zeros(members, self.encoder.size, outputs)
        self.weights["log_variance_upper"] = torch.full((outputs,), 0.5)
        self.weights["log_variance_lower"] = torch.full((outputs,), -10.0)

    def predict(self, state: Tensor, action: Tensor) -> GaussianPrediction:
        inputs = (self.encoder.encode(state, action) - self.normalisation.input_mean) / self.normalisation.input_scale
        if inputs.dim() == 2:
            inputs = inputs.expand(self.members, *inputs.shape)
        change, log_variance = self.forward(inputs)
        scale = self.normalisation.output_scale
        mean = state + self.normalisation.output_mean + change * scale
        return GaussianPrediction(mean, torch.exp(log_variance) * scale * scale)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised inputs [members, B, size] -> normalised change and its log variance, [members, B, state_size]."""
        weights, hidden = self.weights, inputs
        for layer in range(self.configuration.hidden_layers):
            hidden = torch.baddbmm(weights[f"bias_{layer}"], hidden, weights[f"weight_{layer}"])
            hidden = torch.nn.functional.silu(hidden)
        outputs = torch.baddbmm(weights["bias_out"], hidden, weights["weight_out"])
        nonlinear, log_variance = outputs.chunk(2, dim=-1)
        change = torch.baddbmm(nonlinear, inputs, weights["weight_linear"])
        upper, lower = weights["log_variance_upper"], weights["log_variance_lower"]
        log_variance = upper - torch.nn.functional.softplus(upper - log_variance)
        return change, lower + torch.nn.functional.softplus(log_variance - lower)

    def fit(self, transitions: Transitions, seed: int, keep_going: KeepGoing | None = None) -> FitReport:
        if len(transitions) < 2:
            raise ValueError(f"ensemble: got {len(transitions)} transitions, expected at least 2 to fit")
        begin = time.perf_counter()
        self._forget_frozen()
        self._renormalise(Normalisation.of(self.encoder, transitions))
        normalisation = self.normalisation
        with torch.no_grad():
            state = torch.as_tensor(transitions.state, dtype=torch.float32)
            action = torch.as_tensor(transitions.action, dtype=torch.float32)
            inputs = (self.encoder.encode(state, action) - normalisation.input_mean) / normalisation.input_scale
            change = torch.as_tensor(self.encoder.change(transitions), dtype=torch.float32)
            targets = (change - normalisation.output_mean) / normalisation.output_scale
        counts = self._bootstrap_counts(len(transitions), seed)
        if self.fits == 0:
            self._start_linear_path(inputs, targets, counts)
        steps = self.configuration.first_steps if self.fits == 0 else self.configuration.refit_steps
        batch_seed = stream_seed(seed, 0, self.fits, "ensemble/batches")
        loss = self._descend(inputs, targets, counts, steps, batch_seed, keep_going)
        self.fits += 1
        return FitReport(loss, steps, len(transitions), time.perf_counter() - begin)

    def held_out(self, count: int, seed: int) -> np.ndarray:
        return (self._bootstrap_counts(count, seed) == 0.0).numpy()

    def _bootstrap_counts(self, count: int, seed: int) -> Tensor:
        """How often each member sees each transition, [members, n]: old transitions keep their counts in later fits."""
        if not self.configuration.bootstrap or self.members == 1:
            return torch.ones(self.members, count)
        random = generator(seed, 0, 0, "ensemble/bootstrap")
        return torch.as_tensor(random.poisson(1.0, (count, self.members)).T.copy(), dtype=torch.float32)

    def _start_linear_path(self, inputs: Tensor, targets: Tensor, counts: Tensor) -> None:
        """Ridge regression for each member, its intercept in the output's bias."""
        ones = torch.ones(len(inputs), 1, dtype=torch.float64)
        design = torch.cat([inputs.double(), ones], dim=1)
        penalty = self.configuration.ridge * len(inputs) * torch.eye(design.shape[1], dtype=torch.float64)
        weighted = design.T * counts.double().unsqueeze(1)
        solution = torch.linalg.solve(weighted @ design + penalty, weighted @ targets.double()).float()
        with torch.no_grad():
            self.weights["weight_linear"].copy_(solution[:, :-1])
            self.weights["bias_out"][..., : targets.shape[1]] = solution[:, -1:]

    def _descend(
        self, inputs: Tensor, targets: Tensor, counts: Tensor, steps: int, seed: int, keep_going: KeepGoing | None
    ) -> float:
        configuration = self.configuration
        likelihood = LikelihoodGradient(self.weights, configuration.variance_weighting)
        groups = [
            {"params": [likelihood.decayed], "weight_decay": configuration.weight_decay},
            {"params": [likelihood.others], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=configuration.learning_rate, fused=True)
        random = torch.Generator().manual_seed(seed)
        batch = min(configuration.batch_size, len(inputs))
        ratio = configuration.final_learning_rate / max(configuration.learning_rate, 1e-30)
        draws = torch.multinomial(counts + 1e-12, batch * steps, replacement=True, generator=random)
        indices = draws.view(self.members, steps, batch)
        losses: list[Tensor] = []
        for step in range(steps):
            if keep_going is not None and not keep_going():
                raise FitInterrupted(f"fit interrupted after {step} of {steps} steps")
            index = indices[:, step]
            losses.append(likelihood(inputs[index], targets[index]))
            for group in optimiser.param_groups:
                group["lr"] = configuration.learning_rate * ratio ** (step / steps)
            optimiser.step()
        for name, value in likelihood.weights.items():
            self.weights[name].copy_(value)
        return 0.5 * float(torch.stack(losses[-max(1, steps // 10) :]).mean())

    def _renormalise(self, new: Normalisation) -> None:
        """Takes over new scales and changes the weights so that the function stays what it was."""
        old, self.normalisation = self.normalisation, new
        if self.fits == 0:
            return
        ratio = (new.input_scale / old.input_scale).unsqueeze(1)
        shift = ((new.input_mean - old.input_mean) / old.input_scale).unsqueeze(0)
        outputs = len(new.output_scale)
        gain = old.output_scale / new.output_scale
        with torch.no_grad():
            weights = self.weights
            weights["bias_0"] += shift @ weights["weight_0"]
            weights["weight_0"] *= ratio
            bias = weights["bias_out"][..., :outputs] + shift @ weights["weight_linear"]
            weights["bias_out"][..., :outputs] = bias * gain + (old.output_mean - new.output_mean) / new.output_scale
            weights["weight_linear"] *= ratio * gain
            weights["weight_out"][..., :outputs] *= gain
            for name in ("log_variance_upper", "log_variance_lower"):
                weights[name] += 2.0 * torch.log(gain)
            weights["bias_out"][..., outputs:] += 2.0 * torch.log(gain)

    def jacobians(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        slope = self._mean_derivatives().jacobians(state, action)
        return slope[..., : self.encoder.state_size], slope[..., self.encoder.state_size :]

    def hessians(self, state: Tensor, action: Tensor) -> Tensor:
        return self._mean_derivatives().hessians(state, action)

    def _mean_derivatives(self) -> MeanDerivatives:
        return MeanDerivatives(self.encoder, self.normalisation, self.weights)

    def stepper(self, rows: int) -> EnsembleStepper:
        if rows not in self._steppers:
            if len(self._steppers) >= KEPT_STEPPERS:
                self._steppers.pop(next(iter(self._steppers)))
            # Its buffers are written to again by callers in and outside of inference mode.
            with torch.inference_mode(False):
                self._steppers[rows] = EnsembleStepper(self.encoder, self.normalisation, self.weights, rows)
        return self._steppers[rows]

    def trajectories(
        self,
        state: Tensor,
        actions: Tensor,
        particles: int,
        propagation: str,
        generator: torch.Generator,
        keep_going: KeepGoing | None,
        precision: str,
    ) -> Tensor | None:
        self._check_rollout(state, actions)
        library = kernels()
        if library is None or state.device.type != "cpu":
            return None
        variant = library.best(precision)
        kernel = self._kernels.get(variant.name)
        if kernel is None:
            folded = FoldedEnsemble.of(self.normalisation, self.weights)
            kernel = self._kernels[variant.name] = EnsembleKernel(library, variant, self.encoder, folded)
        draws = Draws.of(propagation, self.members, actions.shape[1], particles, len(state), generator)
        return kernel.rollout(state, actions, draws, torch.get_num_threads(), keep_going)

    def _check_rollout(self, state: Tensor, actions: Tensor) -> None:
        """Raises ValueError on what the compiled rollout would read or write beyond."""
        size, inputs = self.encoder.state_size, self.encoder.action_size
        if tuple(state.shape) != (size,) or actions.dim() != 3 or actions.shape[2] != inputs:
            raise ValueError(
                f"rollout: got state {list(state.shape)} and actions {list(actions.shape)}, expected [{size}] and"
                f" [N, H, {inputs}]"
            )
        own = self.normalisation.input_mean.device
        if not state.device == actions.device == own:
            raise ValueError(
                f"rollout: got state on {state.device}, actions on {actions.device} and the model on {own}, expected"
                " one device"
            )

    def _forget_frozen(self) -> None:
        self._steppers.clear()
        self._kernels.clear()

    def to(self, device: torch.device) -> "Ensemble":
        twin = copy.deepcopy(self)
        twin.encoder, twin.normalisation = self.encoder.to(device), self.normalisation.to(device)
        twin.weights = {name: weight.to(device) for name, weight in twin.weights.items()}
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """For copies, which freeze their weights anew."""
        return {**vars(self), "_steppers": {}, "_kernels": {}}

    def state_arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: value.detach().numpy().copy() for name, value in self.weights.items()}
        arrays |= {name: value.numpy().copy() for name, value in vars(self.normalisation).items()}
        return arrays | {"fits": np.array([self.fits], dtype=np.int64)}

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        shapes = {name: value.shape for name, value in self.state_arrays().items()}
        check_arrays(arrays, shapes, self.kind)
        with torch.no_grad():
            for name, value in self.weights.items():
                value.copy_(torch.as_tensor(arrays[name]))
        self.normalisation = Normalisation(
            *(torch.as_tensor(np.array(arrays[name], dtype=np.float32)) for name in vars(self.normalisation))
        )
        self.fits = int(arrays["fits"][0])
        self._forget_frozen()


def _uniform(shape: tuple[int, ...], bound: float, random: torch.Generator) -> Tensor:
    return (2.0 * torch.rand(shape, generator=random) - 1.0) * bound
