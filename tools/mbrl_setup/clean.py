# SPDX-License-Identifier: Apache-2.0
"""`./mbrl clean`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from .lock import exclusive
from .places import Places, SetupError

USAGE = """\
Usage: ./mbrl clean [--runs]

Removes .mbrl/ (environment, build, logs) and the caches of the checks; with --runs also runs/, where the
recordings, checkpoints and results of every run are. Names each before it goes.
"""
_CACHES = (".mypy_cache", ".ruff_cache", ".pytest_cache")


def clean(places: Places, arguments: list[str]) -> int:
    """Remove what set-up and checks have made. Returns the exit status."""
    if arguments not in ([], ["--runs"]):
        print(USAGE, end="")
        return 0 if arguments[0] in ("-h", "--help") else 2
    folders = [*(places.root / name for name in _CACHES)]
    if arguments:
        folders.append(places.runs)
    removed = [_remove(folder) for folder in folders]
    if places.state.exists():
        # Holding the lock: nobody is just installing into what goes.
        with exclusive(places):
            removed.append(_remove(places.state))
    if not any(removed):
        print("mbrl: nothing to remove", file=sys.stderr)
    return 0


def _remove(folder: Path) -> bool:
    if not folder.exists():
        return False
    print(f"mbrl: removing {folder}", file=sys.stderr)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise SetupError(f"cannot remove {folder}: {error}") from error
    return True
