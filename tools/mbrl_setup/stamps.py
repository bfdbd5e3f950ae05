# SPDX-License-Identifier: Apache-2.0
"""What was set up, so that a start finds out in milliseconds whether anything is left to do."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field

from .places import Places
from .workspace import package_keys

_FORMAT = 1


@dataclass
class Stamps:
    """Keys of what the environment consists of.

    Attributes:
        ros: the interpreter, the checkout's place, and the ROS 2 wheels.
        libraries: the other Python libraries.
        packages: the project's own packages, by name.
    """

    ros: str = ""
    libraries: str = ""
    packages: dict[str, str] = field(default_factory=dict)

    @classmethod
    def wanted(cls, places: Places) -> Stamps:
        """What the checkout asks for now."""
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        ros = _digest(str(_FORMAT), version, str(places.root), _text(places, "requirements-ros.txt"))
        libraries = _digest(ros, _text(places, "requirements.txt"), _text(places, "requirements-test.txt"))
        return cls(ros, libraries, package_keys(places))

    @classmethod
    def present(cls, places: Places) -> Stamps:
        """What is there; nothing, when the file is missing or was cut short."""
        try:
            content = json.loads(places.stamps.read_text(encoding="utf-8"))
            packages = {name: key for name, key in dict(content["packages"]).items() if _is_built(places, name)}
            return cls(str(content["ros"]), str(content["libraries"]), packages)
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def write(self, places: Places) -> None:
        """Replace the file in one step."""
        new = places.stamps.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        os.replace(new, places.stamps)


def _is_built(places: Places, name: str) -> bool:
    return (places.install / name).is_dir() and (places.build / name).is_dir()


def _text(places: Places, name: str) -> str:
    return (places.root / name).read_text(encoding="utf-8")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
