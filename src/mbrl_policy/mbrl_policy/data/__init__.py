# SPDX-License-Identifier: Apache-2.0
"""Recordings as data: episodes with their labels, copies of bags, other formats."""
