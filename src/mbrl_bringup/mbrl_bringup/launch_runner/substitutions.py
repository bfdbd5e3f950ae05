# SPDX-License-Identifier: Apache-2.0
"""`$(name argument ...)` in the strings of launch files: the subset that evaluates no Python."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .packages import PackageError, prefix_of, share_of

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


class SubstitutionError(Exception):
    """A substitution is malformed, unknown, or has no value."""


@dataclass
class Scope:
    """What substitutions are looked up in.

    Attributes:
        configurations: values of launch arguments and variables.
        directory: the folder of the launch file being read.
        log_directory: what `$(log_dir)` stands for.
        environment: environment variables.
    """

    configurations: dict[str, str]
    directory: Path
    log_directory: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


def substitute(text: str, scope: Scope) -> str:
    """Replace every substitution in a text.

    Raises:
        SubstitutionError: names the substitution and what is wrong with it.
    """
    reader = _Reader(text, scope)
    result = reader.template()
    return result


def truth(text: str) -> bool:
    """Read a condition. Raises: SubstitutionError: it is neither true nor false."""
    plain = text.strip().lower()
    if plain in _TRUE:
        return True
    if plain in _FALSE:
        return False
    raise SubstitutionError(f"a condition must be true, false, 1 or 0, got {text!r}")


def split_words(text: str) -> list[str]:
    """The words of a command line with its substitutions still in it: blanks within `$(...)` part nothing.

    Raises:
        SubstitutionError: quotes outside a substitution, which the real launch would take away.
    """
    words, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth == 0 and character in "'\"\\":
            raise SubstitutionError(f"{character} outside a substitution is not supported, in {text!r}")
        if depth == 0 and character.isspace():
            words.append("")
        else:
            words[-1] += character
    return [word for word in words if word]


class _Reader:
    """Reads and replaces in one pass, left to right."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._text = text
        self._scope = scope
        self._at = 0

    def template(self) -> str:
        parts = []
        while self._at < len(self._text):
            if self._text.startswith("$(", self._at):
                parts.append(self._substitution())
            elif self._text.startswith("\\$", self._at):
                raise SubstitutionError(f"an escaped dollar sign is not supported, in {self._text!r}")
            else:
                parts.append(self._text[self._at])
                self._at += 1
        return "".join(parts)

    def _substitution(self) -> str:
        begin = self._at
        self._at += 2
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise SubstitutionError(f"expected a name after '$(' in {self._text!r}")
        self._at = found.end()
        arguments = []
        while self._peek() == " ":
            self._at += 1
            if self._text.startswith(("''", '""'), self._at) and found[0] != "if":
                # The real launch turns it into the text [] there.
                raise SubstitutionError(f"an empty text is supported as an argument of if only, in {self._text!r}")
            arguments.append(self._argument())
        if self._peek() != ")":
            raise SubstitutionError(f"expected ')' at position {self._at + 1} of {self._text!r}")
        self._at += 1
        return _perform(found[0], arguments, self._scope, self._text[begin : self._at])

    def _argument(self) -> str:
        quote = self._peek()
        if quote in ("'", '"'):
            return self._quoted(quote)
        parts = []
        while (character := self._peek()) not in (" ", ")", ""):
            if self._text.startswith("$(", self._at):
                parts.append(self._substitution())
            elif character in "\\'\"(":
                raise SubstitutionError(f"{character!r} inside a substitution needs quotes, in {self._text!r}")
            else:
                parts.append(character)
                self._at += 1
        if not parts:
            raise SubstitutionError(f"an argument is missing at position {self._at + 1} of {self._text!r}")
        return "".join(parts)

    def _quoted(self, quote: str) -> str:
        self._at += 1
        parts = []
        while (character := self._peek()) != quote:
            if not character:
                raise SubstitutionError(f"a quote is not closed in {self._text!r}")
            if character == "\\":
                raise SubstitutionError(f"a backslash inside a substitution is not supported, in {self._text!r}")
            if self._text.startswith("$(", self._at):
                parts.append(self._substitution())
            else:
                parts.append(character)
                self._at += 1
        self._at += 1
        return "".join(parts)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]


