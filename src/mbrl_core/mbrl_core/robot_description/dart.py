# SPDX-License-Identifier: Apache-2.0
"""Compares the motion of a URDF or SDF in DART, Gazebo's physics, with that of the MJCF in MuJoCo.

The two integrate differently, so equal models differ by both integrators' errors, and these are found by halving steps.
DART's is of first order: with steps h, h/2, h/4 and h/8 the errors in h and in h^2 are eliminated (Richardson). What
eliminating h^2 changed bounds what is left. MuJoCo's Runge-Kutta is of fourth order: its error is below what
halving its step changes. The sum of both is the tolerance, per state variable.
"""

import json
import math
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np

from mbrl_core.mjcf import load_mjcf
from mbrl_core.robot_description.armature import carry
from mbrl_core.robot_description.mujoco_tree import CompiledRobot, mass_and_gravity_of_mujoco
from mbrl_core.robot_description.tree import SLIDE, DescriptionError
from mbrl_core.robot_description.xml_reading import parse
from mbrl_core.specs import Array

SYSTEM_PYTHON = "/usr/bin/python3"
MISSING = "dartpy is missing for {python}: on Debian or Ubuntu `apt-get install python3-dartpy python3-numpy`"
PROGRAM = Path(__file__).with_name("dart_program.py")
SERVER = Path(__file__).with_name("dart_server.py")
GAZEBO_STEP = 0.002  # s, that of sdf/mbrl.world.sdf
STEPS = tuple(GAZEBO_STEP / 2**level for level in range(4))
MUJOCO_SUBSTEPS = (8, 16)
DURATION = 2.0  # s
ROUNDING = 1e-9  # of a state's range: what thousands of steps in double precision may add up to
# Of the motors' limits. Drives have torque to spare: more of it, and two seconds of motion are chaos.
SHARE_OF_EFFORT = {"effort": 0.5, "velocity": 0.05, "position": 0.05}
DYNAMICS_TOLERANCE = 1e-6
CONFIGURATIONS = 16


@dataclass(frozen=True)
class Motion:
    """A start, positions and velocities [joints], and SI efforts [control periods, joints]."""

    name: str
    positions: Array
    velocities: Array
    efforts: Array


@dataclass(frozen=True)
class MotionReport:
    """Differences of one motion, each the worst over time and state variables, in shares of the variable's range.

    `at_gazebo_step`: DART as Gazebo steps it. `difference`: without DART's errors in h and h^2. `tolerance`: the
    integrators' errors. `excess`: the worst of difference / tolerance of a variable, `variable`; at most 1 agrees.
    """

    motion: str
    at_gazebo_step: float
    difference: float
    tolerance: float
    excess: float
    variable: str


@dataclass(frozen=True)
class DartReport:
    """What DART makes of one file. `dynamics` is the largest relative difference of mass matrix and gravity."""

    path: Path
    reference: Path
    dynamics: float
    motions: tuple[MotionReport, ...] = field(default=())

    def message(self) -> str:
        """The first difference; empty where there is none. NaN is one."""
        if not self.dynamics <= DYNAMICS_TOLERANCE:
            return (
                f"{self.path}: mass matrix or gravity in DART: {self.dynamics:.1e} off those of {self.reference.name},"
                f" relative, expected at most {DYNAMICS_TOLERANCE:g}"
            )
        for motion in self.motions:
            if not motion.excess <= 1.0:
                return (
                    f"{self.path}: {motion.motion} motion in DART: {motion.variable} is {motion.excess:.1f} times as"
                    f" far from {self.reference.name} in MuJoCo as the integrators' errors explain"
                )
        return ""


def available(python: str = SYSTEM_PYTHON) -> bool:
    """Whether this Python has dartpy."""
    try:
        # An environment's variables would lead another Python astray.
        done = subprocess.run([python, "-c", "import dartpy"], capture_output=True, check=False, env={})
    except OSError:
        return False
    return done.returncode == 0


def compare_in_dart(compiled: CompiledRobot, path: Path, python: str = SYSTEM_PYTHON, seed: int = 0) -> DartReport:
    """Moves a .urdf or .sdf in DART and the MJCF in MuJoCo, without and with efforts, for 2 s.

    Raises DescriptionError where dartpy is missing or cannot read the file, FileNotFoundError.
    """
    if not available(python):
        raise DescriptionError(MISSING.format(python=python))
    joints = [joint.name for joint in compiled.robot.joints]
    armatures = {joint.name: joint.armature for joint in carry(compiled.tree).joints}
    configurations = np.random.default_rng(seed).uniform(-math.pi, math.pi, (CONFIGURATIONS, len(joints)))
    motions = motions_of(compiled)
    request = {
        "joints": joints,
        "armatures": [armatures[name] for name in joints],
        "period": compiled.robot.spec.period,
        "steps": STEPS,
        "configurations": configurations.tolist(),
        "motions": [
            {name: getattr(motion, name).tolist() for name in ("positions", "velocities", "efforts")}
            for motion in motions
        ],
    }
    answer = _run(request, path, python)
    reports = [
        report_of(compiled, motion, [np.array(states) for states in runs])
        for motion, runs in zip(motions, answer["motions"], strict=True)
    ]
    dynamics = _dynamics(compiled, configurations, answer["configurations"], np.array(request["armatures"]))
    return DartReport(path, compiled.tree.source, dynamics, tuple(reports))


