# SPDX-License-Identifier: Apache-2.0
"""The cart-pole's URDF in DART, the physics of Gazebo, moves as the MJCF does in MuJoCo."""

import json
import subprocess

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray
from shipped_robots import FOLDERS, PACKAGE

MJCF, URDF = PACKAGE / "mjcf" / "cartpole.xml", FOLDERS.urdf("cartpole")
# Debian's python3-dartpy belongs to the system's Python, not to a virtual environment's.
SYSTEM_PYTHON = "/usr/bin/python3"
PUSH, PUSH_TIME, DURATION, SAMPLE_PERIOD = 60.0, 0.4, 1.0, 0.04  # N, s, s, s
START = (0.1, 2.0)

PROGRAM = """
import json, sys
import dartpy
urdf, step, push, push_time, duration, sample_period, slider, hinge = json.loads(sys.argv[1])
robot = dartpy.utils.DartLoader().parseSkeleton(urdf)
world = dartpy.simulation.World()
world.setGravity([0.0, 0.0, -9.81])
world.setTimeStep(step)
world.addSkeleton(robot)
robot.setPositions([slider, hinge])
samples = []
per_sample = round(sample_period / step)
for sample in range(round(duration / sample_period)):
    for _ in range(per_sample):
        robot.setForces([push if sample * sample_period < push_time - 1e-9 else 0.0, 0.0])
        world.step()
    samples.append([*robot.getPositions(), *robot.getVelocities()])
print(json.dumps(samples))
"""


def in_dart(step: float) -> NDArray[np.float64]:
    """States [samples, 4] in DART with the given time step in s."""
    arguments = json.dumps([str(URDF), step, PUSH, PUSH_TIME, DURATION, SAMPLE_PERIOD, *START])
    result = subprocess.run(
        [SYSTEM_PYTHON, "-c", PROGRAM, arguments], capture_output=True, text=True, timeout=60, check=False, env={}
    )
    assert result.returncode == 0, result.stderr
    return np.array(json.loads(result.stdout))


def in_mujoco() -> NDArray[np.float64]:
    """States [samples, 4] in MuJoCo."""
    model = mujoco.MjModel.from_xml_path(str(MJCF))
    data = mujoco.MjData(model)
    data.qpos[:] = START
    samples = []
    for sample in range(round(DURATION / SAMPLE_PERIOD)):
        data.ctrl[0] = PUSH / 100.0 if sample * SAMPLE_PERIOD < PUSH_TIME - 1e-9 else 0.0
        mujoco.mj_step(model, data, round(SAMPLE_PERIOD / model.opt.timestep))
        samples.append([*data.qpos, *data.qvel])
    return np.array(samples)


def dart_missing() -> bool:
    """Whether the system's Python has no dartpy."""
    try:
        result = subprocess.run([SYSTEM_PYTHON, "-c", "import dartpy"], capture_output=True, check=False, env={})
    except FileNotFoundError:
        return True
    return result.returncode != 0


@pytest.mark.skipif(dart_missing(), reason="dartpy is missing (Debian: python3-dartpy python3-numpy)")
def test_dart_converges_to_mujoco() -> None:
    expected = in_mujoco()
    assert np.ptp(expected[:, 1]) > 1.0, "the pole has to swing"
    coarse, fine = (np.abs(in_dart(step) - expected).max() for step in (0.002, 0.0002))
    assert coarse < 0.02, "at Gazebo's time step"
    # DART is of first order: a tenth of the step leaves a tenth of the error when the models are the same.
    assert fine < 0.15 * coarse
