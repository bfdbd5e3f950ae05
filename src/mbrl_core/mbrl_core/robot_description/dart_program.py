# SPDX-License-Identifier: Apache-2.0
"""Moves a URDF or SDF in DART, Gazebo's physics. A program for the Python that has dartpy, not a module of the suite.

Reads one JSON object from standard input and writes one to standard output; dart.py says what is in them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import dartpy


def main() -> None:
    """Runs what is asked for on standard input."""
    request = json.load(sys.stdin)
    robot = read(request["path"])
    for index in range(robot.getNumJoints()):
        robot.getJoint(index).setLimitEnforcement(False)
    for index in range(robot.getNumDofs()):
        robot.getDof(index).setCoulombFriction(0.0)
    names = [robot.getDof(index).getName() for index in range(robot.getNumDofs())]
    if sorted(names) != sorted(request["joints"]):
        raise SystemExit(f"{request['path']}: DART finds joints {names}, expected {request['joints']}")
    order = [names.index(name) for name in request["joints"]]
    answer = {
        "configurations": [_dynamics(robot, order, positions) for positions in request["configurations"]],
        "motions": [
            [_states(robot, order, motion, step, request) for step in request["steps"]] for motion in request["motions"]
        ],
    }
    json.dump(answer, sys.stdout)


def read(path: str) -> Any:
    """DART's skeleton of a URDF or SDF. Raises SystemExit where it cannot read it."""
    if path.endswith(".urdf"):
        robot = dartpy.utils.DartLoader().parseSkeleton(path)
    else:
        robot = dartpy.utils.SdfParser.readSkeleton(path)
    if robot is None:
        raise SystemExit(f"{path}: DART cannot read it")
    return robot


def _dynamics(robot: Any, order: list[int], positions: list[float]) -> list[Any]:
    """Mass matrix and gravity, in the order of the request."""
    robot.setGravity([0.0, 0.0, -9.81])
    _set(robot.setPositions, order, positions)
    mass, gravity = robot.getMassMatrix(), robot.getGravityForces()
    return [[[float(mass[i, j]) for j in order] for i in order], [float(gravity[i]) for i in order]]


def _states(robot: Any, order: list[int], motion: dict[str, Any], step: float, request: dict[str, Any]) -> list[Any]:
    """The states after every control period, positions then velocities."""
    world = dartpy.simulation.World()
    world.setGravity([0.0, 0.0, -9.81])
    world.setTimeStep(step)
    world.addSkeleton(robot)
    _set(robot.setPositions, order, motion["positions"])
    _set(robot.setVelocities, order, motion["velocities"])
    states = []
    for efforts in motion["efforts"]:
        for _ in range(round(request["period"] / step)):
            _set(robot.setForces, order, efforts)
            for index, armature in zip(order, request["armatures"], strict=True):
                if armature:
                    add_inertia(robot.getDof(index), armature, step)
            world.step()
        positions, velocities = robot.getPositions(), robot.getVelocities()
        states.append([float(values[index]) for values in (positions, velocities) for index in order])
    world.removeSkeleton(robot)
    return states


def _set(setter: Any, order: list[int], values: list[float]) -> None:
    whole = [0.0] * len(order)
    for index, value in zip(order, values, strict=True):
        whole[index] = value
    setter(whole)


def add_inertia(degree: Any, armature: float, step: float) -> None:
    """DART has no armature. Its springs are implicit: one of stiffness K adds K step^2 to the inertia of the joint and
    pulls with K (rest - position - step velocity), so this one only adds inertia."""
    degree.setSpringStiffness(armature / step**2)
    degree.setRestPosition(degree.getPosition() + step * degree.getVelocity())


if __name__ == "__main__":
    main()
