# SPDX-License-Identifier: Apache-2.0
"""A recomputed decision as text and as a picture."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbrl_bringup.replay import Circumstances, Recomputed
from mbrl_bringup.replay_compare import differences, evaluation_seed, expected_returns, published
from mbrl_bringup.replay_decision import Decision
from mbrl_bringup.replay_recording import Recording
from mbrl_core.messages import Plan
from mbrl_core.specs import Array

ROWS = 10


@dataclass(frozen=True)
class Alternative:
    """What a decision would have been: under which circumstances, what has changed in words, and what came of it."""

    circumstances: Circumstances
    words: Sequence[str]
    recomputed: Recomputed

    @property
    def plan(self) -> Plan:
        """As it would have been published."""
        return published(self.recomputed.reply, self.circumstances.settings)


def overview(recording: Recording) -> str:
    """Which decisions there are."""
    lines = [f"{recording.path}: robot {recording.spec.name!r}, period {recording.spec.period:g} s"]
    for episode in recording.episodes:
        steps = [message.step for message in episode.time_steps]
        lines.append(f"  episode {episode.number}: steps {min(steps)} to {max(steps)}")
        for planner in dict.fromkeys(plan.planner for plan in episode.plans):
            answered = sorted(episode.answers(planner))
            versions = sorted({plan.message.model_version for plan in episode.plans if plan.planner == planner})
            what = f"model versions {versions[0]} to {versions[-1]}" if recording.is_planner(planner) else "no planner"
            lines.append(f"    {planner[0]}: {len(answered)} plans, steps {answered[0]} to {answered[-1]}; {what}")
    return "\n".join(lines)


def heading(decision: Decision) -> str:
    """Which decision it is, and what it was made with."""
    message, settings = decision.recorded.message, decision.settings
    spec, time_step = decision.recording.spec, decision.time_step
    config = settings.planned_config
    state = ", ".join(
        f"{name} {value:.4g} {unit}"
        for name, value, unit in zip(spec.state.names, time_step.state, spec.state.units, strict=True)
    )
    return "\n".join(
        [
            f"bag        {decision.recording.path}",
            f"decision   step {time_step.step} of episode {time_step.episode}, by {message.controller!r}:"
            f" {message.horizon} actions from step {message.start_step} on",
            f"state      {state}",
            f"made with  {settings.kind}, {config.horizon} steps, {config.iterations} iterations of"
            f" {config.population_size}; model version {message.model_version}, task"
            f" {decision.recording.task(decision.recorded).kind!r} version {message.task_version}; seed"
            f" {settings.node.seed}, {settings.node.mode}",
        ]
    )


def is_exact(decision: Decision, recomputed: Recomputed) -> bool:
    """Whether every bit of the plan, and the step that it begins with, is as recorded."""
    same = all(item.same_bits for item in differences(decision.plan, published(recomputed.reply, decision.settings)))
    return same and recomputed.reply.start_step == decision.recorded.message.start_step


def verdict(decision: Decision, recomputed: Recomputed) -> str:
    """Whether the decision comes out as it was recorded."""
    lines = [f"recomputed from {len(decision.occasions)} time steps: "]
    if is_exact(decision, recomputed):
        lines[0] += "bit for bit what was recorded"
    else:
        lines[0] += "not bit for bit what was recorded"
        lines += _table(
            ("part", "same bits", "largest difference"),
            [
                (item.name, "yes" if item.same_bits else "no", f"{item.largest:.3g}")
                for item in differences(decision.plan, published(recomputed.reply, decision.settings))
            ],
        )
        start, recorded = recomputed.reply.start_step, decision.recorded.message.start_step
        if start != recorded:
            lines.append(f"  begins with step {start}, recorded: {recorded}")
        if not decision.doubts:
            lines.append("  nothing explains that: everything that the decision depends on is in the bag")
    if decision.doubts:
        lines += ["exactness cannot be promised:", *(f"  - {doubt}" for doubt in decision.doubts)]
    return "\n".join(lines)


def comparison(decision: Decision, recomputed: Recomputed, alternative: Alternative, rows: int = ROWS) -> str:
    """The recorded plan and the alternative: actions, and expected returns under either objective."""
    first, second = decision.plan, alternative.plan
    steps = min(len(first.actions), len(second.actions))
    lines = ["changed", *(f"  {word}" for word in alternative.words), ""]
    lines += actions_table(decision, second, alternative.recomputed.reply.start_step, rows)
    lines += ["", f"expected return of {steps} steps"]
    seed = evaluation_seed(decision)
    table = []
    for name, by in (("the recorded objective", recomputed), ("the changed objective", alternative.recomputed)):
        one, other = expected_returns(by.objective, recomputed.state, (first, second), seed)
        table.append((name, f"{one:.4f}", f"{other:.4f}", f"{other - one:+.4f}"))
    lines += _table(("under", "recorded plan", "changed plan", "difference"), table)
    lines.append(
        f"what the planners promised of all their steps: {first.predicted_return:.4f} of {len(first.actions)},"
        f" {second.predicted_return:.4f} of {len(second.actions)}"
    )
    return "\n".join(lines)


def actions_table(
    decision: Decision, other: Plan, other_start: int, rows: int = ROWS, label: str = "changed"
) -> list[str]:
    """Lines of a table of the actions of the recorded plan and another, named `label`; `rows` 0 shows all."""
    names = decision.recording.spec.action.names
    start = decision.recorded.message.start_step
    plans = ((start, decision.plan), (other_start, other))
    begin, end = min(start, other_start), max(first + len(plan.actions) for first, plan in plans)
    shown = range(begin, end if rows == 0 else min(end, begin + rows))
    table = []
    for step in shown:
        values = [_row(plan, step - first) for first, plan in plans]
        cells = [str(step)]
        for index in range(len(names)):
            one, another = (None if row is None else float(row[index]) for row in values)
            cells += ["-" if value is None else f"{value:.5f}" for value in (one, another)]
            cells.append("-" if one is None or another is None else f"{another - one:+.5f}")
        table.append(tuple(cells))
    heads = [word for name in names for word in (f"{name} recorded", label, "difference")]
    lines = _table(("step", *heads), table)
    if len(shown) < end - begin:
        lines.append(f"  ... {end - begin - len(shown)} more steps: --rows 0")
    return lines


def _row(plan: Plan, index: int) -> Array | None:
    return plan.actions[index] if 0 <= index < len(plan.actions) else None


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows)
    ]


def with_prediction(plan: Plan, recomputed: Recomputed, seed: int) -> Plan:
    """The plan, with states under the objective that it was made for where its planner keeps none."""
    if plan.predicted_states is not None:
        return plan
    recomputed.objective.start(seed)
    mean, deviation = recomputed.objective.predict(recomputed.state, plan.actions)
    return dataclasses.replace(plan, predicted_states=mean, predicted_std=deviation)


def draw(decision: Decision, other: Plan, other_start: int, label: str, path: str | Path) -> Path:
    """Draws both plans over the steps that they are for, and what the robot did. Raises OSError."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    spec, start = decision.recording.spec, decision.recorded.message.start_step
    end = max(start + len(decision.plan.actions), other_start + len(other.actions))
    steps, states, actions = _what_came(decision, end)
    names = [*spec.action.names, *spec.state.names]
    figure, axes = plt.subplots(len(names), 1, figsize=(8.0, 1.7 * len(names) + 0.6), sharex=True, squeeze=False)
    for index, (axis, name) in enumerate(zip(axes[:, 0], names, strict=True)):
        column = index - spec.action.size
        for first, plan, colour, text in ((start, decision.plan, "tab:blue", "recorded plan"),
                                          (other_start, other, "tab:orange", label)):  # fmt: skip
            if column < 0:
                values = np.append(plan.actions[:, index], plan.actions[-1, index])
                axis.step(first + np.arange(len(values)), values, where="post", color=colour, label=text)
            elif plan.predicted_states is not None:
                values = plan.predicted_states[:, column]
                at = first + np.arange(len(values))
                axis.plot(at, values, color=colour, label=text)
                if plan.predicted_std is not None:
                    spread = plan.predicted_std[:, column]
                    axis.fill_between(at, values - spread, values + spread, color=colour, alpha=0.2, linewidth=0.0)
        if column < 0:
            done = np.append(actions[1:, index], actions[-1:, index])
            axis.step(steps, done, where="post", color="0.5", label="what the robot did", zorder=1)
        else:
            axis.plot(steps, states[:, column], color="0.5", label="what the robot did", zorder=1)
        axis.set_ylabel(name if column < 0 else f"{name} ({spec.state.units[column]})")
        axis.grid(alpha=0.3)
    axes[0, 0].set_title(
        f"step {decision.time_step.step} of episode {decision.time_step.episode}, {spec.name}", fontsize="medium"
    )
    axes[0, 0].legend(loc="best", fontsize="small")
    axes[-1, 0].set_xlabel("step")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return Path(path)


def _what_came(decision: Decision, end: int) -> tuple[Array, Array, Array]:
    """Steps [n], states [n, state_size] and the actions before them [n, action_size], up to step `end`."""
    spec = decision.recording.spec
    messages = [m for m in decision.episode.time_steps if decision.time_step.step <= m.step <= end]
    return (
        np.array([message.step for message in messages]),
        np.array([message.state for message in messages]).reshape(len(messages), spec.state.size),
        np.array([message.action for message in messages]).reshape(len(messages), spec.action.size),
    )
