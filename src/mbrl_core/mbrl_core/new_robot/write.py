# SPDX-License-Identifier: Apache-2.0
"""Writes what a new robot needs, and tries it before anybody else does."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mbrl_core.config import load_preset
from mbrl_core.mjcf import load_mjcf
from mbrl_core.new_robot.descriptions import write_descriptions
from mbrl_core.new_robot.figures import figures_of
from mbrl_core.new_robot.first_task import FirstTask, first_task
from mbrl_core.new_robot.motions import bold_share
from mbrl_core.new_robot.robot_yaml import robot_text, task_text, tuning_text
from mbrl_core.new_robot.source import NewRobotError, read_source
from mbrl_core.new_robot.time_step import TOO_MUCH, time_step_error
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.tasks import task_file_of, task_of_preset


@dataclass(frozen=True)
class Wishes:
    """What the user said about it; nothing of it is needed. `period` in s, `goal` in m, `joint_goals` in m or rad."""

    period: float | None = None
    tip: str = ""
    goal: tuple[float, ...] = ()
    joint_goals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NewRobot:
    """What was written; `remarks` are for people."""

    robot: Robot
    task: FirstTask
    files: tuple[Path, ...]
    remarks: tuple[str, ...]


def write_robot(
    name: str, mjcf: Path, folder: Path, wishes: Wishes, origin: str, speeds: Mapping[str, float] | None = None
) -> NewRobot:
    """Writes NAME.yaml, NAME_task.yaml and NAME_tuning.yaml into `folder`, and reads them again as nodes do.

    Raises what `read_source` raises; NewRobotError, ConfigurationError or SpecError where the robot cannot be described
    or simulated.
    """
    source = read_source(mjcf)
    interfaces = {actuator.interface for actuator in source.actuators}
    if len(interfaces) > 1:
        raise NewRobotError(f"{mjcf}: its actuators are of kinds {', '.join(sorted(interfaces))}, expected one kind")
    figures = figures_of(source, wishes.period)
    task = first_task(source, figures, wishes.tip, wishes.goal, wishes.joint_goals)
    task = replace(task, explores=min(task.explores, bold_share(source, figures, task.steps)))
    error = time_step_error(source, figures)
    remarks = []
    if error > TOO_MUCH:
        timestep = source.model.opt.timestep
        remarks.append(
            f"the MJCF's time step of {timestep:g} s is coarse for these motors: {timestep / 4.0:g} s moves the robot"
            f" by {100.0 * error:.2g} % of its range after 0.25 s; take that, or the integrator implicitfast"
        )
    folder.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(mjcf.resolve(), folder.resolve())
    texts = {
        folder / f"{name}.yaml": robot_text(name, relative, origin, source, figures, task, dict(speeds or {}), error),
        folder / f"{name}_task.yaml": task_text(name, task),
        folder / f"{name}_tuning.yaml": tuning_text(name, source, figures, task),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    robot = load_robot(folder / f"{name}.yaml")
    load_mjcf(robot)
    task_of_preset(load_preset(task_file_of(folder / f"{name}.yaml", robot.task), "task")).check_robot(robot.spec)
    descriptions, more = write_descriptions(robot, folder)
    return NewRobot(robot, task, (*texts, *descriptions), (*remarks, *more))
