# SPDX-License-Identifier: Apache-2.0
"""What of a recorded run a planner's decisions can be recomputed from: time steps, plans, models, tasks, settings."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mbrl_bringup.run_files import BAG, INFORMATION
from mbrl_core.config import ConfigurationError
from mbrl_core.messages import StepType, TimeStep
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import Task
from mbrl_dynamics.model import DynamicsModel
from mbrl_planner.nodes.model_message import model_from_message
from mbrl_planner.nodes.settings import TOPIC as SETTINGS
from mbrl_planner.nodes.settings import PlannerSettings, settings_from_parameters, settings_from_text
from mbrl_ros.bag_reading import METADATA, BagError, read_stamped
from mbrl_ros.conversions import MessageError, spec_from_message, task_from_message, time_step_from_message

TOPICS = ("robot_spec", "task", "model", "time_step", "plan")


class ReplayError(ValueError):
    """A decision cannot be recomputed. The text says which, and what is missing or was expected."""


@dataclass(frozen=True)
class RecordedPlan:
    """A Plan message, and how many messages the recorder had before it."""

    message: Any
    order: int

    @property
    def planner(self) -> tuple[str, str]:
        """Whose plan it is: name in the controller chain, and identity of the process."""
        return self.message.controller, self.message.producer


@dataclass
class RecordedEpisode:
    """Time steps (messages) of an episode in order of reception, and the plans for it."""

    number: int
    order: int
    time_steps: list[Any] = field(default_factory=list)
    plans: list[RecordedPlan] = field(default_factory=list)

    @property
    def begins(self) -> bool:
        """Whether its first time step was recorded."""
        return bool(self.time_steps) and self.time_steps[0].step_type == StepType.FIRST

    def answers(self, planner: tuple[str, str]) -> dict[int, RecordedPlan]:
        """Plans of one planner by the step that they answer."""
        return {plan.message.answers_step: plan for plan in self.plans if plan.planner == planner}


@dataclass
class Recording:
    """A bag that was read, and what run.json beside it says. Models are read when they are asked for."""

    path: Path
    spec: RobotSpec
    episodes: list[RecordedEpisode]
    information: dict[str, Any]
    _namespace: str | None
    _tasks: list[tuple[int, Any]]
    _models: list[tuple[int, str, int]]  # order, producer, version
    _settings: dict[str, str]
    _task: tuple[int, Task] | None = None
    _model: tuple[int, DynamicsModel] | None = None
    _messages: dict[int, Any] = field(default_factory=dict)

    def episode(self, number: int | None) -> RecordedEpisode:
        """The newest episode of that number, or the newest of all. Raises ReplayError."""
        found = [item for item in self.episodes if item.time_steps and number in (None, item.number)]
        if not found:
            known = ", ".join(str(item.number) for item in self.episodes) or "none"
            raise ReplayError(f"{self.path}: there is no episode {number}; recorded: {known}")
        return found[-1]

    def time_step(self, message: Any) -> TimeStep:
        """Raises ReplayError on one that every node refuses."""
        try:
            return time_step_from_message(message, self.spec)
        except MessageError as error:
            raise ReplayError(f"{self.path}: step {message.step} of episode {message.episode}: {error}") from None

    def task(self, plan: RecordedPlan) -> Task:
        """The task that was in force; of plans for the same one, the same object. Raises ReplayError."""
        versions = [(order, message.version) for order, message in self._tasks]
        index = self._in_force("task", versions, plan.message.task_version, plan.order)
        if self._task is None or self._task[0] != index:
            try:
                self._task = index, task_from_message(self._tasks[index][1], self.spec)
            except MessageError as error:
                raise ReplayError(f"{self.path}: {error}") from None
        return self._task[1]

    def model_index(self, version: int, order: int | None = None) -> int:
        """Which of the recorded models had this version when `order` messages had been recorded, else the newest.
        Raises ReplayError.
        """
        versions = [(when, number) for when, _, number in self._models]
        return self._in_force("model", versions, version, len(versions) and versions[-1][0] if order is None else order)

    def model(self, index: int, needed: Sequence[int] = ()) -> DynamicsModel:
        """A recorded model; `needed` are others to be read at the same time. Raises ReplayError."""
        if self._model is not None and self._model[0] == index:
            return self._model[1]
        if index not in self._messages:
            wanted = {index, *needed}
            messages = _messages(self.path, ("model",), self._namespace)
            found = enumerate(message for topic, message in messages if topic == "model")
            self._messages = {number: message for number, message in found if number in wanted}
        try:
            model = model_from_message(self._messages[index], self.spec)
        except MessageError as error:
            raise ReplayError(f"{self.path}: {error}") from None
        self._model = index, model
        return model

    def _in_force(self, topic: str, versions: Sequence[tuple[int, int]], version: int, order: int) -> int:
        """Index of the newest message of a version before a plan: topics overtake each other, so else the next."""
        matching = [(when, index) for index, (when, number) in enumerate(versions) if number == version]
        if not matching:
            known = ", ".join(sorted({str(number) for _, number in versions})) or "none"
            raise ReplayError(f"{self.path}: {topic} version {version} is not recorded; there are: {known}")
        before = [item for item in matching if item[0] <= order]
        return before[-1][1] if before else matching[0][1]

    def settings(self, planner: tuple[str, str]) -> tuple[PlannerSettings, bool]:
        """What a planner was set to, and whether the bag says so itself; else run.json does. Raises ReplayError."""
        controller, producer = planner
        try:
            if producer in self._settings:
                return settings_from_text(self._settings[producer]), True
            node = producer.partition("@")[0].rpartition("/")[2]
            recorded = self.information.get("settings", {})
            parameters = recorded.get(node, recorded.get(controller, {}))
            if any(name.startswith("planner.") for name in parameters):
                return settings_from_parameters(parameters, producer=producer), False
        except ConfigurationError as error:
            raise ReplayError(f"{self.path}: settings of {producer!r}: {error}") from None
        known = ", ".join(sorted(self._settings)) or "none"
        raise ReplayError(
            f"{self.path}: {controller!r} ({producer or 'unknown process'}) is no planner whose settings are recorded:"
            f" only plans of planners can be recomputed; planners in this bag: {known}"
        )

    def is_planner(self, planner: tuple[str, str]) -> bool:
        """Whether its settings are recorded."""
        try:
            self.settings(planner)
        except ReplayError:
            return False
        return True


def find_bag(path: str | Path) -> Path:
    """The bag of a run directory, its newest where it has several; or `path` itself. Raises ReplayError."""
    path = Path(path)
    if (path / METADATA).exists() or path.is_file() or any(path.glob("*.mcap")):
        return path
    bags = [item for item in path.glob(f"{BAG}*") if item.is_dir() and _number(item) >= 0]
    if not bags:
        raise ReplayError(f"{path}: expected a run's folder with a recording in {BAG}/, or a bag; there is neither")
    return max(bags, key=_number)


def _number(bag: Path) -> int:
    """0 for `bag`, N for `bag_N`, -1 for others."""
    rest = bag.name.removeprefix(BAG)
    return 0 if not rest else int(rest[1:]) if rest[0] == "_" and rest[1:].isdigit() else -1


def read_recording(path: str | Path, namespace: str | None = None) -> Recording:
    """Reads a run directory or a bag; `namespace` says which robot where it has several. Raises ReplayError."""
    bag = find_bag(path)
    information = _information(bag.parent)
    spec: RobotSpec | None = None
    episodes: list[RecordedEpisode] = []
    tasks, models, plans = [], [], []
    settings: dict[str, str] = {}
    for order, (topic, message) in enumerate(_messages(bag, TOPICS, namespace)):
        if topic == "robot_spec":
            spec = _same_robot(bag, spec, message)
        elif topic == "task":
            tasks.append((order, message))
        elif topic == "model":
            models.append((order, message.producer, message.version))
        elif topic == "plan":
            plans.append(RecordedPlan(message, order))
        elif topic == SETTINGS:
            settings[_producer(message.data)] = message.data
        else:
            if not episodes or message.episode != episodes[-1].number or message.step_type == StepType.FIRST:
                episodes.append(RecordedEpisode(message.episode, order))
            episodes[-1].time_steps.append(message)
    if spec is None:
        raise ReplayError(f"{bag}: expected a robot_spec message, got none")
    told = information.get("interface_hash", spec.interface_hash)
    if told != spec.interface_hash:
        raise ReplayError(
            f"{bag}: is of robot {spec.name!r}, interface {spec.interface_hash[:12]!r}, but {INFORMATION} beside it is"
            f" of robot {information.get('robot')!r}, interface {str(told)[:12]!r}"
        )
    _give_plans(episodes, plans)
    return Recording(bag, spec, episodes, information, namespace, tasks, models, settings)


def _give_plans(episodes: Sequence[RecordedEpisode], plans: Sequence[RecordedPlan]) -> None:
    """To each episode its plans. Numbers come twice where the robot's node was started twice."""
    by_number: dict[int, list[RecordedEpisode]] = {}
    for episode in episodes:
        by_number.setdefault(episode.number, []).append(episode)
    for plan in plans:
        same = by_number.get(plan.message.episode)
        if same:
            begun = [episode for episode in same if episode.order <= plan.order]
            (begun[-1] if begun else same[0]).plans.append(plan)


