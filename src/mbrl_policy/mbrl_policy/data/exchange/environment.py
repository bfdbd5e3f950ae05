# SPDX-License-Identifier: Apache-2.0
"""The environment `.mbrl/datasets` for libraries whose pins clash with this project's."""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

REQUIREMENTS = "requirements-datasets.txt"
FOREIGN = ("PYTHON", "AMENT_", "CMAKE_PREFIX", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class ExchangeError(RuntimeError):
    """A data set of another library could not be written or read. The text says what and why."""


def dataset_python(root: Path, make: bool = True) -> Path:
    """Interpreter of the environment of the checkout `root`, which is made first where it is missing or out of date.

    torch, numpy and what else is large come from the environment that this process runs in. Raises ExchangeError when
    it cannot be made, and where it is missing and `make` is false.
    """
    folder, requirements = root / ".mbrl" / "datasets", root / REQUIREMENTS
    python, stamp = folder / "bin" / "python", folder / "stamp"
    shared = sysconfig.get_paths()["purelib"]
    wanted = hashlib.sha256("\0".join([requirements.read_text("utf-8"), shared, sys.version]).encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text("utf-8") == wanted:
        return python
    if not make:
        raise ExchangeError(f"{folder}: is missing or out of date; `./mbrl bag convert` makes it")
    print(f"mbrl: making {folder} for the libraries of other data sets", file=sys.stderr, flush=True)
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
        raise ExchangeError(f"{' '.join(command[:4])} ended with {done.returncode}:\n{output}")
