# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from configuration dataclasses: declared once, with descriptors, checked, unknown names refused."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from mbrl_core.config import (
    ConfigurationError,
    ParameterDescription,
    check_value,
    describe,
    element_type,
    from_mapping,
)

Configuration = TypeVar("Configuration")

# Parameters that rclpy or launch give to every node.
COMMON_PARAMETERS = ("use_sim_time", "start_type_description_service", "autostart")
COMMON_PREFIXES = ("qos_overrides.",)

_TYPES: dict[tuple[type, bool], Parameter.Type] = {
    (bool, False): Parameter.Type.BOOL,
    (int, False): Parameter.Type.INTEGER,
    (float, False): Parameter.Type.DOUBLE,
    (str, False): Parameter.Type.STRING,
    (bool, True): Parameter.Type.BOOL_ARRAY,
    (int, True): Parameter.Type.INTEGER_ARRAY,
    (float, True): Parameter.Type.DOUBLE_ARRAY,
    (str, True): Parameter.Type.STRING_ARRAY,
}
_LARGEST_DOUBLE = 1.7976931348623157e308
_LARGEST_INTEGER = 2**63 - 1


def declare(
    node: Node,
    configuration_class: type[Configuration],
    prefix: str = "",
    on_change: Callable[[Configuration], None] | None = None,
) -> Configuration:
    """Declares every field of a configuration dataclass as `prefix.field` and returns the instance in force.

    Values come from the node's overrides (launch file, parameter file, command line). A parameter whose
    dataclass field is `read_only` stays as it is; the others may be set while the node runs when `on_change` is given,
    which receives the new configuration after it was checked. Raises ConfigurationError.
    """
    values: dict[str, Any] = {}
    for description in describe(configuration_class):
        name = _full_name(prefix, description.name)
        override = node._parameter_overrides.get(name)
        value = description.default if override is None else override.value
        try:
            value = check_value(description, value)
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace(repr(description.name), repr(name), 1)) from None
        values[description.name] = value
        # ignore_override: the override has been checked and converted (an int for a double is fine) above.
        node.declare_parameter(
            name, _to_parameter(description, value), _descriptor(description, on_change), ignore_override=True
        )
    if on_change is not None:
        _accept_changes(node, configuration_class, prefix, on_change)
    return from_mapping(configuration_class, values)


def group(node: Node, prefix: str) -> dict[str, Any]:
    """The overrides below `prefix.`, for instance {'kind': 'icem', 'horizon': 25}."""
    start = prefix + "."
    return {
        name[len(start) :]: parameter.value
        for name, parameter in node._parameter_overrides.items()
        if name.startswith(start)
    }


def names_of(configuration_classes: Iterable[type], prefix: str) -> set[str]:
    """Full names of the parameters of several configuration dataclasses."""
    return {_full_name(prefix, item.name) for each in configuration_classes for item in describe(each)}


def finish(node: Node, passed_over: Collection[str] = ()) -> None:
    """Refuses overrides that nobody declared. Raises ConfigurationError that names one and lists the known.

    `passed_over` are names that may be given and mean nothing here: a robot's tuning file holds for every kind of
    model and planner, and not every kind has every parameter.
    """
    known = set(node._parameters)
    for name in sorted(node._parameter_overrides):
        if name not in known and name in passed_over:
            node.get_logger().info(f"parameter {name!r} is of another kind and passed over")
            continue
        if name in known or name in COMMON_PARAMETERS or name.startswith(COMMON_PREFIXES):
            continue
        listed = ", ".join(sorted(item for item in known if not item.startswith(COMMON_PREFIXES)))
        raise ConfigurationError(f"unknown parameter {name!r} of node {node.get_name()!r}; known: {listed}")


def _full_name(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _to_parameter(description: ParameterDescription, value: Any) -> Any:
    scalar, is_list = element_type(description.type)
    return [scalar(item) for item in value] if is_list else scalar(value)


def _descriptor(description: ParameterDescription, on_change: Any) -> ParameterDescriptor:
    scalar, is_list = element_type(description.type)
    descriptor = ParameterDescriptor(
        description=description.description,
        read_only=description.read_only or on_change is None,
        type=_TYPES[scalar, is_list].value,
    )
    if description.choices is not None:
        descriptor.additional_constraints = "one of: " + ", ".join(str(choice) for choice in description.choices)
    if description.minimum is not None or description.maximum is not None:
        if scalar is float:
            low = -_LARGEST_DOUBLE if description.minimum is None else float(description.minimum)
            high = _LARGEST_DOUBLE if description.maximum is None else float(description.maximum)
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        elif scalar is int:
            low_integer = -_LARGEST_INTEGER if description.minimum is None else int(description.minimum)
            high_integer = _LARGEST_INTEGER if description.maximum is None else int(description.maximum)
            descriptor.integer_range = [IntegerRange(from_value=low_integer, to_value=high_integer, step=1)]
    return descriptor


def _accept_changes(
    node: Node, configuration_class: type[Configuration], prefix: str, on_change: Callable[[Configuration], None]
) -> None:
    descriptions = {_full_name(prefix, item.name): item for item in describe(configuration_class)}

    def check(parameters: list[Parameter]) -> SetParametersResult:
        for item in parameters:
            if item.name in descriptions:
                try:
                    check_value(descriptions[item.name], item.value)
                except ConfigurationError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def apply(parameters: list[Parameter]) -> None:
        if any(item.name in descriptions for item in parameters):
            values = {item.name: node.get_parameter(name).value for name, item in descriptions.items()}
            on_change(from_mapping(configuration_class, values))

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(apply)
