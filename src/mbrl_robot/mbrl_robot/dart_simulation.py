# SPDX-License-Identifier: Apache-2.0
"""A simulation of a robot file's SDF or URDF in DART, Gazebo's physics: what Gazebo would compute, without Gazebo.

DART itself runs in a process of its own (dart_process), since it comes with the system's Python.
"""

import math
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mbrl_core.robot_description.dart import GAZEBO_STEP, SYSTEM_PYTHON, as_old_sdf
from mbrl_core.robot_description.sdf_reader import read_sdf
from mbrl_core.robot_description.tree import SLIDE, DescriptionError, Joint
from mbrl_core.robot_description.urdf_reader import read_urdf
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array, SpecError
from mbrl_robot.dart_process import ADVANCE, RESET, DartProcess
from mbrl_robot.simulation_interface import SMALLEST_STEP, SimulationError, checked_command, checked_start

if TYPE_CHECKING:
    from mbrl_robot.simulated_sensors import Reading


class DartSimulation:
    """Simulates a description of the robot in DART; a `simulation_interface.Simulation`.

    Joints, limits, damping, dry friction and armature are those of the SDF or URDF, by default sdf/NAME.sdf beside the
    folder of the robot file's mjcf/NAME.xml. Efforts are clipped to the effort limits there. Joint limits are hard and
    not elastic, as Gazebo has them. The rotor of a joint behind another hinge (`armature.py`) adds its inertia
    exactly, but a stop of that joint takes the rotor's momentum without passing it on to what carries the joint.

    Raises SpecError when dartpy is missing, DART cannot read the description, its joints are not the robot file's, the
    control period is no multiple of the time step, or the robot is not driven by efforts or has sensors;
    FileNotFoundError when the description does not exist.
    """

    def __init__(
        self,
        robot: Robot,
        timestep: float = GAZEBO_STEP,
        description: Path | None = None,
        python: str = SYSTEM_PYTHON,
    ) -> None:
        if robot.estimation.sensors:
            raise SpecError(
                f"sensor {robot.estimation.sensors[0].name!r}: expected none, DART simulates joints alone here"
            )
        if robot.interface != "effort":
            raise SpecError(
                f"actions interface: got {robot.interface!r}, expected effort: DART has no other drives here"
            )
        self.robot = robot
        self.timestep = timestep
        self._python = python
        self._steps_per_control = round(robot.spec.period / timestep)
        if abs(self._steps_per_control * timestep - robot.spec.period) > 1e-9:
            raise SpecError(
                f"timestep: got {timestep:g} s, expected a whole part of control.period {robot.spec.period:g} s"
            )
        settings = robot.simulation
        self.sample_period = robot.spec.period / (settings.steps_per_control * settings.realtime_substeps)
        path = description or _default_description(robot)
        joints = _joints(robot, path)
        self._limits = np.array([joints[index].effort for index in robot.action_joints])
        self._path = path.resolve()
        self._content = {
            "joints": [joint.name for joint in joints],
            "armatures": [joint.armature for joint in joints],
            "lower": [_finite(joint.limits[0]) for joint in joints],
            "upper": [_finite(joint.limits[1]) for joint in joints],
            "timestep": timestep,
        }
        self._action_joints = list(robot.action_joints)
        self._efforts: Array = np.zeros(len(joints))
        self._request = struct.Struct(f"<{len(joints)}dId")
        self._state: Array = np.zeros(2 * len(joints))
        self._process = self._start()
        self.reset(self._state)

    @property
    def processes(self) -> tuple[int, ...]:
        """The id of DART's process."""
        return (self._process.pid,)

    @property
    def state(self) -> Array:
        """State [state_size] now, a copy; the last one that was heard of when DART's process is gone."""
        return self._state.copy()

    def readings(self) -> list["Reading"]:
        """None: it has no sensors."""
        return []

    @property
    def effort(self) -> Array:
        """SI effort [joints] that the actuators apply to each joint of the robot file."""
        return self._efforts.copy()

    def reset(self, start: np.random.Generator | Array) -> Array:
        """Puts the robot into an exact state [state_size], or one drawn from the robot file's start distribution.

        The command becomes zero. Returns the state. A process that is gone is started again. Raises ValueError on a
        wrong shape or a non-finite number, and SimulationError when DART cannot be started.
        """
        state = checked_start(self.robot, start)
        if not self._process.alive:
            self._process.close()
            try:
                self._process = self._start()
            except SpecError as error:
                raise SimulationError(str(error)) from None
        self.stop()
        self._take(self._process.ask(RESET, state.tobytes()))
        return self.state

    def stop(self) -> None:
        """Commands rest: no effort."""
        self._efforts[:] = 0.0

    def set_command(self, command: Array) -> bool:
        """Holds an SI effort [action_size] from now on. Returns true when it had to be clipped to the effort limits.

        Raises ValueError on a wrong shape or a non-finite number, and keeps the old command then.
        """
        values = checked_command(self.robot, command)
        clipped = np.clip(values, -self._limits, self._limits)
        self._efforts[self._action_joints] = clipped
        return bool(np.any(np.abs(values - clipped) > 1e-9 * np.abs(clipped)))

    def advance_time(self, seconds: float) -> None:
        """Integrates `seconds` exactly: whole time steps, then the rest as one shorter step.

        Raises SimulationError when the state is not finite afterwards, or DART's process is gone.
        """
        steps, rest = divmod(seconds, self.timestep)
        self._advance(int(steps), rest if rest > SMALLEST_STEP else 0.0)

    def step_control(self) -> Array:
        """Integrates exactly one control period and returns the state [state_size]. Raises SimulationError."""
        self._advance(self._steps_per_control, 0.0)
        return self.state

    def step(self, action: Array) -> Array:
        """Holds a normalised action [action_size], clipped to its limits, for one control period; returns the state."""
        actions = self.robot.spec.action
        self.set_command(np.clip(action, actions.lower, actions.upper) * np.array(actions.scale))
        return self.step_control()

    def close(self) -> None:
        """Ends DART's process."""
        self._process.close()

    def _start(self) -> DartProcess:
        with tempfile.TemporaryDirectory(prefix="mbrl_dart_") as folder:
            try:
                readable = as_old_sdf(self._path, Path(folder)) if self._path.suffix == ".sdf" else self._path
            except DescriptionError as error:
                raise SpecError(str(error)) from None
            return DartProcess(self._python, {**self._content, "path": str(readable)})

    def _advance(self, steps: int, rest: float) -> None:
        self._take(self._process.ask(ADVANCE, self._request.pack(*self._efforts, steps, rest)))

    def _take(self, answer: bytes) -> None:
        state = np.frombuffer(answer, dtype="<f8")
        if not np.isfinite(state).all():
            raise SimulationError(f"simulation of {self.robot.spec.name!r} diverged: state {state.tolist()}; reset it")
        self._state = state


