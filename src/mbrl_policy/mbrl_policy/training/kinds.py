# SPDX-License-Identifier: Apache-2.0
"""The modules that register trainer kinds: one line for each."""

MODULES: tuple[str, ...] = (
    "mbrl_policy.imitation.behavioural_cloning",
    "mbrl_policy.imitation.dagger",
    "mbrl_policy.imitation.gated_dagger",
    "mbrl_policy.imitation.noise_injection",
    "mbrl_policy.imitation.noisy_teacher",
    "mbrl_policy.imitation.plato",
    "mbrl_policy.imitation.trajectory_ensemble",
    "mbrl_policy.irl.adversarial_training",
    "mbrl_policy.irl.guided_training",
    "mbrl_policy.training.backprop",
    "mbrl_policy.training.gps",
    "mbrl_policy.training.svg",
    "mbrl_policy.training.tracking",
)
