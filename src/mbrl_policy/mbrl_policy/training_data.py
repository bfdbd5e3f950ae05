# SPDX-License-Identifier: Apache-2.0
"""What training may learn from: transitions and demonstrations, heard live or read from a bag."""

import copy
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mbrl_core.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from mbrl_core.dataset import ReplayBuffer, TransitionAssembler, Transitions
from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import Task
from mbrl_policy.bags import METADATA, BagError, read_spec, read_time_steps
from mbrl_policy.training import Rollout

TEACHERS = ("planner", "planner_b", "teleop")  # controllers whose episodes are demonstrations
BAG = "bag"  # of a run directory
KEPT_EPISODES = 200
ROLE = "training data"
COLUMNS = ("episode", "step", "step_type", "state", "action", "action_valid", "end_reason")
LEAST_SHARE = 0.95  # of an episode's steps that are a teacher's


class TrainingData:
    """Transitions and episodes from time steps, in order; lost time steps cost what they are part of."""

    def __init__(self, spec: RobotSpec, capacity: int = 100_000) -> None:
        self._spec = spec
        self._assembler = TransitionAssembler()
        self._buffer = ReplayBuffer(spec.state.size, spec.action.size, capacity)
        self._episodes: deque[list[TimeStep]] = deque(maxlen=KEPT_EPISODES)
        self._open: list[TimeStep] = []

    def add(self, time_step: TimeStep) -> None:
        """Takes the next time step."""
        transition = self._assembler.add(time_step)
        if transition is not None:
            self._buffer.add(transition)
        if time_step.step_type == StepType.FIRST:
            self._open = [time_step]
        elif self._open and (time_step.episode, time_step.step) == (self._open[-1].episode, self._open[-1].step + 1):
            self._open.append(time_step)
            if time_step.step_type == StepType.LAST:
                self._episodes.append(self._open)
                self._open = []
        else:
            self._open = []

    def copy(self) -> "TrainingData":
        """What has been added until now."""
        twin = copy.copy(self)
        twin._assembler, twin._buffer = copy.copy(self._assembler), copy.deepcopy(self._buffer)
        twin._episodes, twin._open = self._episodes.copy(), list(self._open)
        return twin

    def save(self, path: str | Path) -> None:
        """Writes the episodes kept, atomically, for a trainer that is started again. Raises OSError."""
        steps = [step for episode in (*self._episodes, self._open) for step in episode]
        if not steps:
            return
        names = sorted({step.controller for step in steps})
        arrays = {column: np.array([getattr(step, column) for step in steps]) for column in COLUMNS}
        arrays["controller"] = np.array([names.index(step.controller) for step in steps])
        save_checkpoint(path, arrays, {"role": ROLE, "controllers": names, "interface_hash": self._spec.interface_hash})

    def transitions(self) -> Transitions | None:
        """All of them, a copy; None while there are none."""
        return self._buffer.transitions() if len(self._buffer) else None

    def demonstrations(self, task: Task, teachers: Sequence[str] = TEACHERS) -> list[Rollout]:
        """Whole episodes in which hardly anybody but `teachers` moved the robot, with the rewards of `task`. What was
        wanted is taken to be what was executed.
        """
        return [
            _rollout(steps, task)
            for steps in self._episodes
            if len(steps) > 1 and np.mean([step.controller in teachers for step in steps[1:]]) >= LEAST_SHARE
        ]


def read_training_data(path: str | Path, spec: RobotSpec) -> TrainingData:
    """The data of a bag, or of the bag in a run directory.

    Raises FileNotFoundError that says what was looked for, BagError on a bag that is unfinished, damaged, or of another
    interface.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"data {str(path)!r}: no such folder, expected a bag or a run directory")
    if not _is_bag(folder):
        if not _is_bag(folder / BAG):
            raise FileNotFoundError(f"data {str(path)!r}: neither a bag ({METADATA}) nor a run directory with {BAG}/")
        folder = folder / BAG
    found = read_spec(folder)
    if found.interface_hash != spec.interface_hash:
        raise BagError(
            f"{folder}: interface {found.interface_hash[:12]!r} of robot {found.name!r}, expected"
            f" {spec.interface_hash[:12]!r} of robot {spec.name!r}"
        )
    return collect(read_time_steps(folder), spec)


def load_training_data(path: str | Path, spec: RobotSpec) -> TrainingData:
    """What `save` wrote. Raises CheckpointError on what is damaged, of another interface, or something else."""
    arrays, information = load_checkpoint(path)
    if information.get("role") != ROLE or information.get("interface_hash") != spec.interface_hash:
        raise CheckpointError(f"{path}: not {ROLE} of robot {spec.name!r}")
    try:
        names, columns = information["controllers"], {name: arrays[name] for name in (*COLUMNS, "controller")}
        steps = [
            TimeStep(
                episode=int(row["episode"]), step=int(row["step"]), step_type=StepType(int(row["step_type"])),
                state=row["state"], action=row["action"], action_valid=bool(row["action_valid"]),
                end_reason=EndReason(int(row["end_reason"])), controller=names[int(row["controller"])],
            )
            for row in (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        ]  # fmt: skip
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return collect(steps, spec)


def collect(time_steps: Iterable[TimeStep], spec: RobotSpec) -> TrainingData:
    """The data of time steps."""
    data = TrainingData(spec)
    for time_step in time_steps:
        data.add(time_step)
    return data


def _is_bag(folder: Path) -> bool:
    return (folder / METADATA).is_file() or any(folder.glob("*.mcap"))


def _rollout(steps: list[TimeStep], task: Task) -> Rollout:
    states = np.array([step.state for step in steps])
    actions = np.array([step.action for step in steps[1:]])
    rewards = np.asarray(task.reward(states[:-1], actions, states[1:]), dtype=np.float64)
    return Rollout(states, actions, actions, rewards, bool(task.terminated(states[-1])))
