# SPDX-License-Identifier: Apache-2.0
"""What is changed about a recorded decision: another planner, model or task, or single values of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory

from mbrl_bringup.replay import Circumstances
from mbrl_bringup.replay_decision import Decision
from mbrl_bringup.replay_recording import ReplayError
from mbrl_core.checkpoint import CheckpointError, load_checkpoint, under
from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.observed_task import plain_task, task_on
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import Task, task_of_preset
from mbrl_dynamics.model import DynamicsModel, ModelError
from mbrl_dynamics.registry import make_model
from mbrl_planner.nodes.settings import GROUP, PlannerSettings, settings_from_parameters
from mbrl_planner.registry import PLANNERS

# Of the node's own parameters those that change a plan.
NODE_PARAMETERS = ("seed", "delay_steps", "replan", "open_loop_horizon")


@dataclass(frozen=True)
class Changes:
    """As the user names them: `planner` is a preset's name or file or a registered kind, `model` a learner's checkpoint
    or a version that is in the bag, `task` a preset's name or file, `values` are `NAME=VALUE`.
    """

    planner: str = ""
    model: str = ""
    task: str = ""
    values: Sequence[str] = ()

    @property
    def any(self) -> bool:
        """Whether something is to be changed."""
        return bool(self.planner or self.model or self.task or self.values)


def changed(decision: Decision, changes: Changes) -> tuple[Circumstances, list[str]]:
    """The circumstances of a decision with changes, and in words what has changed. Raises ReplayError."""
    values = dict(_split(text) for text in changes.values)
    settings, task = decision.settings, decision.recording.task(decision.recorded)
    given: Task | None = None
    model: DynamicsModel | None = None
    words = []
    try:
        settings = _settings(settings, changes.planner, values)
        words += _differences(decision.settings.parameters(), settings.parameters())
        given = _task(plain_task(task), changes.task, values)
        if given is not None:
            given = task_on(given, decision.recording.spec)
            words += _differences(_task_values(task), _task_values(given))
        if changes.model:
            model, name = _model(decision, changes.model)
            words.append(f"model: version {decision.recorded.message.model_version} -> {name}")
    except ConfigurationError as error:
        raise ReplayError(str(error)) from None
    return Circumstances(settings, model, given), words or ["nothing: what is given is what was"]


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    known = ", ".join(("planner.NAME", "task.goal", "task.parameters.NAME", "task.weights.NAME", *NODE_PARAMETERS))
    fitting = name.startswith((GROUP, "task.")) or name in NODE_PARAMETERS
    if not equals or not fitting:
        raise ReplayError(f"--set {text}: expected NAME=VALUE with NAME one of {known}")
    return name, value


def _settings(settings: PlannerSettings, planner: str, values: Mapping[str, str]) -> PlannerSettings:
    parameters = settings.parameters()
    if planner:
        parameters = {name: value for name, value in parameters.items() if not name.startswith(GROUP)}
        parameters |= {f"{GROUP}{name}": value for name, value in _planner_preset(planner).items()}
    for name, value in values.items():
        if not name.startswith("task."):
            parameters[name] = _value(name, value)
    return settings_from_parameters(parameters, producer=settings.producer, computation=settings.computation)


def _planner_preset(name: str) -> dict[str, Any]:
    path = _preset_file("planner", name)
    if path is not None:
        return load_preset(path, "planner")
    if name not in PLANNERS.names():
        presets = ", ".join(sorted(file.stem for file in _presets("planner").glob("*.yaml")))
        raise ReplayError(f"--planner {name}: expected a preset file, or one of the presets {presets}")
    return {"kind": name}


def _presets(folder: str) -> Path:
    return Path(get_package_share_directory("mbrl_bringup")) / "config" / folder


def _preset_file(folder: str, name: str) -> Path | None:
    for path in (Path(name), _presets(folder) / f"{name}.yaml"):
        if path.is_file():
            return path
    return None


def _value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ReplayError(f"--set {name}={text}: expected a number, a word or true or false") from None


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(item) for item in text.strip("[] ").split(",") if item.strip())
    except ValueError:
        raise ReplayError(f"--set {name}={text}: expected numbers with commas between them") from None


def _task(task: Task, preset: str, values: Mapping[str, str]) -> Task | None:
    """The changed task; None where it stays as it was, version by version."""
    if preset:
        path = _preset_file("tasks", preset)
        if path is None:
            known = ", ".join(sorted(file.stem for file in _presets("tasks").glob("*.yaml")))
            raise ReplayError(f"--task {preset}: expected a preset file, or one of the presets {known}")
        task = task_of_preset(load_preset(path, "task"))
    groups = {"parameters": dict(task.parameters), "weights": dict(task.weights)}
    goal, obstacles, touched = task.goal, task.obstacles, bool(preset)
    for name, text in values.items():
        if not name.startswith("task."):
            continue
        _, group, *rest = name.split(".", 2)
        touched = True
        if group == "goal" and not rest:
            goal = _numbers(name, text)
        elif group == "obstacles" and not rest:
            obstacles = _numbers(name, text)
        elif group in groups and rest:
            numbers = _numbers(name, text)
            if len(numbers) != 1:
                raise ReplayError(f"--set {name}={text}: expected one number")
            groups[group][rest[0]] = numbers[0]
        else:
            raise ReplayError(
                f"--set {name}={text}: expected task.goal, task.obstacles, task.parameters.NAME or task.weights.NAME"
            )
    if not touched:
        return None
    parameters, weights = groups["parameters"], groups["weights"]
    return dataclasses.replace(task, goal=goal, parameters=parameters, weights=weights, obstacles=obstacles)


def _task_values(task: Task) -> dict[str, Any]:
    values: dict[str, Any] = {"task.kind": task.kind, "task.goal": task.goal, "task.obstacles": task.obstacles}
    values |= {f"task.parameters.{name}": value for name, value in task.parameters.items()}
    return values | {f"task.weights.{name}": value for name, value in task.weights.items()}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is other than before; what only the kind before had goes without saying."""
    words = [f"{name}: {value} -> {after[name]}" for name, value in before.items() if after.get(name, value) != value]
    return words + [f"{name}: {value}" for name, value in after.items() if name not in before]


def _model(decision: Decision, wanted: str) -> tuple[DynamicsModel, str]:
    """A model, and what to call it."""
    recording = decision.recording
    if wanted.isdigit():
        return recording.model(recording.model_index(int(wanted))), f"version {wanted}"
    return checkpoint_model(wanted, recording.spec), wanted


def checkpoint_model(path: str | Path, spec: RobotSpec) -> DynamicsModel:
    """The published model of a learner's checkpoint. Raises ReplayError that names the file."""
    try:
        arrays, information = load_checkpoint(path)
        interface = str(information["interface_hash"])
        if interface != spec.interface_hash:
            raise ReplayError(
                f"{path}: is of a robot with interface {interface[:12]!r}, expected {spec.interface_hash[:12]!r} of"
                f" {spec.name!r}"
            )
        model = make_model(information["model"]["kind"], information["model"], spec, 0)
        model.load_arrays(under("published/", arrays))
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}; expected a checkpoint of a learner") from None
    except (KeyError, TypeError) as error:
        raise ReplayError(f"{path}: has no {error}: expected a checkpoint of a learner") from None
    except CheckpointError as error:
        raise ReplayError(str(error)) from None
    except (ConfigurationError, ModelError) as error:
        raise ReplayError(f"{path}: {error}") from None
    return model