def _same_robot(bag: Path, spec: RobotSpec | None, message: Any) -> RobotSpec:
    try:
        new = spec_from_message(message)
    except MessageError as error:
        raise ReplayError(f"{bag}: {error}") from None
    if spec is not None and spec.interface_hash != new.interface_hash:
        raise ReplayError(
            f"{bag}: holds two robots: {spec.name!r}, interface {spec.interface_hash[:12]!r}, and {new.name!r},"
            f" interface {new.interface_hash[:12]!r}; expected one"
        )
    return new


def _producer(text: str) -> str:
    try:
        return str(json.loads(text)["producer"])
    except (ValueError, TypeError, KeyError):
        return ""  # nobody's: whoever needs it is told that there are none


def _information(directory: Path) -> dict[str, Any]:
    try:
        content = json.loads((directory / INFORMATION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ReplayError(f"{directory / INFORMATION}: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("settings", {}), dict):
        raise ReplayError(f"{directory / INFORMATION}: expected a JSON object that says how the run was made")
    return content


def _messages(bag: Path, topics: Sequence[str], namespace: str | None) -> Iterator[tuple[str, Any]]:
    """Topic and message in order of reception. Raises ReplayError."""
    try:
        for topic, _, message in read_stamped(bag, topics, namespace, optional=(SETTINGS,)):
            yield topic, message
    except BagError as error:
        raise ReplayError(str(error)) from None
