# SPDX-License-Identifier: Apache-2.0
"""YAML with the line of every value, so that what is refused can be pointed at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class LaunchFileError(Exception):
    """A launch file cannot be run; the text begins with file and line."""


@dataclass(frozen=True)
class Located:
    """A YAML value and where it stands.

    Attributes:
        value: a plain scalar, a list of Located, or a dictionary from key to Located.
        file: the launch file.
        line: counted from 1.
    """

    value: Any
    file: Path
    line: int

    def error(self, text: str) -> LaunchFileError:
        """An error that points here."""
        return LaunchFileError(f"{self.file}:{self.line}: {text}")

    def text(self, what: str) -> str:
        """The value as a string. Raises: LaunchFileError: it is none, as `ros2 launch` would say too."""
        if not isinstance(self.value, str):
            raise self.error(f"{what} must be a string, got {self.value!r}: put it in quotes")
        return self.value

    def items(self, what: str) -> list[Located]:
        """The value as a list. Raises: LaunchFileError: it is none."""
        if not isinstance(self.value, list):
            raise self.error(f"{what} must be a list")
        return self.value

    def attributes(self, what: str, known: frozenset[str], required: frozenset[str] = frozenset()) -> Attributes:
        """The value as attributes of an element.

        Raises:
            LaunchFileError: it is not a mapping, or has an attribute that is unknown, or lacks one.
        """
        if not isinstance(self.value, dict):
            raise self.error(f"{what} must be a mapping of attributes")
        for name, value in self.value.items():
            if name not in known:
                raise value.error(
                    f"attribute {name!r} of {what} is not supported here; these are: {', '.join(sorted(known))}"
                )
        for name in sorted(required):
            if name not in self.value:
                raise self.error(f"{what} lacks the attribute {name!r}")
        return Attributes(self.value)


@dataclass(frozen=True)
class Attributes:
    """The attributes of one element."""

    values: dict[str, Located]

    def get(self, name: str) -> Located | None:
        """The attribute, or None."""
        return self.values.get(name)

    def __getitem__(self, name: str) -> Located:
        return self.values[name]


def read(file: Path) -> Located:
    """Read a YAML file.

    Raises:
        LaunchFileError: it cannot be read, is not YAML, or names a key twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchFileError(f"{file}: cannot be read: {error}") from error
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise LaunchFileError(f"{file}:1: the file is empty")
        return _located(loader, node, file)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise LaunchFileError(f"{file}:{line}: not valid YAML: {getattr(error, 'problem', error)}") from error
    finally:
        loader.dispose()


def _located(loader: yaml.SafeLoader, node: yaml.Node, file: Path) -> Located:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return Located(dict(_pairs(loader, node, file)), file, line)
    if isinstance(node, yaml.SequenceNode):
        return Located([_located(loader, child, file) for child in node.value], file, line)
    return Located(loader.construct_object(node), file, line)


def _pairs(loader: yaml.SafeLoader, node: yaml.MappingNode, file: Path) -> Iterator[tuple[str, Located]]:
    seen = set()
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node)
        place = Located(key, file, key_node.start_mark.line + 1)
        if not isinstance(key, str):
            raise place.error(f"the key {key!r} is not a string")
        if key in seen:
            raise place.error(f"the key {key!r} stands here twice")
        seen.add(key)
        yield key, _located(loader, value_node, file)
