# SPDX-License-Identifier: Apache-2.0
"""`./mbrl bench NAME`."""

from __future__ import annotations

import argparse
import os
import sys

from .places import root


def main(arguments: list[str]) -> int:
    """Replaces this process by the benchmark's script."""
    folder = root() / "benchmarks"
    # The folder also has modules that benchmarks share.
    names = sorted(file.stem for file in folder.glob("*.py") if "__main__" in file.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(
        prog="./mbrl bench",
        usage="./mbrl bench NAME [ARGUMENTS]",
        description=f"Run benchmarks/NAME.py; `./mbrl bench NAME --help` names its arguments. "
        f"There are: {', '.join(names) or 'none'}.",
    )
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        return 0 if arguments else 2
    name = arguments[0]
    if name not in names:
        print(f"mbrl bench: there is no benchmark {name!r}; there are {', '.join(names) or 'none'}", file=sys.stderr)
        return 2
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(folder / f"{name}.py"), *arguments[1:]])
