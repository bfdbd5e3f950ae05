# SPDX-License-Identifier: Apache-2.0
"""The colcon workspace: which packages are out of date, and building those."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from .handover import variables
from .places import Places, SetupError
from .progress import Progress

# With --symlink-install a changed Python or data file needs no build; these do.
_BUILD_FILES = {"package.xml", "CMakeLists.txt", "setup.py", "setup.cfg"}
_COMPILED = {".msg", ".srv", ".action", ".idl", ".h", ".hpp", ".cpp"}
_SHARED_FOLDERS = {"mbrl_bringup": ("launch", "config")}
_SKIPPED = {"__pycache__", "test", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def package_keys(places: Places) -> dict[str, str]:
    """For every package under src/ a key that changes when it must be built again."""
    keys = {}
    for manifest in sorted(places.sources.glob("*/package.xml")):
        found = re.search(r"<name>\s*([A-Za-z0-9_]+)\s*</name>", manifest.read_text(encoding="utf-8"))
        if found is None:
            raise SetupError(f"{manifest} has no <name>")
        keys[found[1]] = _key(places, manifest.parent, found[1])
    return keys


def _key(places: Places, folder: Path, name: str) -> str:
    digest = hashlib.sha256()
    shared = [places.root / part for part in _SHARED_FOLDERS.get(name, ())]
    for file in _files([folder, *shared]):
        digest.update(f"{file.relative_to(places.root)}\0".encode())
        if file.name in _BUILD_FILES or file.suffix in _COMPILED:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        if not folder.is_dir():
            continue
        for entry in sorted(folder.iterdir()):
            if entry.is_dir():
                if entry.name not in _SKIPPED and not entry.name.endswith(".egg-info"):
                    yield from _files([entry])
            elif entry.suffix != ".pyc":
                yield entry


def build(places: Places, progress: Progress, outdated: list[str], gone: list[str]) -> None:
    """Build the packages named, and remove those that the checkout no longer has.

    Raises:
        SetupError: a package does not build.
    """
    for name in gone:
        shutil.rmtree(places.build / name, ignore_errors=True)
        shutil.rmtree(places.install / name, ignore_errors=True)
    if not outdated:
        return
    progress.step(f"building {', '.join(outdated)} with colcon")
    environment = variables(places)
    environment["CMAKE_GENERATOR"] = "Ninja"  # comes with the environment, unlike make
    progress.run(
        [
            places.environment / "bin" / "colcon",
            "--log-base",
            places.colcon_log,
            "build",
            "--symlink-install",
            "--base-paths",
            places.sources,
            "--build-base",
            places.build,
            "--install-base",
            places.install,
            "--packages-select",
            *outdated,
            "--event-handlers",
            "console_direct+",
            "--cmake-args",
            "-DBUILD_TESTING=OFF",
            f"-DPython3_EXECUTABLE={places.python}",
        ],
        environment,
        directory=places.state,
        purpose="Building the packages",
    )
    for name in outdated:
        forget_removed(places.install / name)


def forget_removed(folder: Path) -> None:
    """Removes links to files that the checkout no longer has: colcon leaves them, and who lists robots finds them."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = Path(parent, name)
            if entry.is_symlink() and not entry.exists():
                entry.unlink()
