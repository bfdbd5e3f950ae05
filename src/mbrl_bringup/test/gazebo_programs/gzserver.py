# SPDX-License-Identifier: Apache-2.0
"""Stands in for ros_gz_sim's `gzserver`: an empty world into which one robot can be spawned."""

import os
import runpy
import sys

robot, program = os.environ["STAND_IN_ROBOT_FILE"], os.environ["STAND_IN_PROGRAM"]
sys.argv += ["-p", f"robot_file:={robot}", "-p", "spawned:=true", "-p", "transport:=/gz_transport"]
runpy.run_path(program, run_name="__main__")
