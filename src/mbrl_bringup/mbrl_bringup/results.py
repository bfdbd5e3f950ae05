# SPDX-License-Identifier: Apache-2.0
"""How a result is stated: criteria with their bounds, the machine it was measured on, one RESULT line."""

import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def bar(name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """One criterion: `value` against exactly one bound. A value that is not finite fails."""
    if (at_least is None) == (at_most is None):
        raise ValueError(f"bar {name!r}: expected exactly one of at_least and at_most")
    value = float(value)
    if at_least is not None:
        bound, holds = f">= {at_least:g}", value >= at_least
    else:
        assert at_most is not None
        bound, holds = f"<= {at_most:g}", value <= at_most
    return {"name": name, "value": value, "bound": bound, "ok": math.isfinite(value) and holds}


def print_result(bench: str, bars: Sequence[Mapping[str, Any]]) -> int:
    """Prints the RESULT line. Returns the exit status: 0 when there are bars and all of them hold, else 1."""
    ok = bool(bars) and all(item["ok"] for item in bars)
    printable = [
        {**item, "value": item["value"] if math.isfinite(item["value"]) else str(item["value"])} for item in bars
    ]
    sys.stderr.flush()
    print("RESULT " + json.dumps({"bench": bench, "ok": ok, "bars": printable, "machine": machine()}), flush=True)
    return 0 if ok else 1


def machine() -> dict[str, Any]:
    """The machine that was measured on."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
