# SPDX-License-Identifier: Apache-2.0
"""Trajectory ensembles: a motion that is planned for many versions of the robot's masses and contacts at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.policies import TimeVaryingLinearPolicy
from mbrl_core.random_streams import generator, stream_seed
from mbrl_core.specs import Array, SpecError
from mbrl_dynamics.randomised import RandomisationConfig, RandomisedSimulations
from mbrl_planner.noise import coloured_noise
from mbrl_policy.imitation.ensemble_trajectory import EnsembleProblem, EnsembleTrajectory
from mbrl_policy.training import (
    TRAINERS,
    Progress,
    TrainerConfig,
    TrainingAlgorithm,
    TrainingError,
    TrainingInterrupted,
    TrainingRobot,
)

FACTOR, LEAST_DAMPING = 4.0, 1e-6


@dataclass(frozen=True)
class TrajectoryEnsembleConfig(RandomisationConfig, TrainerConfig):
    """Parameters of trajectory ensembles; spreads are those of the versions."""

    steps: int = parameter(10, "iLQR steps an iteration", minimum=1, maximum=10_000)
    feedback: bool = parameter(True, "gains about the mean of the versions' states; false: controls alone")
    start_spread: float = parameter(
        1.0, "spread of the versions' starts, as a share of the robot's start distribution's", minimum=0.0, maximum=10.0
    )
    candidates: int = parameter(64, "control trajectories of noise that the first one is the best of", minimum=1)
    initial_std: float = parameter(0.5, "of that noise, share of half the action range", minimum=0.0)
    noise_exponent: float = parameter(
        2.0, "that noise falls as 1 / frequency^exponent; 0 is white", minimum=0.0, maximum=10.0
    )
    regularisation: float = parameter(
        1e-2, "first weight of a step's square, actions in half ranges; raised when a step fails", minimum=0.0
    )
    most_regularisation: float = parameter(1e8, "weight at which an iteration gives up", minimum=1e-3)
    evaluation_rollouts: int = parameter(2, "episodes on the robot after each iteration", minimum=1, maximum=10_000)


@TRAINERS.register("trajectory_ensemble", TrajectoryEnsembleConfig)
class TrajectoryEnsemble(TrainingAlgorithm):
    """Mordatch, Lowrey and Todorov 2015, "Ensemble-CIO: Full-body dynamic motion planning that transfers to physical
    humanoids": the mean of the return over perturbed models, each with a trajectory of its own, is maximised over one
    control trajectory,

        u_t = ubar_t + K_t (x_t - xbar_t),   xbar_t the mean of the versions' states,

    by iLQR (`EnsembleProblem`) in place of the paper's contact-invariant optimisation. The models are those of the
    robot's MJCF with other masses, damping, efforts, friction and contacts. The policy is of kind
    `time_varying_linear`, as long as the robot's episodes; settings of another policy are without effect. Rewards after
    a terminal state count as zero. `Progress.information` has the mean and the least return over the versions.

    Raises ConfigurationError where the robot has no MJCF that can be read.
    """

    kind = "trajectory_ensemble"
    config: TrajectoryEnsembleConfig

    def __init__(self, config: Any, robot: TrainingRobot, seed: int, **sources: Any) -> None:
        super().__init__(config, robot, seed, **sources)
        try:
            simulations = RandomisedSimulations(robot.robot, config, seed)
        except (SpecError, FileNotFoundError, ValueError) as error:
            raise ConfigurationError(f"trainer 'trajectory_ensemble': needs the robot's MJCF: {error}") from None
        self.problem = EnsembleProblem(simulations, robot.task, self._starts(), config.feedback)
        self.damping = config.regularisation
        self.trajectory: EnsembleTrajectory | None = None

    def _starts(self) -> Array:
        """[members, n]: the middle of the robot's start distribution, the versions' own around it."""
        start, share = self.robot.robot.start, self.config.start_spread
        random = generator(self.seed, 0, 0, "ensemble_starts")
        mean = np.array(start.position_mean + start.velocity_mean)
        spread = share * np.array(start.position_std + start.velocity_std)
        noise = random.standard_normal((self.config.members, len(mean)))
        noise[0] = 0.0
        limits = self.robot.spec.state
        return np.clip(mean + spread * noise, limits.lower, limits.upper)

    def _iterate(self, keep_going: Callable[[], bool]) -> Progress:
        trajectory = self.trajectory or self._first()
        for _ in range(self.config.steps):
            if not keep_going():
                raise TrainingInterrupted
            better = self.problem.improved(trajectory, self.damping)
            if better is not None:
                trajectory, self.damping = better, max(self.damping / FACTOR, LEAST_DAMPING)
                continue
            self.damping = max(self.damping, LEAST_DAMPING) * FACTOR
            if self.damping > self.config.most_regularisation:
                self.damping = self.config.most_regularisation
                break
        if not np.isfinite(trajectory.mean_return):
            raise TrainingError("ensemble: the best control trajectory leaves some version without finite numbers")
        self.trajectory = trajectory
        policy = TimeVaryingLinearPolicy.from_arrays(
            self.robot.spec, trajectory.actions, trajectory.gains, trajectory.reference[:-1]
        )
        returns = []
        for index in range(self.config.evaluation_rollouts):
            if not keep_going():
                raise TrainingInterrupted
            seed = stream_seed(self.seed, 0, index, "evaluation")
            returns.append(self.robot.rollout(policy, seed=seed).total_return)
            self.rollouts += 1
        self._consider(policy, float(np.mean(returns)))
        information = {
            "ensemble_return": trajectory.mean_return, "least_return": float(trajectory.returns.min()),
            "regularisation": self.damping,
        }  # fmt: skip
        return Progress(0, float(np.mean(returns)), information=information)

    def _first(self) -> EnsembleTrajectory:
        """The best of some control trajectories of noise and none, without feedback."""
        config, spec, steps = self.config, self.robot.spec, self.robot.steps
        noise = coloured_noise(self.random("starts"), config.noise_exponent, config.candidates, steps, spec.action.size)
        lower, upper = self.problem.lower, self.problem.upper
        wanted = 0.5 * (lower + upper) + config.initial_std * 0.5 * (upper - lower) * noise.astype(np.float64)
        candidates = np.concatenate([np.zeros_like(wanted[:1]), wanted]).clip(lower, upper)
        found = self.problem.rolled_out(candidates, np.zeros((steps, spec.action.size, spec.state.size)))
        return max(found, key=lambda one: one.mean_return)

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        information = {"damping": self.damping}
        if self.trajectory is None:
            return {}, information
        names = ("actions", "gains")
        return {name: getattr(self.trajectory, name).copy() for name in names}, information

    def _restore(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        damping, trajectory = float(information["damping"]), None
        if arrays:
            spec, steps = self.robot.spec, self.robot.steps
            actions, gains = np.array(arrays["actions"]), np.array(arrays["gains"])
            expected = (steps, spec.action.size), (steps, spec.action.size, spec.state.size)
            if (actions.shape, gains.shape) != expected:
                raise CheckpointError(
                    f"trainer {self.kind!r}: got actions {actions.shape} and gains {gains.shape}, expected"
                    f" {expected[0]} and {expected[1]}"
                )
            known = self.trajectory
            same = known is not None and np.array_equal(known.actions, actions) and np.array_equal(known.gains, gains)
            trajectory = known if same else self.problem.rolled_out(actions[None], gains)[0]
        self.damping, self.trajectory = damping, trajectory
