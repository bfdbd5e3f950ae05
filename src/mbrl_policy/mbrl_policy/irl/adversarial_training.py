# SPDX-License-Identifier: Apache-2.0
"""Adversarial inverse reinforcement learning as a trainer."""

from dataclasses import dataclass

from mbrl_core.config import parameter
from mbrl_policy.irl.guided_config import OBJECTIVES
from mbrl_policy.irl.guided_training import GuidedCostTraining, GuidedTrainingConfig
from mbrl_policy.training.algorithm import TRAINERS


@dataclass(frozen=True)
class AdversarialTrainingConfig(GuidedTrainingConfig):
    """Parameters of adversarial inverse reinforcement learning on a robot."""

    objective: str = parameter("adversarial", "what the reward is fitted by, see the classes", choices=OBJECTIVES)


@TRAINERS.register("adversarial_irl", AdversarialTrainingConfig)
class AdversarialTraining(GuidedCostTraining):
    """Fu, Luo and Levine 2018, "Learning robust rewards with adversarial inverse reinforcement learning"
    (arXiv:1710.11248): everything as in `GuidedCostTraining`, but the samples train the discriminator

        D = exp f / (exp f + q(u | x)),   f = r(u, x') + gamma h(x') - h(x)

    and r is the reward.
    """

    kind = "adversarial_irl"
