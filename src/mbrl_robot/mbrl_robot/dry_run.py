# SPDX-License-Identifier: Apache-2.0
"""What would have been commanded, in a line: ranges, and how often limits held something back."""

from collections import Counter

import numpy as np

from mbrl_core.specs import ActionSpec, Array

TOPIC = "dry_run/commands"


class DryRun:
    """Collects commands between two lines."""

    def __init__(self, spec: ActionSpec) -> None:
        self._spec = spec
        self._commands: list[Array] = []
        self._held_back: Counter[str] = Counter()

    def add(self, command: Array) -> None:
        """An SI command [action_size] that is not sent."""
        self._commands.append(np.array(command))

    def line(self, held_back: Counter[str], controller: str) -> str:
        """What came since the last line; `held_back` counts from the start of the node. Empty where nothing came."""
        since = held_back - self._held_back
        self._held_back = Counter(held_back)
        if not self._commands:
            return ""
        commands = np.array(self._commands)
        self._commands = []
        ranges = ", ".join(
            f"{name} {low:.4g} to {high:.4g} {unit}"
            for name, low, high, unit in zip(
                self._spec.names, commands.min(axis=0), commands.max(axis=0), self._spec.units, strict=True
            )
        )
        kept = ", ".join(f"{kind} {count} times" for kind, count in sorted(since.items())) or "nothing"
        return f"dry run, nothing is commanded: {len(commands)} commands of {controller!r}: {ranges}; held back: {kept}"
