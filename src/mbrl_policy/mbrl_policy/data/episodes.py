# SPDX-License-Identifier: Apache-2.0
"""Episodes of bags: which time steps belong together, what a person said of them, where steps are missing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_core.dataset import Transition, TransitionAssembler
from mbrl_core.demonstrations import Demonstration, Outcome
from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.specs import RobotSpec
from mbrl_policy.intentions import INTENDED_PLAN, Intentions
from mbrl_ros.bag_reading import BagError, read_spec, read_stamped
from mbrl_ros.conversions import MessageError, plan_from_message, time_step_from_message


@dataclass(frozen=True)
class Label:
    """What a person said of an episode; `discarded` ones are left out of datasets."""

    outcome: Outcome = Outcome.UNLABELLED
    discarded: bool = False
    task: str = ""
    note: str = ""


@dataclass
class Episode:
    """One episode as it was recorded.

    Attributes:
        bag: where it is from.
        number: told apart from every other episode of what has been read with it.
        recorded_number: that of robot_node.
        steps: in order; some may be missing.
        received_ns: [len(steps)] when the recorder got them, ROS time in nanoseconds.
        stamp_ns: [len(steps)] when they were sampled, ROS time in nanoseconds.
        label: the newest.
        refused: time steps left out for numbers that are not finite.
        intentions: what a person whose commands were disturbed meant; None where the bag says nothing of it.
    """

    bag: Path
    number: int
    recorded_number: int
    steps: list[TimeStep] = field(default_factory=list)
    received_ns: list[int] = field(default_factory=list)
    stamp_ns: list[int] = field(default_factory=list)
    label: Label = field(default_factory=Label)
    refused: int = 0
    intentions: Intentions | None = None

    @property
    def controllers(self) -> tuple[str, ...]:
        """Who moved the robot, the most frequent first."""
        return tuple(name for name, _ in Counter(step.controller for step in self.steps[1:]).most_common() if name)

    @property
    def end_reason(self) -> EndReason:
        """How it ended; NOT_ENDED where its end is not in the bag."""
        return self.steps[-1].end_reason if self.steps else EndReason.NOT_ENDED

    def parts(self) -> list[Demonstration]:
        """Its steps without the gaps: steps that follow each other, with the action that was executed between them."""
        parts: list[list[Transition]] = []
        assembler = TransitionAssembler()
        follows = False
        for step in self.steps:
            transition = assembler.add(step)
            if transition is not None:
                if not follows:
                    parts.append([])
                parts[-1].append(transition)
            follows = transition is not None
        return [self._part(items) for items in parts]

    def _part(self, items: list[Transition]) -> Demonstration:
        first, count = items[0].step, len(items)
        steps = [step for step in self.steps if first <= step.step <= first + count]
        return Demonstration(
            states=np.array([items[0].state, *(item.next_state for item in items)]),
            actions=np.array([item.action for item in items]),
            episode=self.number,
            first_step=items[0].step,
            outcome=self.label.outcome,
            task=self.label.task,
            note=self.label.note,
            intended=None if self.intentions is None else self.intentions.label(steps),
        )

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """Numbers of the steps (before, after) between which nothing is known: messages that are missing, and intervals
        in which the action changed.
        """
        if not self.steps:
            return []
        assembler = TransitionAssembler()
        assembler.add(self.steps[0])
        missing = [(0, self.steps[0].step)] if self.steps[0].step > 0 else []
        for before, after in pairwise(self.steps):
            if assembler.add(after) is None:
                missing.append((before.step, after.step))
        return missing


@dataclass(frozen=True)
class Recording:
    """What has been read of one or more bags of one robot."""

    spec: RobotSpec
    episodes: list[Episode]
    remarks: list[str]


class EpisodeNumbers:
    """Numbers that keep episodes of several recordings apart: the recorded ones as far as nobody else has them."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._offset = 0

    def next_bag(self) -> None:
        """What comes now is of another bag."""
        self._offset = 0

    def assign(self, recorded: int) -> int:
        """Number of an episode that begins now and was recorded as `recorded`."""
        if recorded + self._offset in self._taken:
            self._offset = max(self._taken) + 1 - recorded
        self._taken.add(recorded + self._offset)
        return recorded + self._offset


class EpisodeStarts:
    """Tells from the order of time steps which begin an episode: robot_node counts anew after it was restarted."""

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}

    def begins(self, episode: int, step: int, step_type: int) -> bool:
        """Whether this time step is the first one of an episode that there is."""
        previous, self._newest[episode] = self._newest.get(episode), step
        return previous is None or step_type == StepType.FIRST or step <= previous


def describe(spec: RobotSpec) -> str:
    """A robot's interface in one line."""
    states = ", ".join(f"{name} [{unit}]" for name, unit in zip(spec.state.names, spec.state.units, strict=True))
    actions = ", ".join(
        f"{name} {interface} [{unit}]"
        for name, interface, unit in zip(spec.action.names, spec.action.interfaces, spec.action.units, strict=True)
    )
    return f"{spec.name!r}: period {spec.period:g} s; states {states}; actions {actions}; {spec.interface_hash[:12]}"


