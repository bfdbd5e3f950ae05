# SPDX-License-Identifier: Apache-2.0
"""The robot's control clock and its backends."""
