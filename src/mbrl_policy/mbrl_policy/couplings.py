# SPDX-License-Identifier: Apache-2.0
"""How guided policy search keeps trajectories and the policy together: couplings by name.

Couplings of other packages are found through the entry point group `mbrl.coupling`. One coupling object belongs to
one start condition, for whose controller it keeps multipliers from iteration to iteration. An iteration is

    terms = coupling.trajectory_terms(previous, policy)
    step = kl_constrained_step(problem, terms.reference, epsilon, config, terms.added)
    targets = coupling.targets(step.controller, states)   # of all conditions, then the supervised step
    coupling.update(step.controller, policy, states, policy_means)

with `policy` the linearised one, see `linearise_policy`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_core.registry import Registry
from mbrl_core.specs import Array
from mbrl_dynamics.local_linear import check_array
from mbrl_policy.kl_step import Terms
from mbrl_policy.linear_gaussian import LinearGaussianController

COUPLINGS: Registry["Coupling"] = Registry(
    "coupling",
    (
        "mbrl_policy.mirror_descent",
        "mbrl_policy.badmm",
        "mbrl_policy.augmented_lagrangian",
    ),
)


@dataclass(frozen=True)
class TrajectoryTerms:
    """What the policy changes in the trajectory step.

    Attributes:
        reference: the controller that the constraint keeps the next one near.
        added: to the penalty; None for nothing.
    """

    reference: LinearGaussianController
    added: Terms | None


@dataclass(frozen=True)
class SupervisedTargets:
    """What `supervised_objective` is told of one start condition.

    Attributes:
        means: [R, H, m], of the policy's actions at the states asked about.
        precisions: C^-1 [H, m, m].
        weights: nu [H].
    """

    means: Array
    precisions: Array
    weights: Array


class Coupling(ABC):
    """Multipliers between one start condition's controller and the policy, for H steps of m actions.

    `half_range` [m] is half of what each action's limits allow, the unit in which actions are compared where their
    own noise is not. Raises ValueError when it is not positive and finite.
    """

    kind: str

    def __init__(self, config: Any, horizon: int, half_range: Array) -> None:
        check_array("half_range", half_range, (half_range.size,))
        if horizon < 1 or half_range.size < 1 or (half_range <= 0.0).any():
            raise ValueError(f"got {horizon} steps, half_range {half_range.tolist()}, expected numbers above 0")
        self.config, self.horizon, self.half_range = config, horizon, half_range

    @abstractmethod
    def trajectory_terms(self, previous: LinearGaussianController, policy: LinearGaussianController) -> TrajectoryTerms:
        """Before the trajectory step: `previous` is the last iteration's controller."""

    @abstractmethod
    def targets(self, controller: LinearGaussianController, states: Array) -> SupervisedTargets:
        """For the supervised step: towards `controller`, at states [R, H, n] of rollouts, angles unwrapped."""

    def update(
        self,
        controller: LinearGaussianController,
        policy: LinearGaussianController,
        states: Array,
        policy_means: Array,
    ) -> None:
        """After the supervised step: the multipliers, from what controller and policy answer at the same states.

        states [R, H, n]; policy_means [R, H, m], the new policy's; `policy` is the new one, linearised, whose
        covariances count. Raises ValueError on shapes that do not fit and numbers that are not finite.
        """
        self._disagreement(controller, states, policy_means)

    def state_arrays(self) -> dict[str, Array]:
        """Copies of the multipliers, by name, for a checkpoint."""
        return {}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Goes on from `state_arrays`. Raises ValueError, and changes nothing, when they are of another coupling."""
        own = self.state_arrays()
        if set(own) != set(arrays):
            raise ValueError(f"coupling {self.kind!r}: got arrays {sorted(arrays)}, expected {sorted(own)}")
        for name, values in own.items():
            check_array(f"coupling {self.kind!r} {name}", arrays[name], values.shape)
        for name in own:
            setattr(self, name, arrays[name].copy())

    def _disagreement(self, controller: LinearGaussianController, states: Array, policy_means: Array) -> Array:
        """What the policy answers less what the controller does [R, H, m]. Raises ValueError."""
        rollouts = len(states)
        check_array("states", states, (rollouts, self.horizon, controller.state_size))
        check_array("policy means", policy_means, (rollouts, self.horizon, len(self.half_range)))
        return np.asarray(policy_means - controller.means(states))


def make_coupling(mapping: Mapping[str, Any], horizon: int, half_range: Array) -> Coupling:
    """Builds a coupling from a `coupling` group (`{kind: badmm, rate: 0.1}`).

    Raises ConfigurationError on an unknown kind or parameter, a wrong type or a value out of range.
    """
    kind = str(mapping.get("kind", ""))
    config = COUPLINGS.configure(kind, dict(mapping))
    return COUPLINGS.get(kind).implementation(config, horizon, half_range)
