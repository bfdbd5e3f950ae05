# SPDX-License-Identifier: Apache-2.0
"""What experts did in the course of episodes that others began: corrections, and whole demonstrations alike."""

from collections.abc import Collection, Iterable, Iterator

import numpy as np

from mbrl_core.dataset import follows
from mbrl_core.demonstrations import Demonstration
from mbrl_core.messages import TimeStep
from mbrl_policy.intentions import Intentions


def corrections(
    time_steps: Iterable[TimeStep],
    experts: Collection[str],
    least_steps: int = 1,
    intentions: Intentions | None = None,
) -> list[Demonstration]:
    """The stretches of time in which one of the controllers `experts` moved the robot, of at least `least_steps` steps.

    A person who takes over is such a controller (`TimeStep.controller` of the action executed), and so is any planner.
    A stretch ends where another controller serves, the guard changed the action in mid-interval (`action_valid`), a
    time step is missing, or the episode ends. `Demonstration.episode` and `first_step` say where it was.

    `intentions` are of the one episode that the time steps are of: what an expert whose commands were disturbed meant
    comes as `Demonstration.intended`, and a stretch ends, too, where that was lost.

    Raises ValueError without experts, or on `least_steps` below one.
    """
    if not experts or isinstance(experts, str):
        raise ValueError(f"experts: got {experts!r}, expected names of controllers")
    if least_steps < 1:
        raise ValueError(f"least_steps: got {least_steps}, expected at least 1")
    found = _stretches(time_steps, experts, intentions)
    return [_demonstration(steps, intentions) for steps in found if len(steps) > least_steps]


def _stretches(
    time_steps: Iterable[TimeStep], experts: Collection[str], intentions: Intentions | None
) -> Iterator[list[TimeStep]]:
    """Time steps in sequence, of which an expert brought about all but the first."""
    current: list[TimeStep] = []
    for time_step in time_steps:
        joined = follows(current[-1] if current else None, time_step)
        known = intentions is None or intentions.meant(time_step) is not None
        if joined and time_step.controller in experts and time_step.action_valid and known:
            current.append(time_step)
            continue
        if len(current) > 1:
            yield current
        current = [time_step]
    if len(current) > 1:
        yield current


def _demonstration(steps: list[TimeStep], intentions: Intentions | None) -> Demonstration:
    return Demonstration(
        np.array([step.state for step in steps]),
        np.array([step.action for step in steps[1:]]),
        episode=steps[0].episode,
        first_step=steps[0].step,
        intended=None if intentions is None else intentions.label(steps),
    )
