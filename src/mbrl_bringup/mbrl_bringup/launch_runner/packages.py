# SPDX-License-Identifier: Apache-2.0
"""Packages and executables by way of the ament index (a folder of marker files in every prefix)."""

from __future__ import annotations

import os
from pathlib import Path

from .debian import advice


class PackageError(Exception):
    """A package or an executable cannot be found."""


def prefix_of(package: str) -> Path:
    """The prefix that a package is installed in.

    Raises:
        PackageError: no prefix of AMENT_PREFIX_PATH has it.
    """
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for prefix in prefixes:
        if (prefix / "share/ament_index/resource_index/packages" / package).is_file():
            return prefix
    text = f"package {package!r} is in none of the {len(prefixes)} prefixes of AMENT_PREFIX_PATH"
    what = advice([package])
    raise PackageError(f"{text}. {what}" if what else text)


def share_of(package: str) -> Path:
    """The share folder of a package. Raises: PackageError."""
    return prefix_of(package) / "share" / package


def executables(package: str) -> list[str]:
    """Names of a package's executables, sorted. Raises: PackageError."""
    folder = prefix_of(package) / "lib" / package
    if not folder.is_dir():
        return []
    return sorted(file.name for file in folder.iterdir() if file.is_file() and os.access(file, os.X_OK))


def find_executable(package: str, executable: str) -> Path:
    """The path of an executable.

    Raises:
        PackageError: there is no such package, or it has no such executable; names those it has.
    """
    program = prefix_of(package) / "lib" / package / executable
    if not (program.is_file() and os.access(program, os.X_OK)):
        known = ", ".join(executables(package)) or "none"
        raise PackageError(f"package {package!r} has no executable {executable!r}; it has {known}")
    return program
