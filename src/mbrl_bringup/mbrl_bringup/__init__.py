# SPDX-License-Identifier: Apache-2.0
"""Command line, launch runner and experiments of the suite."""
