# SPDX-License-Identifier: Apache-2.0
"""Data sets of other libraries. Each is written and read by that library itself, in an environment of its own.

A worker script there and this process exchange a file of transitions (`mbrl_core.transition_file`).
"""

import subprocess
import tempfile
from pathlib import Path

from mbrl_core.library_environment import clean_variables
from mbrl_core.specs import RobotSpec
from mbrl_core.transition_file import TransitionFile, load_transitions, save_transitions, spec_to_text
from mbrl_policy.data.exchange.environment import ExchangeError, dataset_python

__all__ = ["FORMATS", "ExchangeError", "dataset_python", "read_dataset", "write_dataset"]

FORMATS = ("minari", "lerobot")
FOLDER = Path(__file__).resolve().parent


def write_dataset(kind: str, content: TransitionFile, output: str | Path, python: Path) -> None:
    """Makes a data set of one of FORMATS from transitions, in a new folder `output`.

    `python` is the interpreter of the environment that has the library. Raises ExchangeError.
    """
    output = Path(output).absolute()
    if output.exists():
        raise ExchangeError(f"{output}: exists already, nothing is written over it")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "transitions.npz"
        save_transitions(file, content)
        _run(kind, python, ["write", str(file), str(output)])


def read_dataset(kind: str, source: str | Path, python: Path, spec: RobotSpec | None = None) -> TransitionFile:
    """The transitions of a data set. One that was not written by `write_dataset` does not say of which robot it is:
    that is `spec` then. Raises ExchangeError or TransitionFileError.
    """
    source = Path(source).absolute()
    if not source.is_dir():
        raise ExchangeError(f"{source}: expected the folder of a {kind} data set, there is none")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "transitions.npz"
        _run(kind, python, ["read", str(source), str(file), "" if spec is None else spec_to_text(spec)])
        return load_transitions(file, spec)


def _run(kind: str, python: Path, arguments: list[str]) -> None:
    command = [str(python), str(FOLDER / f"{kind}_worker.py"), *arguments]
    # The libraries are told to stay away from the network.
    variables = {**clean_variables(), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
        raise ExchangeError(f"{kind}: {last[0]}")
