# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a machine or a running system, in plain words."""
