# SPDX-License-Identifier: Apache-2.0
"""Set-up of the private ROS 2 environment. Standard library only: it runs before anything is installed."""
