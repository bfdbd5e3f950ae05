# SPDX-License-Identifier: Apache-2.0
"""What only the system's package manager can bring: a compiler, and Python's headers and venv module."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from .places import SetupError, base_python
from .progress import Progress


def check_platform() -> None:
    """Raises: SetupError: there are no ROS 2 wheels for this machine."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise SetupError(
            f"the private ROS 2 environment exists for x86-64 Linux only, this is "
            f"{platform.system()} on {platform.machine()}. With ROS 2 Jazzy or Kilted installed it is not "
            "needed: build with colcon and use `ros2 launch` (README.md)."
        )


def missing_packages() -> list[str]:
    """Names of the Debian packages that set-up needs and this machine lacks."""
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    missing = []
    if shutil.which("g++") is None and shutil.which("c++") is None:
        missing.append("g++")
    if importlib.util.find_spec("ensurepip") is None:
        missing.append(f"{python}-venv")
    if not Path(sysconfig.get_path("include", vars=_base_prefixes()), "Python.h").is_file():
        missing.append(f"{python}-dev")
    return missing


def _base_prefixes() -> dict[str, str]:
    """Where the base interpreter's headers are, also when asked from inside an environment."""
    prefix = str(Path(base_python()).parent.parent)
    return {"installed_base": prefix, "installed_platbase": prefix, "base": prefix, "platbase": prefix}


def include_directory() -> str:
    """The folder of the base interpreter's Python.h."""
    return sysconfig.get_path("include", vars=_base_prefixes())


def provide(progress: Progress) -> None:
    """Install what is missing where that is allowed.

    Raises:
        SetupError: something is missing and cannot be installed from here; names the command that does.
    """
    missing = missing_packages()
    if not missing:
        return
    names = " ".join(missing)
    by_hand = f"This machine lacks {names}. Install it and start again:\n    sudo apt-get install {names}"
    if shutil.which("apt-get") is None:
        raise SetupError(
            f"This machine lacks what Debian calls {names}, and has no apt-get. Install a C++ compiler, "
            "Python's venv module and Python's headers with the system's package manager and start again."
        )
    if os.geteuid() != 0:
        raise SetupError(by_hand)
    progress.step(f"installing {names} with apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if not progress.try_run(install, environment):
        progress.try_run(["apt-get", "update"], environment)  # a fresh container has no package lists yet
        progress.run(install, environment, purpose=f"Installing {names}. {by_hand}\nIt")
    still = missing_packages()
    if still:
        raise SetupError(f"{by_hand}\n(apt-get installed it, yet {', '.join(still)} cannot be found)")
