# SPDX-License-Identifier: Apache-2.0
"""Parameters of guided cost learning."""

from dataclasses import dataclass

from mbrl_core.config import parameter
from mbrl_policy.irl.reward_model import RewardConfig

OBJECTIVES = ("guided_cost", "adversarial")


@dataclass(frozen=True)
class GuidedCostConfig(RewardConfig):
    """Parameters of guided cost learning."""

    objective: str = parameter("guided_cost", "what the reward is fitted by, see the classes", choices=OBJECTIVES)
    horizon: int = parameter(25, "steps of a window of a demonstration; about what will be planned with it", minimum=2)
    windows: int = parameter(4, "windows of each demonstration, the first at its start", minimum=1, maximum=1000)
    samples: int = parameter(8, "trajectories of each window's proposal in an iteration", minimum=1, maximum=10_000)
    episode_weight: float = parameter(
        1.0, "of the likelihood of whole episodes against that of windows, per step", minimum=0.0
    )
    episode_memory: int = parameter(100, "newest episodes of the learner that are kept", minimum=1, maximum=10_000)
    memory: int = parameter(6, "proposals of each window that are kept with their samples", minimum=1, maximum=1000)
    candidates: int = parameter(64, "random action sequences that a window is searched by", minimum=1, maximum=10_000)
    guide_iterations: int = parameter(3, "iLQR iterations of the proposals in an iteration", minimum=1, maximum=100)
    gradient_steps: int = parameter(40, "of Adam on the reward in an iteration", minimum=1, maximum=100_000)
    batch_windows: int = parameter(16, "windows a gradient step", minimum=1, maximum=100_000)
    iterations: int = parameter(30, "after which the learning rate has fallen to nothing", minimum=1, maximum=100_000)
    learning_rate: float = parameter(1e-3, "of Adam, at first; falls as a cosine", minimum=1e-7, maximum=1.0)
    weight_decay: float = parameter(
        1.0, "pull of every weight towards zero, as AdamW has it: without it networks learn demonstrations by heart",
        minimum=0.0,
    )  # fmt: skip
    rate_weight: float = parameter(0.0, "of the paper's regulariser of locally constant rate", minimum=0.0)
    monotone_weight: float = parameter(0.0, "of the paper's regulariser of demonstrations that get better", minimum=0.0)
    least_effective: float = parameter(
        0.0, "least effective share of a window's samples: importance weights are flattened until it is reached. More"
        " than a few samples' worth weighs in trajectories that the reward already refuses, and its scale runs away",
        minimum=0.0, maximum=1.0,
    )  # fmt: skip
    least_noise: float = parameter(0.05, "least std of a proposal's actions, half ranges", minimum=1e-4, maximum=1.0)
    most_noise: float = parameter(0.5, "most std of a proposal's actions, half ranges", minimum=1e-4, maximum=10.0)
    limit_weight: float = parameter(20.0, "price of actions beyond the limits, see `Guide`", minimum=0.0)
    averaging: float = parameter(
        0.998,
        "decay of the average over gradient steps that the reward's weights are told as: the weights themselves go"
        " round what they look for, since every step answers the newest samples",
        minimum=0.0,
        maximum=0.9999,
    )
    discount: float = parameter(0.99, "gamma of the adversarial objective's shaping", minimum=0.0, maximum=1.0)
