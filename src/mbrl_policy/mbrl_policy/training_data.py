# SPDX-License-Identifier: Apache-2.0
"""What training may learn from: transitions and demonstrations, heard live or read from a bag."""

import copy
import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mbrl_core.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from mbrl_core.dataset import ReplayBuffer, TransitionAssembler, Transitions, follows
from mbrl_core.demonstrations import Demonstration, Outcome
from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.specs import Array, RobotSpec
from mbrl_core.tasks import Task
from mbrl_policy.bags import METADATA, BagError, read_recording, read_spec
from mbrl_policy.data.episodes import select
from mbrl_policy.imitation.corrections import corrections
from mbrl_policy.intentions import Intentions
from mbrl_policy.training import Rollout

TEACHERS = ("planner", "planner_b", "teleop")  # controllers whose episodes are demonstrations
BAG = "bag"  # of a run directory
KEPT_EPISODES = 200
ROLE = "training data"
COLUMNS = ("episode", "step", "step_type", "state", "action", "action_valid", "end_reason")
LEAST_SHARE = 0.95  # of an episode's steps that are a teacher's


@dataclass(frozen=True)
class Stretch:
    """Time steps of one episode without a gap. What was meant in them may come later than they do."""

    steps: list[TimeStep]
    intentions: Intentions


