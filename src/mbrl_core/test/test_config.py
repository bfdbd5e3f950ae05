# SPDX-License-Identifier: Apache-2.0
"""The configuration mechanism refuses what it should and keeps what it may."""

from dataclasses import dataclass

import pytest

from mbrl_core.config import ConfigurationError, describe, from_mapping, load_preset, load_tuning, parameter, to_mapping


@dataclass(frozen=True)
class Example:
    """One parameter of each type."""

    count: int = parameter(3, "A count.", minimum=1, maximum=9)
    rate: float = parameter(0.5, "A rate.", minimum=0.0)
    name: str = parameter("a", "A name.", choices=("a", "b"))
    active: bool = parameter(False, "A switch.")
    goal: tuple[float, ...] = parameter((0.0, 1.0), "A goal.")


def test_round_trip_keeps_every_value() -> None:
    example = Example(count=4, rate=2.0, name="b", active=True, goal=(3.0,))
    assert from_mapping(Example, to_mapping(example)) == example


def test_an_int_serves_as_a_float_and_a_list_as_a_tuple() -> None:
    example = from_mapping(Example, {"rate": 2, "goal": [1, 2]})
    assert example.rate == 2.0 and isinstance(example.rate, float)
    assert example.goal == (1.0, 2.0)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("count", 0, "at least 1"),
        ("count", 10, "at most 9"),
        ("count", 2.5, "int"),
        ("count", True, "int"),
        ("rate", float("nan"), "finite"),
        ("rate", "fast", "float"),
        ("name", "c", "one of a, b"),
        ("active", 1, "bool"),
        ("goal", 1.0, "list of float"),
        ("goal", [1.0, "x"], "float"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: object, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}'.*{expected}"):
        from_mapping(Example, {name: value})


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="unknown parameter 'cuont'.*count, rate"):
        from_mapping(Example, {"cuont": 3})


def test_describe_gives_types_and_ranges() -> None:
    count = describe(Example)[0]
    assert (count.name, count.type, count.default, count.minimum, count.maximum) == ("count", int, 3, 1, 9)


def test_a_preset_is_a_ros_parameter_file(tmp_path) -> None:
    path = tmp_path / "preset.yaml"
    path.write_text("/**:\n  ros__parameters:\n    planner: {kind: icem, horizon: 7}\n")
    assert load_preset(path, "planner") == {"kind": "icem", "horizon": 7}
    with pytest.raises(ConfigurationError, match="group 'dynamics'"):
        load_preset(path, "dynamics")
    path.write_text("planner: {}\n")
    with pytest.raises(ConfigurationError, match="ROS parameter file"):
        load_preset(path)


def test_a_tuning_file_speaks_to_nodes_by_name(tmp_path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("/**/planner:\n  ros__parameters:\n    planner: {horizon: 12}\n/**:\n  ros__parameters: {}\n")
    assert load_tuning(path, "planner") == {"planner": {"horizon": 12}}
    assert load_tuning(path, "learner") == {}
    with pytest.raises(FileNotFoundError):
        load_tuning(tmp_path / "nobody.yaml", "planner")
