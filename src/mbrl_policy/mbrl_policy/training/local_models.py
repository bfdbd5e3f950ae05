# SPDX-License-Identifier: Apache-2.0
"""Where guided policy search gets its local dynamics from."""

from collections.abc import Mapping

import numpy as np
import torch

from mbrl_core.checkpoint import CheckpointError, under
from mbrl_core.dataset import Transitions
from mbrl_core.specs import Array, RobotSpec
from mbrl_dynamics.gaussian_mixture import MixtureConfig
from mbrl_dynamics.gaussian_prior import EnsemblePrior, MixturePrior, PriorConfig, TransitionPrior
from mbrl_dynamics.local_fit import fit_local_dynamics
from mbrl_dynamics.local_linear import Chart, LocalDynamics
from mbrl_dynamics.model import DynamicsModel, FitInterrupted, ModelError
from mbrl_dynamics.registry import make_model
from mbrl_policy.training.algorithm import KeepGoing, TrainingInterrupted
from mbrl_policy.training.condition import Batch
from mbrl_policy.training.feedback import states_spread
from mbrl_policy.training.rollouts import Rollout, transitions_of

DYNAMICS = ("regression", "mixture", "ensemble", "model")
WITH_MODEL = ("ensemble", "model")
COLUMNS = ("state", "action", "next_state")
MOST_POINTS = 3000  # that a mixture is fitted to: a second's work


class LocalModels:
    """Local dynamics about each start condition's rollouts, with what all rollouts together say.

    `kind` is one of DYNAMICS. For `ensemble` and `model` a model of the whole robot goes on learning from every
    rollout: a copy of the one given, or an ensemble with its default parameters. One that does not learn, such as the
    known dynamics, is used as it is. A mixture is fitted to the newest `memory` rollouts, and so is the model; a
    `dataset` of earlier times counts as one of them, the oldest.
    """

    def __init__(
        self,
        kind: str,
        spec: RobotSpec,
        model: DynamicsModel | None,
        dataset: Transitions | None,
        memory: int,
        seed: int,
    ) -> None:
        self.kind, self.spec, self._most, self._seed = kind, spec, memory, seed
        self.model: DynamicsModel | None = None
        if kind in WITH_MODEL:
            self.model = make_model("ensemble", {}, spec, seed) if model is None else model.clone()
        self._memory = [dataset] if dataset is not None and len(dataset) else []
        self._prior: TransitionPrior | None = None

    @property
    def least_rollouts(self) -> int:
        """Of a condition, in an iteration."""
        return self.spec.state.size + self.spec.action.size + 1 if self.kind == "regression" else 1

    def remember(self, rollout: Rollout) -> None:
        """Takes a new rollout."""
        self._memory.append(transitions_of([rollout]))
        del self._memory[: -self._most]

    def spread(self) -> Array:
        """Standard deviations [n] of the states of all rollouts that are remembered, see `states_spread`."""
        return states_spread(np.concatenate([part.state for part in self._memory]))

    def learn(self, rollouts: int, seed: int, keep_going: KeepGoing) -> None:
        """Before an iteration's `about`: model or mixture, from all rollouts that are remembered. Conditions have
        `rollouts` each, or more; with more of them than there are states and actions a mixture gives slopes alone
        (PriorConfig.own_spread). `seed` is the mixture's; a model keeps its own, by which it has dealt out transitions
        to its members. Raises TrainingInterrupted.
        """
        self._prior = None
        if self.model is not None and self.model.learns:
            try:
                self.model.fit(Transitions.joined(self._memory), self._seed, keep_going)
            except FitInterrupted as interrupted:
                raise TrainingInterrupted(str(interrupted)) from None
        if self.kind == "ensemble":
            assert self.model is not None
            self._prior = EnsemblePrior(self.model)
        elif self.kind == "mixture":
            transitions = Transitions.joined(self._memory)
            settings = PriorConfig(own_spread=rollouts > self.spec.state.size + self.spec.action.size)
            if len(transitions) > MOST_POINTS:
                chosen = np.random.default_rng(seed).choice(len(transitions), MOST_POINTS, replace=False)
                transitions = transitions.select(np.sort(chosen))
            angular, mixture = self.spec.state.angular, MixtureConfig(most_components=16)
            self._prior = MixturePrior.fit(transitions, angular, seed, settings, mixture)

    def about(self, batch: Batch, reference: Array) -> LocalDynamics:
        """About a condition's rollouts, angles counted as `reference` [H + 1, n] does: regression, with a prior where
        there is one; or the model's own slopes. Raises ValueError when there are too few rollouts for the regression.
        """
        chart = Chart(reference, self.spec.state.angular)
        if self.kind == "model":
            assert self.model is not None
            return linearised_model(self.model, batch.states, batch.executed, chart)
        return fit_local_dynamics(batch.states, batch.executed, chart.angular, self._prior, chart=chart)

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Everything that a checkpoint needs."""
        arrays = {} if self.model is None else {f"model/{name}": a for name, a in self.model.state_arrays().items()}
        if self._memory:
            whole = Transitions.joined(self._memory)
            arrays |= {f"memory/{name}": np.array(getattr(whole, name)) for name in COLUMNS}
            arrays["memory/length"] = np.array([len(part) for part in self._memory])
        return arrays

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from `state_arrays`. Raises KeyError, CheckpointError."""
        if self.model is not None:
            try:
                self.model.load_arrays(under("model/", arrays))
            except ModelError as error:
                raise CheckpointError(f"trainer's model: {error}") from None
        lengths = arrays.get("memory/length", np.zeros(0, dtype=int))
        ends = np.cumsum(lengths)
        self._memory = []
        for begin, end in zip(ends - lengths, ends, strict=True):
            steps = np.arange(end - begin)
            state, action, next_state = (arrays[f"memory/{name}"][begin:end] for name in COLUMNS)
            self._memory.append(Transitions(state, action, next_state, np.zeros_like(steps), steps))


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
