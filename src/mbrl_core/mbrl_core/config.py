# SPDX-License-Identifier: Apache-2.0
"""The one configuration mechanism: a frozen dataclass per component.

A field made by `parameter` carries its description and range. The same dataclass is filled from a preset
(a ROS parameter file, read here without ROS), from ROS parameters (`mbrl_ros.parameters`), or by hand.
"""

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

Configuration = TypeVar("Configuration")

SCALAR_TYPES: tuple[type, ...] = (bool, int, float, str)


class ConfigurationError(ValueError):
    """A parameter is unknown, of the wrong type, or out of range; the text names it, what came, what was expected."""


@dataclasses.dataclass(frozen=True)
class ParameterDescription:
    """What one parameter is: everything a ROS descriptor and a help text need."""

    name: str
    type: Any
    default: Any
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] | None = None
    read_only: bool = False


def parameter(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] | None = None,
    read_only: bool = False,
) -> Any:
    """Declares one field of a configuration dataclass. Lists are given as a tuple and typed `tuple[float, ...]`."""
    metadata = {
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "read_only": read_only,
    }
    return dataclasses.field(default=default, metadata=metadata)


def describe(configuration_class: type) -> list[ParameterDescription]:
    """Lists the parameters of a configuration dataclass, in order."""
    hints = typing.get_type_hints(configuration_class)
    return [
        ParameterDescription(
            name=field.name,
            type=hints[field.name],
            default=field.default,
            description=field.metadata.get("description", ""),
            minimum=field.metadata.get("minimum"),
            maximum=field.metadata.get("maximum"),
            choices=field.metadata.get("choices"),
            read_only=field.metadata.get("read_only", False),
        )
        for field in dataclasses.fields(configuration_class)
    ]


def element_type(parameter_type: Any) -> tuple[type, bool]:
    """Splits `int` into (int, False) and `tuple[int, ...]` into (int, True)."""
    if typing.get_origin(parameter_type) is tuple:
        return typing.get_args(parameter_type)[0], True
    if isinstance(parameter_type, types.UnionType) or parameter_type not in SCALAR_TYPES:
        raise TypeError(
            f"configuration fields are bool, int, float, str or a tuple of one of them, not {parameter_type}"
        )
    return parameter_type, False


def check_value(description: ParameterDescription, value: Any) -> Any:
    """Returns `value` converted to the parameter's type.

    An int is accepted for a float. Raises ConfigurationError on a wrong type, a value out of range, or a
    non-finite number.
    """
    scalar, is_list = element_type(description.type)
    if is_list:
        if not isinstance(value, (list, tuple)) and not hasattr(value, "tolist"):
            raise _error(description, value, f"a list of {scalar.__name__}")
        return tuple(_check_scalar(description, scalar, item) for item in value)
    return _check_scalar(description, scalar, value)


def _check_scalar(description: ParameterDescription, scalar: type, value: Any) -> Any:
    if scalar is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, scalar) or (scalar is int and isinstance(value, bool)):
        raise _error(description, value, scalar.__name__)
    if description.choices is not None and value not in description.choices:
        raise _error(description, value, "one of " + ", ".join(str(choice) for choice in description.choices))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise _error(description, value, "a finite number")
        if description.minimum is not None and value < description.minimum:
            raise _error(description, value, f"at least {description.minimum}")
        if description.maximum is not None and value > description.maximum:
            raise _error(description, value, f"at most {description.maximum}")
    return value


def _error(description: ParameterDescription, value: Any, expected: str) -> ConfigurationError:
    return ConfigurationError(f"parameter {description.name!r}: got {value!r}, expected {expected}")


def from_mapping(configuration_class: type[Configuration], mapping: dict[str, Any]) -> Configuration:
    """Builds a configuration from a mapping; what the mapping leaves out keeps its default.

    Raises ConfigurationError on an unknown name, a wrong type or a value out of range.
    """
    descriptions = {item.name: item for item in describe(configuration_class)}
    unknown = sorted(set(mapping) - set(descriptions))
    if unknown:
        raise ConfigurationError(
            f"unknown parameter {unknown[0]!r} for {configuration_class.__name__}; known: {', '.join(descriptions)}"
        )
    return configuration_class(**{name: check_value(descriptions[name], value) for name, value in mapping.items()})


def to_mapping(configuration: Any) -> dict[str, Any]:
    """The reverse of `from_mapping`: plain numbers, strings and lists."""
    values = {field.name: getattr(configuration, field.name) for field in dataclasses.fields(configuration)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def load_preset(path: str | Path, section: str | None = None) -> dict[str, Any]:
    """Reads the parameters that a ROS parameter file gives to every node (`/**`).

    `section` names a nested group, for instance `planner`. Raises ConfigurationError when the file is not a
    parameter file or lacks the section, FileNotFoundError when it does not exist.
    """
    with open(path, encoding="utf-8") as stream:
        content = yaml.safe_load(stream)
    try:
        parameters = content["/**"]["ros__parameters"]
    except (TypeError, KeyError):
        raise ConfigurationError(
            f"{path}: expected a ROS parameter file with '/**: {{ros__parameters: ...}}'"
        ) from None
    if section is None:
        return dict(parameters)
    if not isinstance(parameters.get(section), dict):
        raise ConfigurationError(f"{path}: expected a group {section!r} among {', '.join(parameters)}")
    return dict(parameters[section])


def load_tuning(path: str | Path, node: str) -> dict[str, Any]:
    """Reads the parameters that a ROS parameter file, one of config/tuning, gives to the nodes named `node`
    (`/**/node`); empty where it gives them none. Raises FileNotFoundError when the file does not exist.
    """
    with open(path, encoding="utf-8") as stream:
        content = yaml.safe_load(stream)
    return dict(content.get(f"/**/{node}", {}).get("ros__parameters", {}))
