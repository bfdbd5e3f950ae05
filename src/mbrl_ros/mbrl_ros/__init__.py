# SPDX-License-Identifier: Apache-2.0
"""Shared plumbing of the nodes: parameters, quality of service, message conversion, lifecycle, diagnostics."""
