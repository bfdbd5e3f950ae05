# SPDX-License-Identifier: Apache-2.0
"""Bayesian linear regression: the plain baseline."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mbrl_core.config import parameter
from mbrl_core.dataset import Transitions
from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.encoding import Encoder, Normalisation
from mbrl_dynamics.model import DynamicsModel, FitReport, GaussianPrediction, KeepGoing, check_arrays
from mbrl_dynamics.registry import DYNAMICS


@dataclass(frozen=True)
class LinearConfig:
    """Parameters of the linear model."""

    members: int = parameter(5, "samples of the posterior that act as members", minimum=1, maximum=100)
    prior_precision: float = parameter(1e-3, "precision of the weights' prior, normalised units", minimum=1e-9)


@DYNAMICS.register("linear", LinearConfig)
class Linear(DynamicsModel):
    """Change of state linear in the encoded inputs; members are draws from the posterior of the weights.

    Bishop 2006, "Pattern Recognition and Machine Learning", equations 3.53 and 3.54, the noise at its maximum
    likelihood estimate.
    """

    kind = "linear"

    def __init__(self, configuration: LinearConfig, spec: RobotSpec, seed: int) -> None:
        super().__init__(configuration, spec, configuration.members)
        self.encoder = Encoder(spec)
        self.normalisation = Normalisation.identity(self.encoder)
        self.seed = seed
        self.weight = torch.zeros(self.members, self.encoder.size + 1, spec.state.size)
        self.log_variance = torch.zeros(spec.state.size)

    def predict(self, state: Tensor, action: Tensor) -> GaussianPrediction:
        inputs = (self.encoder.encode(state, action) - self.normalisation.input_mean) / self.normalisation.input_scale
        if inputs.dim() == 2:
            inputs = inputs.expand(self.members, *inputs.shape)
        change = torch.baddbmm(self.weight[:, -1:], inputs, self.weight[:, :-1])
        scale = self.normalisation.output_scale
        mean = state + self.normalisation.output_mean + change * scale
        return GaussianPrediction(mean, (torch.exp(self.log_variance) * scale * scale).expand_as(mean))

    def fit(self, transitions: Transitions, seed: int, keep_going: KeepGoing | None = None) -> FitReport:
        if len(transitions) < 2:
            raise ValueError(f"linear model: got {len(transitions)} transitions, expected at least 2 to fit")
        begin = time.perf_counter()
        self.normalisation = normalisation = Normalisation.of(self.encoder, transitions)
        state, action = (torch.as_tensor(values) for values in (transitions.state, transitions.action))
        inputs = (self.encoder.encode(state, action) - normalisation.input_mean) / normalisation.input_scale
        design = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
        change = torch.as_tensor(self.encoder.change(transitions))
        targets = (change - normalisation.output_mean) / normalisation.output_scale
        prior = self.configuration.prior_precision * torch.eye(design.shape[1], dtype=torch.float64)
        precision = design.T @ design + prior
        factor = torch.linalg.cholesky(precision)
        mean = torch.cholesky_solve(design.T @ targets, factor)
        residual = targets - design @ mean
        variance = (residual * residual).mean(dim=0).clamp(min=1e-12)
        random = torch.Generator().manual_seed(stream_seed(seed, 0, 0, "linear/posterior"))
        draws = torch.randn(self.members, *mean.shape, generator=random, dtype=torch.float64)
        # With precision = L L^T, L^-T z has the posterior's covariance.
        spread = torch.linalg.solve_triangular(factor.T, draws, upper=True) * variance.sqrt()
        if self.members > 1:
            spread -= spread.mean(dim=0)
        self.weight = (mean + (spread if self.members > 1 else 0.0 * spread)).float()
        self.log_variance = variance.log().float()
        loss = 0.5 * float(((residual * residual / variance) + variance.log()).sum(dim=1).mean())
        return FitReport(loss, 1, len(transitions), time.perf_counter() - begin)

    def to(self, device: torch.device) -> "Linear":
        twin = copy.copy(self)
        twin.encoder, twin.normalisation = self.encoder.to(device), self.normalisation.to(device)
        twin.weight, twin.log_variance = self.weight.to(device, copy=True), self.log_variance.to(device, copy=True)
        return twin

    def state_arrays(self) -> dict[str, np.ndarray]:
        arrays = {"weight": self.weight.numpy().copy(), "log_variance": self.log_variance.numpy().copy()}
        return arrays | {name: value.numpy().copy() for name, value in vars(self.normalisation).items()}

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        check_arrays(arrays, {name: value.shape for name, value in self.state_arrays().items()}, self.kind)
        values = {name: torch.as_tensor(np.array(value, dtype=np.float32)) for name, value in arrays.items()}
        self.weight, self.log_variance = values.pop("weight"), values.pop("log_variance")
        self.normalisation = Normalisation(**values)
