# SPDX-License-Identifier: Apache-2.0
"""What every benchmark prints and leaves behind: one RESULT line and a CSV file of raw numbers."""

import csv
import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def bar(name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """One criterion: `value` against exactly one bound. A value that is not finite fails."""
    if (at_least is None) == (at_most is None):
        raise ValueError(f"bar {name!r}: expected exactly one of at_least and at_most")
    value = float(value)
    if at_least is not None:
        bound, holds = f">= {at_least:g}", value >= at_least
    else:
        bound, holds = f"<= {at_most:g}", value <= at_most
    return {"name": name, "value": value, "bound": bound, "ok": math.isfinite(value) and holds}


def report(
    bench: str,
    bars: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Any] | None = None,
) -> int:
    """Writes `rows` to benchmarks/results/BENCH.csv, what they come to and the machine to BENCH.json beside it, and
    prints the RESULT line, the last line of output.

    Each bar is a mapping as `bar` makes it; `figures` are told beside them and judged by none. Returns the exit
    status: 0 when there are bars and all hold, else 1.
    """
    ok = bool(bars) and all(item["ok"] for item in bars)
    if rows:
        write_csv(bench, rows)
    printable = [
        {**item, "value": item["value"] if math.isfinite(item["value"]) else str(item["value"])} for item in bars
    ]
    told = {} if figures is None else {"figures": dict(figures)}
    result = {"bench": bench, "ok": ok, "bars": printable, **told, "machine": machine()}
    if rows:
        (RESULTS / f"{bench}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stderr.flush()
    print("RESULT " + json.dumps(result), flush=True)
    return 0 if ok else 1


def write_csv(bench: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes rows, whose columns are the keys of all of them in order of appearance; returns the path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{bench}.csv"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


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
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
