# SPDX-License-Identifier: Apache-2.0
"""Policies that imitate planners: DAgger, PLATO, noisy teachers, and trajectories for many models at once."""
