# SPDX-License-Identifier: Apache-2.0
"""Training of policies: rollouts, and the algorithms by name. Knows no ROS."""

from mbrl_policy.training.algorithm import (
    TRAINERS,
    Progress,
    TrainerConfig,
    TrainingAlgorithm,
    TrainingError,
    TrainingInterrupted,
    make_trainer,
    save_trainer,
)
from mbrl_policy.training.rollouts import Rollout, RolloutError, TrainingRobot, transitions_of
from mbrl_policy.training.simulated import SimulatedRobot

__all__ = [
    "TRAINERS",
    "Progress",
    "Rollout",
    "RolloutError",
    "SimulatedRobot",
    "TrainerConfig",
    "TrainingAlgorithm",
    "TrainingError",
    "TrainingInterrupted",
    "TrainingRobot",
    "make_trainer",
    "save_trainer",
    "transitions_of",
]
