# SPDX-License-Identifier: Apache-2.0
"""Planners that optimise action sequences through a dynamics model."""
