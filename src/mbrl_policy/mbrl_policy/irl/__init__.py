# SPDX-License-Identifier: Apache-2.0
"""Inverse reinforcement learning: what somebody wanted who was seen acting."""
