# SPDX-License-Identifier: Apache-2.0
"""Namespaces and values of parameters, by the rules of the real launch."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from .source import Located

_NAMESPACE_FORM = re.compile(r"/|(/[A-Za-z_][A-Za-z0-9_]*)+")
TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


def join(base: str | None, namespace: str | None) -> str | None:
    """A namespace under a base; an absolute one stands by itself."""
    if namespace is None:
        return base
    if base and not namespace.startswith("/"):
        namespace = f"{base.rstrip('/')}/{namespace}"
    return namespace if namespace == "/" else namespace.rstrip("/")


def absolute(namespace: str | None) -> str | None:
    """The namespace with its leading slash."""
    return namespace if namespace is None or namespace.startswith("/") else f"/{namespace}"


def check_namespace(place: Located, namespace: str) -> None:
    """Raises: LaunchFileError: the namespace has characters that ROS does not allow."""
    if not _NAMESPACE_FORM.fullmatch(namespace):
        raise place.error(f"{namespace!r} is not a namespace")


def seconds(given: Located | None) -> float:
    """A duration in s, by default 0. Raises: LaunchFileError: it is not a finite float."""
    if given is None:
        return 0.0
    value = given.value
    if isinstance(value, bool) or not isinstance(value, float) or not (math.isfinite(value) and value >= 0):
        raise given.error(f"respawn_delay: got {value!r}, expected seconds as a number with a decimal point")
    return value


def plain(given: Located, wanted: str | None) -> Any:
    """A parameter value without substitutions, of the type that it has in YAML.

    Raises:
        LaunchFileError: it has another type than wanted.
    """
    value = given.value
    if isinstance(value, list):
        value = [entry.value for entry in value]
        kinds = {type(entry) for entry in value}
        if any(isinstance(entry, str) and "$(" in entry for entry in value):
            raise given.error("substitutions in a list are not supported here")
        if len(kinds) == 1 and kinds <= set(TYPES.values()) and wanted is None:
            return value
        raise given.error("a list must hold values of one type, and at least one")
    if type(value) not in TYPES.values() or (wanted is not None and type(value) is not TYPES[wanted]):
        raise given.error(f"the value {value!r} is not of type {wanted or 'bool, int, float or str'}")
    return value


def typed(given: Located, text: str, wanted: str | None) -> Any:
    """A parameter value from text: of the type named, or of the type that YAML would give it.

    Raises:
        LaunchFileError: the text does not have that type.
    """
    try:
        return _converted(text, wanted)
    except (ValueError, yaml.YAMLError) as error:
        raise given.error(f"the value {text!r} is not of type {wanted or 'bool, int, float or str'}") from error


def _converted(text: str, wanted: str | None) -> Any:
    if wanted == "str":
        return text
    if wanted == "int":
        return int(text)
    if wanted == "float":
        return float(text)
    if wanted == "bool" and text in ("0", "1"):
        return text == "1"
    value = yaml.safe_load(text) if text else text
    allowed = (bool,) if wanted == "bool" else tuple(TYPES.values())
    if type(value) not in allowed:
        raise ValueError(text)
    return value
