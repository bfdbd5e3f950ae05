# SPDX-License-Identifier: Apache-2.0
"""Bring the environment to what the checkout asks for."""

from __future__ import annotations

import signal
from types import FrameType

from . import environment, system, workspace
from .lock import exclusive
from .places import Places
from .progress import Progress
from .stamps import Stamps


def is_ready(places: Places) -> bool:
    """Whether nothing is left to do."""
    return places.python.exists() and Stamps.present(places) == Stamps.wanted(places)


def ensure(places: Places) -> None:
    """Do whatever set-up is left. Each stage is recorded when it is complete, so an interrupted one is repeated.

    Raises:
        SetupError: it cannot be done; the text says why and what to do.
    """
    if is_ready(places):
        return
    system.check_platform()
    signal.signal(signal.SIGTERM, _interrupt)  # undone by whatever is started afterwards
    with exclusive(places) as lock:
        if is_ready(places):  # by the set-up just waited for
            return
        with Progress(places, lock) as progress:
            _bring_up(places, progress)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _bring_up(places: Places, progress: Progress) -> None:
    wanted, present = Stamps.wanted(places), Stamps.present(places)
    system.provide(progress)
    if present.ros != wanted.ros or not places.python.exists():
        present = Stamps()
        present.write(places)
        environment.create(places, progress)
        present.ros = wanted.ros
        present.write(places)
    if present.libraries != wanted.libraries:
        environment.install_libraries(places, progress)
        environment.check(places, progress)
        present.libraries = wanted.libraries
        present.write(places)
    outdated = [name for name, key in wanted.packages.items() if present.packages.get(name) != key]
    gone = [name for name in present.packages if name not in wanted.packages]
    workspace.build(places, progress, outdated, gone)
    present.packages = wanted.packages
    present.write(places)
    progress.step("ready")
