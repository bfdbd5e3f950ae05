# SPDX-License-Identifier: Apache-2.0
"""`./mbrl demo`."""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Returns the demonstration's exit status."""
    from mbrl_bringup.demo import main as demonstrate

    return int(demonstrate(arguments))
