# SPDX-License-Identifier: Apache-2.0
"""The text of a robot file, a task preset and a tuning file, each guess with a comment beside it."""

import math
from collections.abc import Iterable

from mbrl_core.new_robot.figures import Figures
from mbrl_core.new_robot.first_task import FirstTask
from mbrl_core.new_robot.source import Source
from mbrl_core.specs import Array

LICENCE_FREE_HEAD = "# Written by `./mbrl robot new {name}` from {source}. It is yours: change what is guessed.\n"
TIME_CONSTANT = 0.5  # s in which the safe action brings a joint to rest
STABLE = 0.5  # share of a joint's speed that the safe action may take off within one control period
SWINGING_STD = 0.1  # of start positions, rad or m
LARGE_STATE = 8  # states from which on a model is trained longer, as that of the shipped arm


def robot_text(
    name: str,
    mjcf: str,
    origin: str,
    source: Source,
    figures: Figures,
    task: FirstTask,
    speeds: dict[str, float],
    error: float,
) -> str:
    """The robot file. `mjcf` is relative to it, `origin` what the user gave; `speeds` are velocity limits by joint;
    `error` is that of the time step."""
    interface = source.actuators[0].interface
    lines = [
        LICENCE_FREE_HEAD.format(name=name, source=origin).rstrip(),
        f"name: {name}",
        f"mjcf: {_text(mjcf)}",
        f"task: {name}_task.yaml            # beside this file",
        f"episode_steps: {task.steps}                 # guessed: {task.steps * figures.period:g} s",
        "control:",
        f"  period: {figures.period:g}                  # s; guessed from inertias, efforts and gravity;"
        f" {figures.steps} time steps",
        "  command_offset: 0.0",
        "  max_open_loop_steps: 3",
        f"  command_topic: {interface}_controller/commands",
        "  chain: [planner]",
        "joints:",
        *(_joint(source, number, speeds) for number in range(len(source.joints))),
        "actions:",
        *_actions(source, figures),
        *_safe_action(source, figures, interface),
        *_guard(source, figures),
        *_start(source, figures, task),
        "simulation:",
        f"  # A quarter of the MJCF's time step moves it by {100.0 * error:.2g} % of its range after 0.25 s of random"
        " actions.",
        f"  steps_per_control: {figures.steps}",
        "  realtime_substeps: 1",
        f"  command_timeout: {max(0.1, 5.0 * figures.period):g}           # s",
    ]
    return "\n".join(lines) + "\n"


def _text(path: str) -> str:
    return f'"{path}"' if any(character in path for character in " #:'\"") else path


def _number(value: float) -> str:
    return f"{value:.6g}" if not float(f"{value:.6g}").is_integer() else f"{float(f'{value:.6g}'):.1f}"


def _row(values: Iterable[float]) -> str:
    return "[" + ", ".join(_number(float(value)) for value in values) + "]"


def _joint(source: Source, number: int, speeds: dict[str, float]) -> str:
    joint = source.joints[number]
    parts = [f"name: {joint.name}", f"kind: {joint.kind}"]
    remark = ""
    if math.isfinite(joint.limits[0]) or math.isfinite(joint.limits[1]):
        low, high = (_number(end) if math.isfinite(end) else ("-" if end < 0 else "") + ".inf" for end in joint.limits)
        parts.append(f"position_limits: [{low}, {high}]")
    if joint.name in speeds:
        parts.append(f"velocity_limit: {_number(speeds[joint.name])}")
    if number not in source.driven:
        remark = "   # nothing drives it"
    return f"  - {{{', '.join(parts)}}}{remark}"


def _actions(source: Source, figures: Figures) -> list[str]:
    lines = []
    for actuator in source.actuators:
        joint = source.joints[actuator.joint]
        scale = float(figures.effort[actuator.joint])
        if actuator.interface != "effort":
            ends = sorted((actuator.gear * actuator.lower, actuator.gear * actuator.upper))
            scale = max(map(abs, ends))
            limits, remark = [end / scale for end in ends], "the actuator's control range"
        elif not math.isfinite(actuator.bound):
            limits, remark = [-1.0, 1.0], "guessed: the MJCF has no ctrlrange; twice gravity and a brisk motion"
        else:
            ends = sorted((actuator.gear * actuator.lower, actuator.gear * actuator.upper))
            limits = [max(ends[0] / scale, -1.0), min(ends[1] / scale, 1.0)]
            remark = "the actuator's range"
            if scale < 0.999 * actuator.bound:
                remark = f"guessed: twice gravity and a brisk motion; the motor has {actuator.bound:.4g}"
        unit = {"effort": "N" if joint.kind == "linear" else "N m"}.get(actuator.interface, "SI")
        lines += [
            f"  # One unit is {scale:.4g} {unit}: {remark}.",
            f"  - {{joint: {joint.name}, interface: {actuator.interface}, limits: {_row(limits)},"
            f" scale: {_number(scale)}}}",
        ]
        if actuator.delayed:
            lines.append("  # This actuator has a dynamics of its own in the MJCF, which no state shows.")
    return lines


