# SPDX-License-Identifier: Apache-2.0
"""`require_packages PACKAGE ...`: what launch files ask first, so that they fail before any node has started.

`ros2 launch` finds out that a package is missing when it comes to the package's first node, with others running, and
does not say where to get it.
"""

from __future__ import annotations

import sys

from .debian import advice
from .packages import PackageError, prefix_of


def missing(packages: list[str]) -> list[str]:
    """Those of the packages that are not installed, in order."""
    absent = []
    for package in packages:
        try:
            prefix_of(package)
        except PackageError:
            absent.append(package)
    return absent


def main() -> int:
    """Returns the exit status: 0 when all packages are installed, and prints `true` then."""
    absent = missing(sys.argv[1:])
    if absent:
        what = f"not installed: {', '.join(absent)}. {advice(absent)}"
        print(what.strip(), file=sys.stderr)
        return 1
    print("true", end="")
    return 0