def motions_of(compiled: CompiledRobot) -> list[Motion]:
    """A passive motion and one under waves of effort, from the same start."""
    robot, mjcf = compiled.robot, compiled.mjcf
    limits = np.array([joint.position_limits for joint in robot.joints])
    limited = np.isfinite(limits).all(axis=1)
    count = len(robot.joints)
    # Away from zero, where much is symmetric, and different for each joint.
    positions: Array = 1.0 + 0.5 * np.arange(count, dtype=np.float64)
    positions[limited] = limits[limited, 0] + 0.65 * np.ptp(limits[limited], axis=1)
    velocities = np.where(np.arange(count) % 2 == 0, 0.5, -0.5)
    periods = round(DURATION / robot.spec.period)
    times = np.arange(periods)[:, None] * robot.spec.period
    waves = np.cos(2.0 * math.pi * times * (1.0 + 0.3 * np.arange(robot.spec.action.size)))
    efforts = np.zeros((periods, count))
    efforts[:, list(robot.action_joints)] = SHARE_OF_EFFORT[robot.interface] * mjcf.largest_efforts * waves
    passive = Motion("passive", positions, velocities, np.zeros((periods, count)))
    return [passive, replace(passive, name="forced", efforts=efforts)]


def in_mujoco(compiled: CompiledRobot, motion: Motion, substeps: int) -> Array:
    """States [control periods, 2 joints] after every control period, its time steps cut into `substeps`.

    By Runge-Kutta of fourth order, whatever the MJCF asks for. Joint limits and dry friction are off: how they yield is
    each simulator's own.
    """
    mjcf = load_mjcf(compiled.robot, substeps)
    mjcf.model.opt.integrator = mujoco.mjtIntegrator.mjINT_RK4
    mjcf.model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_LIMIT)
    mjcf.model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_FRICTIONLOSS)
    # The drives of a velocity or a position are no part of the robot that is compared.
    mjcf.model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)
    data = mujoco.MjData(mjcf.model)
    data.qpos[mjcf.positions], data.qvel[mjcf.velocities] = motion.positions, motion.velocities
    states = []
    for efforts in motion.efforts:
        data.qfrc_applied[mjcf.velocities] = efforts
        mujoco.mj_step(mjcf.model, data, mjcf.steps_per_control)
        states.append(np.concatenate([data.qpos[mjcf.positions], data.qvel[mjcf.velocities]]))
    return np.array(states)


def report_of(compiled: CompiledRobot, motion: Motion, runs: list[Array]) -> MotionReport:
    """Compares runs [control periods, 2 joints] of DART, one for each of STEPS, with MuJoCo."""
    first = [2.0 * fine - coarse for coarse, fine in pairwise(runs)]
    second = [(4.0 * fine - coarse) / 3.0 for coarse, fine in pairwise(first)]
    coarse, expected = (in_mujoco(compiled, motion, substeps) for substeps in MUJOCO_SUBSTEPS)
    scale = np.ptp(expected, axis=0)
    worst = [
        np.abs(values).max(axis=0) / scale
        for values in (runs[0] - expected, second[-1] - expected, second[-1] - first[-1], coarse - expected)
    ]
    tolerance = worst[2] + worst[3] + ROUNDING
    place = int(np.argmax(worst[1] / tolerance))
    return MotionReport(
        motion.name,
        at_gazebo_step=float(worst[0].max()),
        difference=float(worst[1].max()),
        tolerance=float(tolerance.max()),
        excess=float((worst[1] / tolerance)[place]),
        variable=compiled.robot.spec.state.names[place],
    )


def _dynamics(compiled: CompiledRobot, configurations: Array, found: list[Any], armatures: Array) -> float:
    worst = 0.0
    weight = 9.81 * sum(body.mass for body in compiled.tree.bodies)
    size = max(float(np.linalg.norm(body.centre - compiled.tree.joints[0].anchor)) for body in compiled.tree.bodies)
    kinds = {joint.name: joint.kind for joint in compiled.tree.joints}
    levers = [1.0 if kinds[joint.name] == SLIDE else size for joint in compiled.robot.joints]
    for positions, (mass, gravity) in zip(configurations, found, strict=True):
        expected_mass, expected_gravity = mass_and_gravity_of_mujoco(compiled.mjcf, positions)
        scale = np.sqrt(np.outer(np.diag(expected_mass), np.diag(expected_mass)))
        worst = max(worst, float((np.abs(np.array(mass) + np.diag(armatures) - expected_mass) / scale).max()))
        worst = max(worst, float((np.abs(np.array(gravity) - expected_gravity) / (weight * np.array(levers))).max()))
    return worst


def _run(request: dict[str, Any], path: Path, python: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        readable = as_old_sdf(path, Path(folder)) if path.suffix == ".sdf" else path.resolve()
        content = json.dumps({**request, "path": str(readable)})
        done = subprocess.run(
            [python, "-I", str(PROGRAM)], input=content, capture_output=True, text=True, check=False, env={}
        )
    if done.returncode:
        raise DescriptionError(f"{path}: {done.stderr.strip() or f'DART ended with status {done.returncode}'}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def as_old_sdf(path: Path, folder: Path) -> Path:
    """DART's own reader knows SDF up to 1.6. What the export writes means the same there, but for shapes.

    Raises DescriptionError where a pose or an axis says what it is relative to, which is newer.
    """
    root = parse(path)
    for element in root.xml.iter():
        if element.get("relative_to") or element.get("expressed_in"):
            raise root.error("relative_to, expressed_in: DART's own reader of SDF knows neither")
        for visual in element.findall("visual"):
            element.remove(visual)
    root.xml.set("version", "1.6")
    old = folder / path.name
    old.write_bytes(ElementTree.tostring(root.xml))
    return old