def _perform(name: str, arguments: list[str], scope: Scope, text: str) -> str:
    if name not in _SUBSTITUTIONS:
        known = ", ".join(sorted(_SUBSTITUTIONS))
        raise SubstitutionError(f"the substitution {text} is not supported here; these are: {known}")
    fewest, most, function = _SUBSTITUTIONS[name]
    if not fewest <= len(arguments) <= most:
        count = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise SubstitutionError(f"{text}: {name} takes {count} arguments, got {len(arguments)}")
    try:
        return function(arguments, scope)
    except (PackageError, SubstitutionError) as error:
        raise SubstitutionError(f"{text}: {error}") from error


def _variable(arguments: list[str], scope: Scope) -> str:
    if arguments[0] in scope.configurations:
        return scope.configurations[arguments[0]]
    if len(arguments) == 2:
        return arguments[1]
    raise SubstitutionError(f"there is no argument or variable {arguments[0]!r}")


def _environment(arguments: list[str], scope: Scope) -> str:
    if arguments[0] in scope.environment:
        return scope.environment[arguments[0]]
    if len(arguments) == 2:
        return arguments[1]
    raise SubstitutionError(f"the environment variable {arguments[0]} is not set")


def _equals(arguments: list[str], scope: Scope) -> str:
    left, right = arguments
    both = {left.lower(), right.lower()}
    if both <= {*_TRUE, *_FALSE}:
        return _word((left.lower() in _TRUE) == (right.lower() in _TRUE))
    numbers = [_number(left), _number(right)]
    if numbers[0] is not None and numbers[1] is not None:
        # The real one compares within a billionth.
        return _word(abs(numbers[0] - numbers[1]) <= 1e-9 * max(abs(numbers[0]), abs(numbers[1])))
    return _word(left == right)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _if_else(arguments: list[str], scope: Scope) -> str:
    otherwise = arguments[2] if len(arguments) == 3 else ""
    return arguments[1] if truth(arguments[0]) else otherwise


def _command(arguments: list[str], scope: Scope) -> str:
    """What a program prints. As in the real launch it fails by its exit status, or by saying anything on stderr."""
    words = shlex.split(arguments[0])
    if not words:
        raise SubstitutionError("the command is empty")
    environment = scope.environment
    try:
        result = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        raise SubstitutionError(f"{words[0]!r} cannot be started: {error.strerror}") from error
    said = result.stderr.strip()
    if result.returncode:
        raise SubstitutionError(said or f"ended with status {result.returncode}")
    if said:
        raise SubstitutionError(f"said on stderr: {said}")
    return result.stdout


def _word(value: bool) -> str:
    return "true" if value else "false"


_SUBSTITUTIONS: dict[str, tuple[int, int, Callable[[list[str], Scope], str]]] = {
    "var": (1, 2, _variable),
    "env": (1, 2, _environment),
    "find-pkg-share": (1, 1, lambda arguments, _: str(share_of(arguments[0]))),
    "find-pkg-prefix": (1, 1, lambda arguments, _: str(prefix_of(arguments[0]))),
    "command": (1, 1, _command),
    "dirname": (0, 0, lambda _, scope: str(scope.directory)),
    "log_dir": (0, 0, lambda _, scope: str(scope.log_directory)),
    "equals": (2, 2, _equals),
    "not-equals": (2, 2, lambda arguments, scope: _word(not truth(_equals(arguments, scope)))),
    "not": (1, 1, lambda arguments, _: _word(not truth(arguments[0]))),
    "and": (2, 2, lambda arguments, _: _word(truth(arguments[0]) and truth(arguments[1]))),
    "or": (2, 2, lambda arguments, _: _word(truth(arguments[0]) or truth(arguments[1]))),
    "if": (2, 3, _if_else),
}
