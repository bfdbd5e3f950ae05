# SPDX-License-Identifier: Apache-2.0
"""Learned dynamics models, the rollout engine and the online learner."""
