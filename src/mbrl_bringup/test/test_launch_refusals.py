# SPDX-License-Identifier: Apache-2.0
"""What the runner does not support it refuses by file and line; it never guesses."""

from pathlib import Path

import pytest

from mbrl_bringup.launch_runner.expand import expand
from mbrl_bringup.launch_runner.source import LaunchFileError
from mbrl_bringup.launch_runner.substitutions import Scope, SubstitutionError, substitute

NODE = "  - node: {pkg: mbrl_robot, exec: robot_node"

# What stands in the file from line 2 on, the line that is to be named, and what is to be said of it.
REFUSED = {
    "unknown element": ("  - timer: {period: 1.0}", 2, "element 'timer' is not supported"),
    "unknown attribute": (NODE + ", launch-prefix: gdb}", 2, "attribute 'launch-prefix' of node is not supported"),
    "missing attribute": ("  - node: {pkg: mbrl_robot}", 2, "lacks the attribute 'exec'"),
    "evaluation": ('  - let: {name: a, value: "$(eval 1 + 1)"}', 2, r"\$\(eval .* is not supported|takes"),
    "substitution": ('  - let: {name: a, value: "$(anon ls)"}', 2, r"substitution \$\(anon ls\) is not supported"),
    "failing command": (
        "  - let: {name: a, value: \"$(command 'sh -c false')\"}",
        2,
        "ended with status 1",
    ),
    "command that complains": ("  - let: {name: a, value: \"$(command 'ls /no/such')\"}", 2, "/no/such"),
    "missing command": ('  - let: {name: a, value: "$(command no_such_program)"}', 2, "'no_such_program' cannot be"),
    "quoted args": (NODE + ", args: \"a 'b c'\"}", 2, "' outside a substitution is not supported"),
    "unknown variable": (NODE + ', name: "$(var nothing)"}', 2, "no argument or variable 'nothing'"),
    "environment": (NODE + ', name: "$(env MBRL_NOT_SET)"}', 2, "variable MBRL_NOT_SET is not set"),
    "boolean as respawn": (NODE + ", respawn: true}", 2, "respawn must be a string, got True"),
    "if and unless": (NODE + ', if: "1", unless: "0"}', 2, "exclude each other"),
    "condition that is none": (NODE + ', if: "maybe"}', 2, "true, false, 1 or 0, got 'maybe'"),
    "on_exit": (NODE + ", on_exit: restart}", 2, "on_exit: got 'restart', expected 'shutdown'"),
    "output": (NODE + ", output: file}", 2, "output: got 'file'"),
    "node name": (NODE + ', name: "a b"}', 2, "'a b' is not a node name"),
    "namespace": (NODE + ', namespace: "a//b"}', 2, "not a namespace"),
    "package": ("  - node: {pkg: no_such_package, exec: a}", 2, "package 'no_such_package' is in none"),
    "executable": (
        "  - node: {pkg: mbrl_robot, exec: robbot_node}",
        2,
        "no executable 'robbot_node'; it has .*robot_node",
    ),
    "parameter file": (NODE + ",\n     param: [{from: /no/such.yaml}]}", 3, "no parameter file /no/such.yaml"),
    "parameter type": (NODE + ", param: [{name: a, value: x, type: int}]}", 2, "'x' is not of type int"),
    "substituted type": (NODE + ', param: [{name: a, value: "$(env A b)", type: int}]}', 2, "'b' is not of type int"),
    "mixed list": (NODE + ", param: [{name: a, value: [1, x]}]}", 2, "values of one type"),
    "delay": (NODE + ", respawn_delay: -1.0}", 2, "respawn_delay: got -1.0"),
    "required argument": ("  - arg: {name: needed}", 2, "'needed' is required: needed:=VALUE"),
    "Python include": ('  - include: {file: "$(dirname)/a.launch.py"}', 2, "only YAML launch files"),
    "missing include": ('  - include: {file: "$(dirname)/a.launch.yaml"}', 2, "no launch file .*a.launch.yaml"),
    "itself": ('\n  - include: {file: "$(dirname)/it.launch.yaml"}', 3, "includes itself"),
    "key twice": ("  - let: {name: a,\n     value: b, value: c}", 3, "'value' stands here twice"),
    "not YAML": ("  - let: {name: a", 3, "not valid YAML"),
    "no list": ("  let: {name: a}", 2, "must be a list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_file_and_line(case: str, tmp_path: Path) -> None:
    text, line, message = REFUSED[case]
    file = tmp_path / "it.launch.yaml"
    file.write_text(f"launch:\n{text}\n")
    with pytest.raises(LaunchFileError) as refusal:
        expand(file, {}, tmp_path)
    assert str(refusal.value).startswith(f"{file}:{line}: "), refusal.value
    refusal.match(message)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "it.launch.yaml"
    with pytest.raises(LaunchFileError, match="cannot be read"):
        expand(file, {}, tmp_path)
    file.write_text("")
    with pytest.raises(LaunchFileError, match="the file is empty"):
        expand(file, {}, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(var a", r"expected '\)'"),
        ("$(var  a)", "an argument is missing"),
        ("$(equals 'a b)", "quote is not closed"),
        ("$(equals a)", "equals takes 2 arguments, got 1"),
        ("$(equals '$(var a)' '')", "an empty text is supported as an argument of if only"),
        ("$( var a)", "expected a name"),
        ("$(not ja)", "got 'ja'"),
        ("\\$(var a)", "escaped dollar sign"),
    ],
)
def test_malformed_substitutions_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SubstitutionError, match=message):
        substitute(text, Scope({"a": "b"}, tmp_path, tmp_path))
