# SPDX-License-Identifier: Apache-2.0
"""The modules that register trainer kinds: one line for each."""

MODULES: tuple[str, ...] = ("mbrl_policy.training.gps",)
