# SPDX-License-Identifier: Apache-2.0
"""What `./mbrl bag` prints."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mbrl_policy.data.episodes import Episode, Recording, describe
from mbrl_policy.data.overview import Statistics, returns, seconds, topics


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    numeric = [all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    return text in ("", "-") or text.replace(".", "").replace("-", "").replace("+", "").replace("e", "").isdigit()


def contents(paths: Sequence[Path]) -> str:
    """Topics of each bag."""
    parts = []
    for path in paths:
        found, length = topics(path)
        rows = [(item.name, item.message_type, str(item.messages)) for item in found]
        parts.append(f"{path}: {length:.1f} s\n{table(('topic', 'type', 'messages'), rows)}")
    return "\n\n".join(parts)


def episodes(recording: Recording, paths: Sequence[Path]) -> str:
    """One line for each episode."""
    reported = {path: returns(path) for path in paths}
    header = (
        "episode", "steps", "seconds", "gaps", "end", "return", "outcome", "task", "controllers", "discarded", "note"
    )  # fmt: skip
    rows = []
    for item in recording.episodes:
        value = reported.get(item.bag, {}).get(item.recorded_number)
        rows.append(
            (
                str(item.number), str(sum(len(part) for part in item.parts())), f"{seconds(item, recording.spec):.2f}",
                str(len(item.gaps)), item.end_reason.name.lower(), "-" if value is None else f"{value:.2f}",
                item.label.outcome.name.lower(), item.label.task, " ".join(item.controllers),
                "yes" if item.label.discarded else "", item.label.note,
            )
        )  # fmt: skip
    return f"{describe(recording.spec)}\n{table(header, rows)}" if rows else f"{describe(recording.spec)}\nno episodes"


def variables(rows: Sequence[Statistics]) -> str:
    """One line for each variable."""
    header = ("variable", "unit", "mean", "std", "least", "largest", "change a step")
    return table(
        header,
        [
            (row.name, row.unit, *(f"{value:.4g}" for value in
             (row.mean, row.std, row.minimum, row.maximum, row.change)))
            for row in rows
        ],
    )  # fmt: skip


def steps(recording: Recording, episode: Episode, first: int, count: int) -> str:
    """Time steps of an episode, a line each; a line of dots where some are missing."""
    spec = recording.spec
    header = ("step", "seconds", *spec.state.names, *(f"u {name}" for name in spec.action.names), "by", "")
    gaps = {after: before for before, after in episode.gaps}
    rows: list[tuple[str, ...]] = []
    for step, stamp in zip(episode.steps, episode.stamp_ns, strict=True):
        if step.step < first or len(rows) >= count:
            continue
        if step.step in gaps:
            lost = step.step - gaps[step.step] - 1
            rows.append((*["..."] * (len(header) - 1), f"{lost} lost" if lost > 0 else "action changed within"))
        remark = step.end_reason.name.lower() if step.end_reason else "fallback" if step.fallback else ""
        numbers = (f"{value:.5g}" if np.isfinite(value) else "" for value in (*step.state, *step.action))
        elapsed = 1e-9 * (stamp - episode.stamp_ns[0])
        rows.append((str(step.step), f"{elapsed:.3f}", *numbers, step.controller, remark))
    label = episode.label
    said = f"{label.outcome.name.lower()} {label.task} {label.note}".strip() + (" discarded" if label.discarded else "")
    return f"{episode.bag}, episode {episode.number} ({said}), steps {len(episode.steps)}\n{table(header, rows)}"
