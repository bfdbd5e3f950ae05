# SPDX-License-Identifier: Apache-2.0
"""Where everything that set-up makes is kept, and the errors it ends with."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


class SetupError(Exception):
    """Set-up cannot go on; the text says what to do about it."""


@dataclass(frozen=True)
class Places:
    """The paths of one checkout. All state is in `.mbrl/`, so that removing it undoes set-up."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / ".mbrl"

    @property
    def environment(self) -> Path:
        return self.state / "venv"

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return self.environment / "lib" / version / "site-packages"

    @property
    def build(self) -> Path:
        return self.state / "build"

    @property
    def install(self) -> Path:
        return self.state / "install"

    @property
    def colcon_log(self) -> Path:
        return self.state / "log"

    @property
    def log(self) -> Path:
        return self.state / "setup.log"

    @property
    def stamps(self) -> Path:
        return self.state / "stamps.json"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def sources(self) -> Path:
        return self.root / "src"


def base_python() -> str:
    """The interpreter that an environment is made from, also when this one lies in an environment."""
    return os.path.realpath(sys.executable)
