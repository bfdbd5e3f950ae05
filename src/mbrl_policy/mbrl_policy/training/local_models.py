# SPDX-License-Identifier: Apache-2.0
"""Where guided policy search gets its local dynamics from."""

from collections.abc import Sequence

import numpy as np
import torch

from mbrl_core.dataset import Transitions
from mbrl_core.specs import Array, RobotSpec
from mbrl_dynamics.gaussian_mixture import MixtureConfig
from mbrl_dynamics.gaussian_prior import EnsemblePrior, MixturePrior, PriorConfig, TransitionPrior
from mbrl_dynamics.local_fit import fit_local_dynamics
from mbrl_dynamics.local_linear import Chart, LocalDynamics
from mbrl_dynamics.model import DynamicsModel
from mbrl_policy.training.condition import Batch

DYNAMICS = ("regression", "mixture", "ensemble", "model")
MOST_POINTS = 3000  # that a mixture is fitted to: a second's work


def make_prior(
    kind: str, transitions: Transitions, model: DynamicsModel | None, spec: RobotSpec, rollouts: int, seed: int
) -> TransitionPrior | None:
    """The prior of one iteration's fits: of all `transitions` so far, or of `model`; None for the others of DYNAMICS.

    With more rollouts than there are states and actions a mixture gives slopes alone (PriorConfig.own_spread).
    """
    if kind == "mixture":
        own = rollouts > spec.state.size + spec.action.size
        settings = PriorConfig(own_spread=own)
        if len(transitions) > MOST_POINTS:
            chosen = np.random.default_rng(seed).choice(len(transitions), MOST_POINTS, replace=False)
            transitions = transitions.select(np.sort(chosen))
        return MixturePrior.fit(transitions, spec.state.angular, seed, settings, MixtureConfig(most_components=16))
    if kind == "ensemble":
        assert model is not None
        return EnsemblePrior(model)
    return None


def local_dynamics(
    batch: Batch, reference: Array, spec: RobotSpec, prior: TransitionPrior | None, model: DynamicsModel | None
) -> LocalDynamics:
    """About a condition's rollouts, angles counted as `reference` [H + 1, n] does: regression, with a prior where one
    is given; or, where `model` is, that model's own slopes at the rollouts.

    Raises ValueError when there are too few rollouts for the regression.
    """
    angular = spec.state.angular
    chart = Chart(reference, angular)
    if model is not None:
        return linearised_model(model, batch.states, batch.executed, chart)
    return fit_local_dynamics(batch.states, batch.executed, angular, prior, chart=chart)


def linearised_model(model: DynamicsModel, states: Array, actions: Array, chart: Chart) -> LocalDynamics:
    """A model's mean to first order, slopes averaged over rollouts: states [R, H + 1, n], actions [R, H, m].

    The noise N_t is the members' own variance and what they disagree by, at the mean of the rollouts.
    """
    count, horizon, _ = actions.shape
    at = torch.from_numpy(states[:, :-1].reshape(count * horizon, -1)).to(model.precision)
    given = torch.from_numpy(actions.reshape(count * horizon, -1)).to(model.precision)
    by_state, by_action = (
        slope.mean(dim=0).double().numpy().reshape(count, horizon, *slope.shape[2:]).mean(axis=0)
        for slope in model.jacobians(at, given)
    )
    with torch.no_grad():
        predicted = model.predict(at, given)
    change = (predicted.mean - at).double().numpy()
    following = (states[:, :-1] + change.mean(axis=0).reshape(count, horizon, -1)).mean(axis=0)
    centre, wanted = states[:, :-1].mean(axis=0), actions.mean(axis=0)
    offset = following - (by_state @ centre[..., None] + by_action @ wanted[..., None])[..., 0]
    variance = predicted.variance.double().numpy().mean(axis=0) + change.var(axis=0)
    own = variance.reshape(count, horizon, -1).mean(axis=0)
    noise = own[..., None] * np.eye(states.shape[-1])
    return LocalDynamics(by_state, by_action, offset, noise, chart if chart.angular.any() else None)


def joined(parts: Sequence[Transitions]) -> Transitions:
    """One after the other."""
    return Transitions(
        np.concatenate([part.state for part in parts]), np.concatenate([part.action for part in parts]),
        np.concatenate([part.next_state for part in parts]), np.concatenate([part.episode for part in parts]),
        np.concatenate([part.step for part in parts]),
    )  # fmt: skip
