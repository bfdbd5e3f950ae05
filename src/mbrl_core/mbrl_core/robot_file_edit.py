# SPDX-License-Identifier: Apache-2.0
"""Changes a number in a robot file and leaves its comments and everything else as they are."""

import re
from pathlib import Path

import yaml

from mbrl_core.checkpoint import write_atomically
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import SpecError


def write_delay(path: Path, delay: float) -> None:
    """Writes `control.delay`, seconds.

    Raises SpecError, with the file as it was, where `control` is not a block of one key a line; OSError.
    """
    path = path.resolve()  # through a link, to what it names
    before = path.read_text(encoding="utf-8")
    text = _with_key(before, "control", "delay", f"{delay:g}")
    expected = yaml.safe_load(before)
    expected["control"]["delay"] = float(f"{delay:g}")
    if text is None or yaml.safe_load(text) != expected:
        raise SpecError(
            f"{path}: cannot write the delay; expected `control:` with one key a line. Write it"
            f" yourself: delay: {delay:g}"
        )
    write_atomically(path, text.encode())
    load_robot(path)


def _with_key(text: str, block: str, key: str, value: str) -> str | None:
    lines = text.splitlines(keepends=True)
    begin = next((index for index, line in enumerate(lines) if re.match(rf"{block}:\s*(#.*)?$", line)), None)
    if begin is None:
        return None
    end = next((i for i in range(begin + 1, len(lines)) if re.match(r"[^\s#]", lines[i])), len(lines))
    for index in range(begin + 1, end):
        found = re.match(rf"(\s+{key}:\s*)[^\s#]+(.*)$", lines[index].rstrip("\n"))
        if found:
            lines[index] = f"{found[1]}{value}{found[2]}\n"
            return "".join(lines)
    indents = [found[1] for line in lines[begin + 1 : end] if (found := re.match(r"(\s+)[^\s#]", line))]
    if not indents:
        return None
    last = max(index for index in range(begin + 1, end) if re.match(r"\s+[^\s#]", lines[index]))
    lines[last] = lines[last].rstrip("\n") + "\n"
    lines.insert(last + 1, f"{indents[0]}{key}: {value}\n")
    return "".join(lines)
