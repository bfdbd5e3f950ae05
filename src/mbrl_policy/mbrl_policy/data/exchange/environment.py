# SPDX-License-Identifier: Apache-2.0
"""The environment `.mbrl/datasets` for libraries whose pins clash with this project's."""

from pathlib import Path

from mbrl_core.library_environment import LibraryEnvironmentError, library_python

REQUIREMENTS = "requirements-datasets.txt"


class ExchangeError(RuntimeError):
    """A data set of another library could not be written or read. The text says what and why."""


def dataset_python(root: Path, make: bool = True) -> Path:
    """Interpreter of the environment of the checkout `root`, which is made first where it is missing or out of date.

    Raises ExchangeError when it cannot be made, and where it is missing and `make` is false.
    """
    folder = root / ".mbrl" / "datasets"
    try:
        python = library_python(folder, root / REQUIREMENTS, "the libraries of other data sets", make)
    except LibraryEnvironmentError as error:
        raise ExchangeError(str(error)) from None
    if python is None:
        raise ExchangeError(f"{folder}: is missing or out of date; `./mbrl bag convert` makes it")
    return python
