# SPDX-License-Identifier: Apache-2.0
"""Planners: model predictive control by optimising action sequences through a dynamics model."""
