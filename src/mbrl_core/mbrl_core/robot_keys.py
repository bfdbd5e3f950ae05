# SPDX-License-Identifier: Apache-2.0
"""What all sections of a robot file have in common: keys that are not known are refused."""

from collections.abc import Sequence
from typing import Any

from mbrl_core.specs import SpecError


def refuse_unknown(where: str, content: Any, known: Sequence[str]) -> None:
    """Raises SpecError that names the section `where` when `content` is no mapping or has a key that is not `known`."""
    if not isinstance(content, dict):
        raise SpecError(f"{where}: got {content!r}, expected a mapping")
    unknown = sorted(set(map(str, content)) - set(known))
    if unknown:
        raise SpecError(f"{where}: unknown key {unknown[0]!r}, expected one of {', '.join(known)}")
