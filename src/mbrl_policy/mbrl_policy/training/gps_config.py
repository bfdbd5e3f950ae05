# SPDX-License-Identifier: Apache-2.0
"""Parameters of guided policy search."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.model import DynamicsModel
from mbrl_policy.training.algorithm import TrainerConfig
from mbrl_policy.training.local_models import DYNAMICS

COUPLINGS = ("mirror_descent", "badmm", "augmented_lagrangian")


@dataclass(frozen=True)
class GpsConfig(TrainerConfig):
    """Parameters of guided policy search. epsilons are in nats a step, weights of rewards in units of reward."""

    conditions: int = parameter(4, "start conditions, each with a controller of its own", minimum=1, maximum=1000)
    start_states: tuple[float, ...] = parameter(
        (), "exact start states, one after the other, SI units; empty: drawn from the robot's start distribution"
    )
    start_std: tuple[float, ...] = parameter(
        (), "standard deviations of a rollout's start about its condition's, SI units; empty: all start exactly there"
    )
    rollouts: int = parameter(5, "of each condition's controller in an iteration", minimum=1, maximum=1000)
    horizon: int = parameter(0, "steps of a rollout; 0: an episode of the robot", minimum=0, maximum=100_000)
    dynamics: str = parameter(
        "mixture",
        "local dynamics: regression on the rollouts alone, or with a prior of a Gaussian mixture over all rollouts or"
        " of a model that learns from them (ensemble), or that model's own slopes (model)",
        choices=DYNAMICS,
    )
    coupling: str = parameter("badmm", "of controllers and network", choices=COUPLINGS)
    coupling_weight: float = parameter(
        0.0, "first weight of badmm and augmented_lagrangian; 0: the coupling's own", minimum=0.0
    )
    coupling_rate: float = parameter(
        -1.0, "step of the multipliers of badmm and augmented_lagrangian; below 0: the coupling's own", maximum=2.0
    )
    epsilon: float = parameter(0.1, "limit on a step's divergence to begin with", minimum=1e-9)
    least_epsilon: float = parameter(0.01, "the limit does not fall below", minimum=1e-9)
    most_epsilon: float = parameter(0.4, "the limit does not rise above", minimum=1e-9)
    entropy_weight: float = parameter(0.01, "reward for each nat of a controller's entropy", minimum=0.0)
    limit_weight: float = parameter(
        3.0,
        "w: wanting more than the limits costs w / 2 times the square of the excess, half ranges",
        minimum=0.0,
    )
    convex: bool = parameter(True, "negative curvature of the reward's expansion counts as none")
    expansions: int = parameter(
        4, "expansions of the reward in a step, the later ones about what the new controller will do", minimum=1
    )
    samples: int = parameter(20, "trajectories of the local dynamics that they are made about", minimum=2)
    teacher_iterations: int = parameter(
        0,
        "first iterations whose rollouts are those of model predictive control (sources planner and model, as it was"
        " given), whose trajectories the controllers then follow",
        minimum=0,
    )
    teacher_std: float = parameter(0.05, "noise added to the planner's actions, of half the action range", minimum=1e-3)
    teacher_reserve: float = parameter(
        0.15, "share of the action range that the planner leaves to the feedback", minimum=0.0, maximum=0.9
    )
    teacher_weight: float = parameter(
        0.3,
        "of the first feedback along the teacher's trajectory: what leaving its action by half a range costs, against"
        " leaving its state by as much as the state varies along it",
        minimum=1e-6,
    )
    initial_std: float = parameter(0.5, "noise of the first controllers, of half the action range", minimum=1e-3)
    push: float = parameter(
        0.3, "amplitude of the first controllers, of half the action range", minimum=0.0, maximum=1.0
    )
    push_period: float = parameter(25.0, "steps in which the first controllers push to and fro", minimum=2.0)
    imagined: int = parameter(
        10, "states drawn from where each new controller is expected to go, for each step, to teach the network at",
        minimum=0, maximum=1000,
    )  # fmt: skip
    remembered: int = parameter(
        5, "newest rollouts of the network at each start, at whose states it is taught, too", minimum=0, maximum=1000
    )
    supervised_steps: int = parameter(1500, "gradient steps of the network in an iteration", minimum=1)
    batch_size: int = parameter(256, "states in a gradient step", minimum=1)
    learning_rate: float = parameter(2e-3, "of Adam, at the start of each supervised step", minimum=1e-9)
    most_precision: float = parameter(
        10.0, "precisions count for the network up to so many times their median", minimum=1.0
    )
    evaluate_every: int = parameter(
        1, "iterations from one rollout of the network at every start to the next; the best one is kept", minimum=1
    )
    memory: int = parameter(100, "newest rollouts that mixture or model are fitted to", minimum=1, maximum=100_000)

    def coupling_settings(self) -> dict[str, Any]:
        """The `coupling` group."""
        settings: dict[str, Any] = {"kind": self.coupling}
        if self.coupling != "mirror_descent":
            if self.coupling_weight > 0.0:
                settings["first_weight"] = self.coupling_weight
            if self.coupling_rate >= 0.0:
                settings["rate"] = self.coupling_rate
        return settings


def check_config(
    config: GpsConfig, spec: RobotSpec, model: DynamicsModel | None, planner: Mapping[str, Any] | None
) -> None:
    """Raises ConfigurationError on parameters that go neither together nor with the robot and the sources there are."""
    if model is not None and model.spec.interface_hash != spec.interface_hash:
        raise ConfigurationError(f"model: is of robot {model.spec.name!r}, expected {spec.name!r}")
    if config.teacher_iterations and (planner is None or model is None):
        raise ConfigurationError("parameter 'teacher_iterations': expected sources planner and model with it")
    size = spec.state.size
    least = size + spec.action.size + 1
    if config.dynamics == "regression" and config.rollouts < least:
        raise ConfigurationError(
            f"parameter 'rollouts': got {config.rollouts}, expected at least {least} for dynamics 'regression';"
            " those with a prior take fewer"
        )
    if config.start_states and len(config.start_states) != config.conditions * size:
        raise ConfigurationError(
            f"parameter 'start_states': got {len(config.start_states)} numbers, expected {config.conditions}"
            f" conditions of {size} states"
        )
    if config.start_std and (len(config.start_std) != size or min(config.start_std) < 0.0):
        raise ConfigurationError(
            f"parameter 'start_std': got {list(config.start_std)}, expected {size} numbers of at least 0"
        )
    if not config.least_epsilon <= config.epsilon <= config.most_epsilon:
        raise ConfigurationError(
            f"parameter 'epsilon': got {config.epsilon}, expected least_epsilon {config.least_epsilon} to most_epsilon"
            f" {config.most_epsilon}"
        )
