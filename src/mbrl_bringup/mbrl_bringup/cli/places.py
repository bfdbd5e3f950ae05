# SPDX-License-Identifier: Apache-2.0
"""Where the checkout is."""

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