def _safe_action(source: Source, figures: Figures, interface: str) -> list[str]:
    if interface != "effort":
        kind, why = ("hold", "where it is") if interface == "position" else ("zero", "velocities of 0")
        return [f"safe_action: {{kind: {kind}}}   # {why}"]
    gains = []
    for actuator in source.actuators:
        joint = actuator.joint
        wished = figures.inertia[joint] / (TIME_CONSTANT * figures.effort[joint])
        stable = STABLE / (figures.period * figures.response[joint] * figures.effort[joint])
        gains.append(float(f"{min(wished, stable):.2g}"))
    return [
        f"# Damping, guessed from the inertias: a joint comes to rest with a time constant of {TIME_CONSTANT:g} s,"
        " or of two control periods where that is longer.",
        f"safe_action: {{kind: damping, gains: {_row(gains)}}}",
    ]


def _guard(source: Source, figures: Figures) -> list[str]:
    limited = [number for number in sorted(source.driven) if source.joints[number].limited]
    number = limited[0] if limited else min(source.driven)
    joint = source.joints[number]
    lines = ["# What holds a real robot back, docs/safety.md; an example, not tried on this one:", "# guard:"]
    if joint.limited:
        margin = 0.05 * (joint.limits[1] - joint.limits[0])
        lines += ["#   soft_stop:", f"#     {joint.name}: {{margin: {margin:.2g}, braking: 1.0}}"]
    return [*lines, "#   velocity:", f"#     {joint.name}: {{limit: {3.0 * figures.span[number]:.2g}, braking: 1.0}}"]


def _start(source: Source, figures: Figures, task: FirstTask) -> list[str]:
    share = SWINGING_STD if task.swings else 0.05
    std = [min(share, 0.02 * (high - low)) if joint.limited or joint.kind == "linear" else share
           for joint, low, high in zip(source.joints, figures.lower, figures.upper, strict=True)]  # fmt: skip
    origin = "guessed: around where the MJCF stands" if figures.start_is_guessed else "around the first keyframe"
    none: Array = figures.start * 0.0
    return [
        f"start:                            # {origin}",
        f"  position: {{mean: {_row(figures.start)}, std: {_row(std)}}}",
        f"  velocity: {{mean: {_row(none)}, std: {_row(none + 0.02)}}}",
    ]


def task_text(name: str, task: FirstTask) -> str:
    """The task preset."""
    made = task.task

    def rows(values: dict[str, float]) -> list[str]:
        return [f"        {key}: {value!r}" for key, value in values.items()]

    lines = [
        f"# The first task of {name}. {task.why}",
        "/**:",
        "  ros__parameters:",
        "    task:",
        f"      kind: {made.kind}",
        f"      goal: [{', '.join(repr(float(value)) for value in made.goal)}]",
        "      parameters:",
        *rows({key: int(value) if key in ("joints", "actions") else value for key, value in made.parameters.items()}),
        "      weights:",
        *rows(dict(made.weights)),
    ]
    return "\n".join(lines) + "\n"


def tuning_text(name: str, source: Source, figures: Figures, task: FirstTask) -> str:
    """The tuning file; some of it is a guess by size and time."""
    seconds = 1.0 if task.swings else 0.5
    horizon = max(10, min(40, round(seconds / figures.period)))
    lines = [
        f"# What suits {name} beyond the presets, guessed from its size and times.",
        "/**/planner:",
        "  ros__parameters:",
        "    planner:",
        f"      horizon: {horizon}               # {horizon * figures.period:g} s",
    ]
    if task.explores < 1.0:
        lines += [
            "/**/explore:",
            "  ros__parameters:",
            f"    scale: {task.explores:g}               # of the actions: the boldest that does not get out of hand",
        ]
    if 2 * len(source.joints) >= LARGE_STATE:
        lines += [
            "/**/learner:",
            "  ros__parameters:",
            "    dynamics:",
            f"      refit_steps: 1000         # {2 * len(source.joints)} states, and little data",
            "    learner:",
            "      refit_interval: 50",
        ]
    return "\n".join(lines) + "\n"
