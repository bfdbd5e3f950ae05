# SPDX-License-Identifier: Apache-2.0
"""What training may learn from: transitions and demonstrations, heard live or read from a bag."""

import copy
import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mbrl_core.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from mbrl_core.dataset import ReplayBuffer, TransitionAssembler, Transitions, follows
from mbrl_core.demonstrations import Demonstration, Outcome
from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import Task
from mbrl_policy.bags import METADATA, BagError, read_recording, read_spec
from mbrl_policy.data.episodes import select
from mbrl_policy.imitation.corrections import corrections
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
        self._pieces: deque[list[TimeStep]] = deque(maxlen=KEPT_EPISODES)  # of episodes that are not whole
        self._open: list[TimeStep] = []
        self._failed: set[int] = set()  # episodes that show nothing to imitate

    def add(self, time_step: TimeStep) -> None:
        """Takes the next time step."""
        transition = self._assembler.add(time_step)
        if transition is not None:
            self._buffer.add(transition)
        if not follows(self._open[-1] if self._open else None, time_step):
            self._close()
        self._open.append(time_step)
        if time_step.step_type == StepType.LAST:
            self._close()

    def _close(self) -> None:
        if len(self._open) > 1:
            whole = self._open[0].step_type == StepType.FIRST and self._open[-1].step_type == StepType.LAST
            (self._episodes if whole else self._pieces).append(self._open)
        self._open = []

    def leave_out(self, episode: int) -> None:
        """An episode that shows nothing to imitate; its transitions count."""
        self._failed.add(episode)

    def copy(self) -> "TrainingData":
        """What has been added until now."""
        twin = copy.copy(self)
        twin._assembler, twin._buffer = copy.copy(self._assembler), copy.deepcopy(self._buffer)
        twin._episodes, twin._pieces, twin._open = self._episodes.copy(), self._pieces.copy(), list(self._open)
        twin._failed = set(self._failed)
        return twin

    def save(self, path: str | Path) -> None:
        """Writes the episodes kept, atomically, for a trainer that is started again. Raises OSError."""
        steps = [step for episode in (*self._pieces, *self._episodes, self._open) for step in episode]
        if not steps:
            return
        names = sorted({step.controller for step in steps})
        arrays = {column: np.array([getattr(step, column) for step in steps]) for column in COLUMNS}
        arrays["controller"] = np.array([names.index(step.controller) for step in steps])
        save_checkpoint(path, arrays, {"role": ROLE, "controllers": names, "interface_hash": self._spec.interface_hash})

    def transitions(self) -> Transitions | None:
        """All of them, a copy; None while there are none."""
        return self._buffer.transitions() if len(self._buffer) else None

    def controllers(self) -> list[str]:
        """Who moved the robot, sorted."""
        kept = (*self._episodes, *self._pieces, self._open)
        return sorted({step.controller for steps in kept for step in steps[1:]} - {""})

    def demonstrations(self, task: Task, teachers: Sequence[str] = TEACHERS) -> list[Rollout]:
        """Whole episodes in which hardly anybody but `teachers` moved the robot, with the rewards of `task`. What was
        wanted is taken to be what was executed. Episodes that a person called a failure are none.
        """
        return [
            _rollout(steps, task)
            for steps in self._episodes
            if len(steps) > 1
            and steps[0].episode not in self._failed
            and np.mean([step.controller in teachers for step in steps[1:]]) >= LEAST_SHARE
        ]

    def parts(self, task: Task, teachers: Sequence[str] = TEACHERS) -> list[Rollout]:
        """All stretches in which one of `teachers` moved the robot, whole episodes and corrections alike (see
        `mbrl_policy.imitation.corrections`), with the rewards of `task`, in order of time within an episode.
        """
        kept = [steps for steps in (*self._episodes, *self._pieces, self._open) if steps]
        found = [item for steps in kept for item in corrections(steps, teachers) if item.episode not in self._failed]
        return [_part(item, task) for item in sorted(found, key=lambda item: (item.episode, item.first_step))]


def read_training_data(path: str | Path, spec: RobotSpec) -> TrainingData:
    """The data of a bag, or of the bag in a run directory; of several, where `path` names them as PATH does, with
    `os.pathsep` between them.

    Episodes that were discarded are left out; those labelled as failures are transitions, and no demonstrations.

    Raises FileNotFoundError that says what was looked for, BagError on a bag that is unfinished, damaged, or of another
    interface.
    """
    folders = [_bag_folder(part) for part in str(path).split(os.pathsep) if part]
    if not folders:
        raise FileNotFoundError(f"data {str(path)!r}: names no folder, expected a bag or a run directory")
    for folder in folders:
        found = read_spec(folder)
        if found.interface_hash != spec.interface_hash:
            raise BagError(
                f"{folder}: interface {found.interface_hash[:12]!r} of robot {found.name!r}, expected"
                f" {spec.interface_hash[:12]!r} of robot {spec.name!r}"
            )
    data = TrainingData(spec)
    for episode in select(read_recording(folders).episodes):
        if episode.label.outcome == Outcome.FAILURE:
            data.leave_out(episode.number)
        for time_step in episode.steps:
            data.add(replace(time_step, episode=episode.number))
    return data


def _bag_folder(path: str) -> Path:
    """Raises FileNotFoundError."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"data {path!r}: no such folder, expected a bag or a run directory")
    if _is_bag(folder):
        return folder
    if _is_bag(folder / BAG):
        return folder / BAG
    raise FileNotFoundError(f"data {path!r}: neither a bag ({METADATA}) nor a run directory with {BAG}/")


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


def _part(item: Demonstration, task: Task) -> Rollout:
    rewards = np.asarray(task.reward(item.states[:-1], item.actions, item.states[1:]), dtype=np.float64)
    ended = bool(task.terminated(item.states[-1]))
    return Rollout(item.states, item.actions, item.actions, rewards, ended, first_step=item.first_step)


def _rollout(steps: list[TimeStep], task: Task) -> Rollout:
    states = np.array([step.state for step in steps])
    actions = np.array([step.action for step in steps[1:]])
    rewards = np.asarray(task.reward(states[:-1], actions, states[1:]), dtype=np.float64)
    return Rollout(states, actions, actions, rewards, bool(task.terminated(states[-1])))
