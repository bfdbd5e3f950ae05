# SPDX-License-Identifier: Apache-2.0
"""Environments of their own for libraries whose pins clash with this project's."""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

FOREIGN = ("PYTHON", "AMENT_", "CMAKE_PREFIX", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class LibraryEnvironmentError(RuntimeError):
    """An environment could not be made; the text has what was printed last."""


def library_python(folder: Path, requirements: Path, purpose: str, make: bool = True) -> Path | None:
    """Interpreter of the environment `folder`, which is made first where it is missing or out of date.

    It has what the file `requirements` names, without dependencies; torch, numpy and what else is large come from the
    environment that this process runs in. None where it would have to be made and `make` is false. Raises
    LibraryEnvironmentError when it cannot be made, FileNotFoundError without that file.
    """
    python, stamp = folder / "bin" / "python", folder / "stamp"
    shared = sysconfig.get_paths()["purelib"]
    wanted = hashlib.sha256("\0".join([requirements.read_text("utf-8"), shared, sys.version]).encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text("utf-8") == wanted:
        return python
    if not make:
        return None
    print(f"making {folder} for {purpose}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    interpreter = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    _run([str(interpreter), "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--no-deps", "--no-compile", "--no-input", "--progress-bar", "off"]
    _run([*pip, "-r", str(requirements)])
    # After pip has run, which would otherwise look at the shared libraries as well; they come last on the path.
    own = folder / "lib" / interpreter.name / "site-packages"
    (own / "shared_libraries.pth").write_text(f"{shared}\n", encoding="utf-8")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def clean_variables() -> dict[str, str]:
    """The process's variables less those that would bring this project's packages and ROS into that environment."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, env=clean_variables(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = (done.stdout + done.stderr)[-3000:]
        raise LibraryEnvironmentError(f"{' '.join(command[:4])} ended with {done.returncode}:\n{output}")