def _default_description(robot: Robot) -> Path:
    if robot.mjcf is None:
        raise SpecError(f"robot {robot.spec.name!r}: names no mjcf to find its SDF by; name an SDF or URDF")
    return robot.mjcf.parent.parent / "sdf" / f"{robot.mjcf.stem}.sdf"


def _joints(robot: Robot, path: Path) -> list[Joint]:
    """The description's joints in the robot file's order."""
    readers = {".sdf": read_sdf, ".urdf": read_urdf}
    if path.suffix not in readers:
        raise SpecError(f"{path}: expected an .sdf or .urdf")
    if not path.is_file():
        raise FileNotFoundError(f"robot {robot.spec.name!r}: description {path} does not exist")
    try:
        found = {joint.name: joint for joint in readers[path.suffix](path).joints}
    except DescriptionError as error:
        raise SpecError(str(error)) from None
    names = [joint.name for joint in robot.joints]
    if sorted(found) != sorted(names):
        raise SpecError(f"{path}: moving joints {', '.join(found)}, expected {', '.join(names)}")
    for joint in robot.joints:
        kind = "linear" if found[joint.name].kind == SLIDE else "angular"
        if kind != joint.kind:
            raise SpecError(f"{path}: joint {joint.name!r} is {kind}, expected {joint.kind}")
    actions = robot.spec.action
    for name, interface, index in zip(actions.names, actions.interfaces, robot.action_joints, strict=True):
        if interface != "effort":
            raise SpecError(f"action {name!r}: interface {interface!r}; DART is driven by efforts only")
        if found[names[index]].effort == 0.0:
            raise SpecError(f"{path}: joint {names[index]!r} has an effort limit of 0, expected a motor's")
    return [found[name] for name in names]


def _finite(limit: float) -> float | None:
    return limit if math.isfinite(limit) else None
