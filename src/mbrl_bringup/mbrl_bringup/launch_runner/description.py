# SPDX-License-Identifier: Apache-2.0
"""What a launch file comes to: nodes and arguments, with nothing left to replace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .packages import find_executable, share_of


@dataclass(frozen=True)
class Argument:
    """An argument that a launch file declares.

    Attributes:
        name: as given on the command line before `:=`.
        default: as written in the file; None where a value is required.
        choices: permitted values; empty for any.
        description: one sentence.
        file: the launch file that declares it.
    """

    name: str
    default: str | None
    choices: tuple[str, ...]
    description: str
    file: Path


@dataclass(frozen=True)
class Node:
    """One process to start.

    Attributes:
        arguments: words after the program's name, ahead of those of ROS.
        namespace: absolute; None where the file gives none (the node's own default then holds).
        parameters: in order, parameter files and tables of a file's form, `{node name: {name: value}}`.
        remappings: pairs of old and new name.
        arguments: words of the command line before those of ROS.
        output: screen, log or both.
        respawn_delay: s.
        ends_launch: `on_exit: shutdown`.
        environment: variables that the file sets for the process.
        place: file and line, for messages.
    """

    package: str
    executable: str
    name: str | None
    namespace: str | None
    parameters: tuple[Path | dict[str, dict[str, Any]], ...]
    remappings: tuple[tuple[str, str], ...]
    output: str
    respawn: bool
    respawn_delay: float
    ends_launch: bool
    environment: dict[str, str]
    place: str
    arguments: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Short name for output: the node's name with its namespace."""
        name = self.name or self.executable
        return name if self.namespace in (None, "/") else f"{self.namespace}/{name}".lstrip("/")

    def command(self, parameter_files: list[Path]) -> list[str]:
        """The command line. Raises: PackageError: the executable does not exist.

        Args:
            parameter_files: a file for each of `parameters`.
        """
        words = [str(find_executable(self.package, self.executable)), *self.arguments, "--ros-args"]
        if self.name is not None:
            words += ["-r", f"__node:={self.name}"]
        if self.namespace is not None:
            words += ["-r", f"__ns:={self.namespace}"]
        for file in parameter_files:
            words += ["--params-file", str(file)]
        for old, new in self.remappings:
            words += ["-r", f"{old}:={new}"]
        return words


@dataclass
class LaunchDescription:
    """A launch file, expanded for one set of arguments.

    Attributes:
        arguments: every argument declared on the way, in order.
        nodes: in the order in which they are started.
    """

    arguments: list[Argument] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)

    def normal_form(self, log_directory: Path) -> list[dict[str, Any]]:
        """Nodes as plain data, free of this machine's paths; the form that committed expansions have.

        Args:
            log_directory: what `$(log_dir)` stood for.
        """
        folders = {str(log_directory): "$(log_dir)"}
        for package in {node.package for node in self.nodes} | {"mbrl_bringup", "mbrl_description"}:
            folders[str(share_of(package))] = f"$(find-pkg-share {package})"
        nodes = [
            {
                "package": node.package,
                "executable": node.executable,
                "name": node.name,
                "namespace": node.namespace,
                "parameters": [
                    str(entry) if isinstance(entry, Path) else {key: dict(entry[key]) for key in sorted(entry)}
                    for entry in node.parameters
                ],
                "remappings": [list(pair) for pair in node.remappings],
                **({"arguments": list(node.arguments)} if node.arguments else {}),
            }
            for node in self.nodes
        ]
        plain: list[dict[str, Any]] = _without_folders(nodes, folders)
        return sorted(plain, key=lambda node: (node["namespace"] or "", node["name"] or "", node["executable"]))


def _without_folders(value: Any, folders: dict[str, str]) -> Any:
    if isinstance(value, str):
        for folder in sorted(folders, key=len, reverse=True):
            value = value.replace(folder, folders[folder])
        return value
    if isinstance(value, list):
        return [_without_folders(entry, folders) for entry in value]
    if isinstance(value, dict):
        return {key: _without_folders(entry, folders) for key, entry in value.items()}
    return value
