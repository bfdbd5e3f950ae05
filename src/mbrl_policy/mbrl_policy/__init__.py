# SPDX-License-Identifier: Apache-2.0
"""Exploration, policies and the recorder."""
