# SPDX-License-Identifier: Apache-2.0
"""Finds implementations by name: a new kind is one class, one configuration dataclass and one preset file."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, TypeVar

from mbrl_core.config import ConfigurationError, from_mapping

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Entry(Generic[Kind]):
    """One registered kind."""

    name: str
    implementation: type[Kind]
    configuration: type


class Registry(Generic[Kind]):
    """Kinds of one role, by name.

    Kinds of this suite register themselves when `modules` are imported; kinds of other packages are found
    through Python entry points of the group `mbrl.<role>`, whose value is a module to import.
    """

    def __init__(self, role: str, modules: tuple[str, ...] = ()) -> None:
        self.role = role
        self._modules = modules
        self._entries: dict[str, Entry[Kind]] = {}
        self._loaded = False

    def register(self, name: str, configuration: type) -> Callable[[type[Any]], type[Any]]:
        """Class decorator. Raises ValueError when the name is taken by another class."""

        def decorate(implementation: type[Any]) -> type[Any]:
            known = self._entries.get(name)
            if known is not None and known.implementation.__qualname__ != implementation.__qualname__:
                raise ValueError(f"{self.role} kind {name!r} is registered twice")
            self._entries[name] = Entry(name, implementation, configuration)
            return implementation

        return decorate

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._load()
        return sorted(self._entries)

    def get(self, name: str) -> Entry[Kind]:
        """Returns an entry. Raises ConfigurationError that lists the known names."""
        self._load()
        if name not in self._entries:
            raise ConfigurationError(
                f"unknown {self.role} {name!r}, expected one of: {', '.join(sorted(self._entries))}"
            )
        return self._entries[name]

    def configurations(self) -> list[type]:
        """The configuration dataclasses of all kinds, in the order of `names`."""
        return [self.get(name).configuration for name in self.names()]

    def configure(self, name: str, mapping: dict[str, Any]) -> Any:
        """Builds the configuration of a kind from a mapping, less its `kind` key."""
        return from_mapping(
            self.get(name).configuration, {key: value for key, value in mapping.items() if key != "kind"}
        )

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for module in self._modules:
            importlib.import_module(module)
        for entry_point in metadata.entry_points(group=f"mbrl.{self.role}"):
            entry_point.load()
