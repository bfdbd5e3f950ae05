# SPDX-License-Identifier: Apache-2.0
"""Where the checkout is, and its runs."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """The checkout that `./mbrl` was called from.

    Raises:
        RuntimeError: not started by `./mbrl`.
    """
    place = os.environ.get("MBRL_ROOT")
    if not place:
        raise RuntimeError("MBRL_ROOT is not set: this runs as a command of ./mbrl, not by itself")
    return Path(place)


def find_run(name: str) -> Path | None:
    """A run or bag by its path, or its name under runs/; `latest` is the newest run. None when there is no such."""
    if name == "latest":
        return max(_runs(), key=lambda folder: folder.stat().st_mtime, default=None)
    for candidate in (Path(name), root() / "runs" / name):
        if candidate.exists():
            return candidate.resolve()
    return None


def no_such_run(name: str) -> str:
    """What to say when there is none of that name."""
    known = ", ".join(sorted(folder.name for folder in _runs())) or "none"
    return f"there is no run {name!r}; under {root() / 'runs'} there are: {known}"


def _runs() -> list[Path]:
    return [folder for folder in (root() / "runs").glob("*") if folder.is_dir()]
