# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a run while it goes on: a live view on a terminal, plain lines anywhere else."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from rclpy.node import Node
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mbrl_msgs.msg import ControllerState, ExperimentStatus, LearnerStatus, Plan, TimeStep
from mbrl_ros import qos

BAR_WIDTH = 40
WINDOW = 100


@dataclass
class ViewState:
    """The newest figures. Times in seconds."""

    status: ExperimentStatus = field(default_factory=ExperimentStatus)
    learner: LearnerStatus | None = None
    controller: ControllerState = field(default_factory=ControllerState)
    step: int = 0
    first_motion: bool = False
    ticks: int = 0
    fallback_ticks: int = 0
    missed_deadlines: int = 0
    sample_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    solve_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def control_rate(self) -> float:
        """Mean control rate over the newest ticks, Hz."""
        times = self.sample_times
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else math.nan

    def solve_time(self, percent: float) -> float:
        """Percentile of the newest solve times."""
        return float(np.percentile(self.solve_times, percent)) if self.solve_times else math.nan


class ViewNode(Node):
    """Listens; publishes nothing."""

    def __init__(self) -> None:
        super().__init__("view")
        self.state = ViewState()
        self.create_subscription(ExperimentStatus, "experiment_status", self._on_status, qos.LATCHED)
        self.create_subscription(LearnerStatus, "learner_status", self._on_learner, qos.STATUS)
        self.create_subscription(ControllerState, "controller_state", self._on_controller, qos.LATCHED)
        self.create_subscription(Plan, "plan", self._on_plan, qos.STATUS)
        self.create_subscription(TimeStep, "time_step", self._on_time_step, qos.TIME_STEP_RECORD)

    def _on_status(self, message: ExperimentStatus) -> None:
        self.state.status = message

    def _on_learner(self, message: LearnerStatus) -> None:
        self.state.learner = message

    def _on_controller(self, message: ControllerState) -> None:
        self.state.controller = message

    def _on_plan(self, message: Plan) -> None:
        self.state.solve_times.append(message.solve_time)
        self.state.missed_deadlines += message.deadline_missed

    def _on_time_step(self, message: TimeStep) -> None:
        state = self.state
        if message.step_type == TimeStep.FIRST:
            state.sample_times.clear()
            state.solve_times.clear()
        else:
            state.ticks += 1
            state.fallback_ticks += message.fallback
            state.first_motion = True
        state.step = message.step
        state.sample_times.append(message.sample_time_ns * 1e-9)


class View(Protocol):
    """Shows a state, as often as it is asked to."""

    def update(self, state: ViewState) -> None:
        """Shows the state."""

    def note(self, line: str) -> None:
        """Shows a line of a node's output."""

    def close(self) -> None:
        """Leaves the terminal in order."""


class PlainView:
    """A line at every change of phase."""

    def __init__(self) -> None:
        self._shown: tuple[Any, ...] = ()
        self._returns = 0

    def update(self, state: ViewState) -> None:
        """Prints what has changed."""
        status = state.status
        for trial in range(self._returns, len(status.returns)):
            learner = state.learner
            model = f", model {learner.model_version}, error {learner.prequential_error:.4f}" if learner else ""
            print(
                f"trial {trial} {'learned' if status.learned[trial] else 'random':<7}"
                f" return {status.returns[trial]:8.1f}{model}, solve {_milliseconds(state)},"
                f" fallback {state.fallback_ticks} of {state.ticks} ticks",
                flush=True,
            )
        self._returns = len(status.returns)
        shown = (status.phase, status.trial)
        if status.phase and shown != self._shown:
            self._shown = shown
            if status.phase != "running":
                print(f"{status.phase}: {status.message}", flush=True)

    def note(self, line: str) -> None:
        """Prints the line."""
        print(line, flush=True)

    def close(self) -> None:
        """Nothing to do."""


class LiveView:
    """A panel that is redrawn in place."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._notes: deque[str] = deque(maxlen=4)
        self._live = Live(console=Console(), refresh_per_second=8, transient=False)
        self._live.start()

    def update(self, state: ViewState) -> None:
        """Redraws."""
        self._live.update(render(state, self._title, list(self._notes)))

    def note(self, line: str) -> None:
        """Keeps the line until newer ones push it out."""
        self._notes.append(line)

    def close(self) -> None:
        """Stops redrawing; the last panel stays."""
        self._live.stop()


def render(state: ViewState, title: str, notes: list[str]) -> Panel:
    """The panel of a state."""
    status, learner = state.status, state.learner
    figures = Table.grid(padding=(0, 2))
    for _ in range(4):
        figures.add_column()
    steps = max(1, status.steps_per_trial)
    trial = f"{status.trial} of {max(0, status.trials - 1)}"
    figures.add_row("trial", trial, "step", f"{state.step:>4} / {steps} {_gauge(state.step / steps, 16)}")
    figures.add_row("controller", state.controller.active, "return so far", _number(status.trial_return, ".1f"))
    if learner is not None:
        training = " (training)" if learner.training else ""
        figures.add_row("model version", f"{learner.model_version}{training}", "prequential error",
                        _number(learner.prequential_error, ".4f"))  # fmt: skip
    figures.add_row(
        "control rate", _number(state.control_rate, ".2f", " Hz"), "solve time p50 / p99", _milliseconds(state)
    )
    figures.add_row("missed deadlines", str(state.missed_deadlines), "fallback ticks",
                    f"{state.fallback_ticks} of {state.ticks}")  # fmt: skip
    lines: list[Any] = [figures, Text("")]
    lines += [Text(line) for line in learning_curve(list(status.returns), list(status.learned))]
    lines.append(Text(f"{status.phase}: {status.message}", style="bold"))
    lines += [Text(note, style="yellow", no_wrap=True, overflow="ellipsis") for note in notes]
    return Panel(Group(*lines), title=title, border_style="blue")


def learning_curve(returns: list[float], learned: list[bool]) -> list[str]:
    """One line a trial: its return as a number and as a bar between the worst and the best so far (or 0)."""
    if not returns:
        return []
    low, high = min(0.0, *returns), max(0.0, *returns)
    span = (high - low) or 1.0
    return [
        f"trial {index:>3} {'learned' if was_learned else 'random':<7} {value:>9.1f} "
        + _gauge((value - low) / span, BAR_WIDTH)
        for index, (value, was_learned) in enumerate(zip(returns, learned, strict=True))
    ]


def _gauge(share: float, width: int) -> str:
    full = round(min(1.0, max(0.0, share)) * width)
    return "█" * full + "░" * (width - full)


def _number(value: float, form: str, unit: str = "") -> str:
    return f"{value:{form}}{unit}" if math.isfinite(value) else "-"


def _milliseconds(state: ViewState) -> str:
    if not state.solve_times:
        return "-"
    return f"{1e3 * state.solve_time(50):.1f} / {1e3 * state.solve_time(99):.1f} ms"