class TrainingData:
    """Transitions and episodes from time steps, in order; lost time steps cost what they are part of."""

    def __init__(self, spec: RobotSpec, capacity: int = 100_000) -> None:
        self._spec = spec
        self._assembler = TransitionAssembler()
        self._buffer = ReplayBuffer(spec.state.size, spec.action.size, capacity)
        self._episodes: deque[Stretch] = deque(maxlen=KEPT_EPISODES)
        self._pieces: deque[Stretch] = deque(maxlen=KEPT_EPISODES)  # of episodes that are not whole
        self._open: list[TimeStep] = []
        self._intentions: dict[int, Intentions] = {}  # of the newest episode of each number
        self._failed: set[int] = set()  # episodes that show nothing to imitate

    def add(self, time_step: TimeStep) -> None:
        """Takes the next time step."""
        transition = self._assembler.add(time_step)
        if transition is not None:
            self._buffer.add(transition)
        if not follows(self._open[-1] if self._open else None, time_step):
            self._close()
        if time_step.step_type == StepType.FIRST:
            self._begin(time_step.episode)
        self._open.append(time_step)
        if time_step.step_type == StepType.LAST:
            self._close()

    def add_intention(self, episode: int, controller: str, answers_step: int, start_step: int, actions: Array) -> None:
        """Takes what a controller meant, as `Intentions.add` does, before or after the time steps that it led to."""
        self._intentions_of(episode).add(controller, answers_step, start_step, actions)

    def take_intentions(self, episode: int, intentions: Intentions) -> None:
        """Takes all that was meant in an episode that is to come."""
        self._intentions[episode] = intentions

    def _intentions_of(self, episode: int) -> Intentions:
        if episode not in self._intentions:
            while len(self._intentions) >= KEPT_EPISODES:
                del self._intentions[next(iter(self._intentions))]
            self._intentions[episode] = Intentions(self._spec)
        return self._intentions[episode]

    def _begin(self, episode: int) -> None:
        """What was meant in an earlier episode of this number, before the robot counted anew, was not of this one."""
        if any(stretch.steps[0].episode == episode for stretch in (*self._episodes, *self._pieces)):
            self._intentions.pop(episode, None)

    def _close(self) -> None:
        if len(self._open) > 1:
            whole = self._open[0].step_type == StepType.FIRST and self._open[-1].step_type == StepType.LAST
            (self._episodes if whole else self._pieces).append(self._opened())
        self._open = []

    def _opened(self) -> Stretch:
        return Stretch(self._open, self._intentions_of(self._open[0].episode))

    def _stretches(self) -> list[Stretch]:
        return [*self._pieces, *self._episodes, *([self._opened()] if self._open else [])]

    def leave_out(self, episode: int) -> None:
        """An episode that shows nothing to imitate; its transitions count."""
        self._failed.add(episode)

    def copy(self) -> "TrainingData":
        """What has been added until now."""
        twin = copy.copy(self)
        twin._assembler, twin._buffer = copy.copy(self._assembler), copy.deepcopy(self._buffer)
        twin._episodes, twin._pieces, twin._open = self._episodes.copy(), self._pieces.copy(), list(self._open)
        twin._failed, twin._intentions = set(self._failed), dict(self._intentions)
        return twin

    def save(self, path: str | Path) -> None:
        """Writes the episodes kept, atomically, for a trainer that is started again. Raises OSError."""
        stretches = self._stretches()
        steps = [step for stretch in stretches for step in stretch.steps]
        if not steps:
            return
        said = [stretch.intentions.said(step) for stretch in stretches for step in stretch.steps]
        unsaid = np.full(self._spec.action.size, np.nan)
        names = sorted({step.controller for step in steps})
        arrays = {column: np.array([getattr(step, column) for step in steps]) for column in COLUMNS}
        arrays["controller"] = np.array([names.index(step.controller) for step in steps])
        arrays["intended"] = np.array([unsaid if action is None else action for action in said])
        save_checkpoint(path, arrays, {"role": ROLE, "controllers": names, "interface_hash": self._spec.interface_hash})

    def transitions(self) -> Transitions | None:
        """All of them, a copy; None while there are none."""
        return self._buffer.transitions() if len(self._buffer) else None

    def controllers(self) -> list[str]:
        """Who moved the robot, sorted."""
        return sorted({step.controller for stretch in self._stretches() for step in stretch.steps[1:]} - {""})

    def demonstrations(self, task: Task, teachers: Sequence[str] = TEACHERS) -> list[Rollout]:
        """Whole episodes in which hardly anybody but `teachers` moved the robot, with the rewards of `task`. What was
        wanted is taken to be what was executed; `intended` is what was meant, where that is known and something else.
        Episodes that a person called a failure are none.
        """
        return [
            _rollout(stretch, task)
            for stretch in self._episodes
            if len(stretch.steps) > 1
            and stretch.steps[0].episode not in self._failed
            and _share(stretch, teachers) >= LEAST_SHARE
        ]

    def parts(self, task: Task, teachers: Sequence[str] = TEACHERS) -> list[Rollout]:
        """All stretches in which one of `teachers` moved the robot, whole episodes and corrections alike (see
        `mbrl_policy.imitation.corrections`), with the rewards of `task`, in order of time within an episode.
        """
        found = [
            item
            for stretch in self._stretches()
            for item in corrections(stretch.steps, teachers, intentions=stretch.intentions)
            if item.episode not in self._failed
        ]
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
        if episode.intentions is not None:
            data.take_intentions(episode.number, episode.intentions)
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
        # Files of before intentions were kept have none.
        intended = arrays.get("intended", np.full((len(steps), spec.action.size), np.nan))
        data = TrainingData(spec)
        for step, action in zip(steps, intended, strict=True):
            data.add(step)
            if np.isfinite(action).all():
                data.add_intention(step.episode, step.controller, step.step - 1, step.step - 1, action[None])
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return data


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
    return Rollout(
        item.states, item.actions, item.actions, rewards, ended, first_step=item.first_step, intended=item.intended
    )


def _share(stretch: Stretch, teachers: Sequence[str]) -> float:
    """Of the steps, those that are a teacher's and of which it is known what he meant."""
    meant = stretch.intentions.meant
    return float(np.mean([step.controller in teachers and meant(step) is not None for step in stretch.steps[1:]]))


def _rollout(stretch: Stretch, task: Task) -> Rollout:
    states = np.array([step.state for step in stretch.steps])
    actions = np.array([step.action for step in stretch.steps[1:]])
    rewards = np.asarray(task.reward(states[:-1], actions, states[1:]), dtype=np.float64)
    intended = stretch.intentions.label(stretch.steps)
    if intended is not None:
        # Of as few steps as are not a teacher's.
        intended = np.where(np.isfinite(intended), intended, actions)
    return Rollout(states, actions, actions, rewards, bool(task.terminated(states[-1])), intended=intended)
