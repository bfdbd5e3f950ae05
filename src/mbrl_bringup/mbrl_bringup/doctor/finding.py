# SPDX-License-Identifier: Apache-2.0
"""What a check comes to."""

from __future__ import annotations

from dataclasses import dataclass

WELL, ATTENTION, WRONG = "well", "attention", "wrong"


@dataclass(frozen=True)
class Finding:
    """`level` is one of WELL, ATTENTION and WRONG; `text` says what was found, `advice` what to do about it."""

    level: str
    text: str
    advice: str = ""


def worst(findings: list[Finding]) -> str:
    """The level of the worst of them; well where there are none."""
    levels = (WELL, ATTENTION, WRONG)
    return max((finding.level for finding in findings), key=levels.index, default=WELL)