def check_same_robot(path: Path, spec: RobotSpec, first_path: Path, first: RobotSpec) -> None:
    """Raises BagError that shows both where two bags are of different interfaces."""
    if spec.interface_hash != first.interface_hash:
        both = f"  {first_path}: {describe(first)}\n  {path}: {describe(spec)}"
        raise BagError(f"{path}: expected the robot of the other bags\n{both}")


def read_recording(paths: str | Path | Iterable[str | Path], namespace: str | None = None) -> Recording:
    """All episodes of one or more bags, the discarded ones, too. Raises BagError."""
    wanted = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not wanted:
        raise BagError("expected at least one bag, got none")
    specs = [read_spec(path, namespace) for path in wanted]
    numbers, episodes = EpisodeNumbers(), list[Episode]()
    remarks: list[str] = []
    for path, spec in zip(wanted, specs, strict=True):
        check_same_robot(path, spec, wanted[0], specs[0])
        numbers.next_bag()
        episodes += _read_bag(path, spec, namespace, numbers, remarks)
    return Recording(specs[0], episodes, remarks)


def _read_bag(
    path: Path, spec: RobotSpec, namespace: str | None, numbers: EpisodeNumbers, remarks: list[str]
) -> list[Episode]:
    episodes: list[Episode] = []
    current: dict[int, Episode] = {}
    starts = EpisodeStarts()
    strangers = 0
    for topic, time_ns, message in read_stamped(path, ("time_step",), namespace, ("episode_label", INTENDED_PLAN)):
        number = int(message.episode)
        if topic == "episode_label":
            if number in current:
                current[number].label = _label(path, message)
            else:
                strangers += 1
            continue
        if topic == INTENDED_PLAN:
            if number in current:
                _add_intention(path, current[number], message, spec)
            continue
        if starts.begins(number, message.step, message.step_type):
            current[number] = Episode(path, numbers.assign(number), number)
            episodes.append(current[number])
        try:
            current[number].steps.append(time_step_from_message(message, spec))
        except MessageError as error:
            if error.reason != "non_finite":
                raise BagError(f"{path}: {error}") from None
            current[number].refused += 1
        else:
            current[number].received_ns.append(time_ns)
            stamp = message.header.stamp
            current[number].stamp_ns.append(stamp.sec * 1_000_000_000 + stamp.nanosec)
    if strangers:
        remarks.append(f"{path}: {strangers} labels of episodes that are not in the bag were passed over")
    for episode in episodes:
        if episode.refused:
            remarks.append(
                f"{path}: episode {episode.recorded_number}: {episode.refused} time steps with numbers that are not"
                " finite were left out"
            )
    return episodes


def _add_intention(path: Path, episode: Episode, message: Any, spec: RobotSpec) -> None:
    try:
        actions = plan_from_message(message, spec).actions
    except MessageError as error:
        raise BagError(f"{path}: {INTENDED_PLAN}: {error}") from None
    if episode.intentions is None:
        episode.intentions = Intentions(spec)
    episode.intentions.add(message.controller, message.answers_step, message.start_step, actions)


def _label(path: Path, message: Any) -> Label:
    try:
        outcome = Outcome(message.outcome)
    except ValueError:
        expected = ", ".join(f"{item.value} ({item.name})" for item in Outcome)
        raise BagError(
            f"{path}: episode_label of episode {message.episode}: outcome {message.outcome}, expected {expected}"
        ) from None
    return Label(outcome, bool(message.discarded), message.task, message.note)


def select(
    episodes: Sequence[Episode],
    outcome: Outcome | None = None,
    include_discarded: bool = False,
    task: str | None = None,
    numbers: Iterable[int] | None = None,
) -> list[Episode]:
    """Those whose label fits; a filter that is None lets all pass."""
    wanted = None if numbers is None else set(numbers)
    return [
        episode
        for episode in episodes
        if (include_discarded or not episode.label.discarded)
        and (outcome is None or episode.label.outcome == outcome)
        and (task is None or episode.label.task == task)
        and (wanted is None or episode.number in wanted)
    ]


def demonstrations_of(
    recording: Recording, episodes: Sequence[Episode], remarks: list[str] | None = None
) -> list[Demonstration]:
    """Their parts without gaps. Raises BagError where that leaves nothing; what is passed over goes into `remarks`."""
    found = []
    for episode in episodes:
        parts = episode.parts()
        found += parts
        if not parts and remarks is not None:
            remarks.append(
                f"{episode.bag}: episode {episode.recorded_number}: {len(episode.steps)} time steps, of which no two"
                " follow each other, were passed over"
            )
    if not found:
        raise BagError(f"no episode is left: {summary(recording)}; {len(episodes)} fit what was asked for")
    return found


def summary(recording: Recording) -> str:
    """How many episodes of which label."""
    kinds = Counter(
        "discarded" if episode.label.discarded else episode.label.outcome.name.lower() for episode in recording.episodes
    )
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"
    bags = sorted({str(episode.bag) for episode in recording.episodes})
    return f"episodes in {', '.join(bags) or 'the bags'}: {counts}"
