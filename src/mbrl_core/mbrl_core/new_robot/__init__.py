# SPDX-License-Identifier: Apache-2.0
"""Makes a robot file, a first task and their neighbours from an MJCF or URDF that the suite has never seen."""
