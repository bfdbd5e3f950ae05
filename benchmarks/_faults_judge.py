# SPDX-License-Identifier: Apache-2.0
"""What the bench `faults` makes of what its observer has heard: figures of every command and of every event."""

import bisect
import math
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

from _faults_campaign import Event
from _faults_view import FAULT, LAST, Heard, View

from mbrl_core.robot_file import Robot

MISSING = 1.9  # periods from command to command; the first of an episode takes 1.75
MATCH_NS = 5_000_000  # between what robot_node notes of a command and the middleware's stamp
TOLERANCE = 1e-9
FAULT_WITHIN_NS = 1_000_000_000
NEVER = math.inf


class Judge:
    """Of one run at one rate."""

    def __init__(self, robot: Robot, view: View, events: list[Event]) -> None:
        self.robot, self.view, self.events = robot, view, events
        self.period_ns = robot.spec.period * 1e9
        self.commands = sorted(view.heard["c"], key=lambda message: message.sent_ns)
        self.of_robot = [message for message in self.commands if view.nodes.get(message.process) == "robot"]
        self._robot_ns = [message.sent_ns for message in self.of_robot]
        self.steps = view.heard["t"]
        self._steps_ns = [step.sent_ns for step in self.steps]

    # --- commands ----------------------------------------------------------------------------------------------

    def every_command(self) -> dict[str, Any]:
        """Counts over all commands on the robot's topic, whoever sent them."""
        actions = self.robot.spec.action
        counts: Counter[str] = Counter()
        for message in self.commands:
            values = message.content
            counts["commands"] += 1
            counts[f"commands_of_{self.view.nodes.get(message.process, 'unknown')}"] += 1
            finite = len(values) == actions.size and all(math.isfinite(value) for value in values)
            counts["not_finite"] += not finite
            counts["out_of_limits"] += finite and any(
                not lower * scale - TOLERANCE <= value <= upper * scale + TOLERANCE
                for value, lower, upper, scale in zip(values, actions.lower, actions.upper, actions.scale, strict=True)
            )
        return dict(counts) | self._ticks() | self._slew() | self._hand_overs()

    def _ticks(self) -> dict[str, Any]:
        """Ticks of robot_node without a command, as seen in the gaps between its commands."""
        frozen = [
            (event.at_ns, event.until_ns) for event in self.events if (event.kind, event.node) == ("freeze", "robot")
        ]
        missing = unobserved = excused = 0
        longest = 0.0
        for process in self._processes(self.of_robot).values():
            for index, (before, after) in enumerate(pairwise(process)):
                lost = after.number - before.number - 1
                unobserved += lost
                periods = (after.sent_ns - before.sent_ns) / self.period_ns
                if any(start <= after.sent_ns and before.sent_ns <= end for start, end in frozen) or lost:
                    continue
                longest = max(longest, periods)
                if periods > MISSING:
                    held_up = self._held_up(before.sent_ns, after.sent_ns) / self.period_ns
                    if periods - held_up <= MISSING:
                        excused += round(periods) - 1
                    else:
                        missing += round(periods) - 1
                        words = f"{periods:.2f} periods, {held_up:.2f} of them held up, {self._after(before)}"
                        # Whether a tick was late or left out: after a late one the next comes all the sooner.
                        around = process[max(0, index - 2) : index + 5]
                        near = ", ".join(f"{(b.sent_ns - a.sent_ns) / self.period_ns:.2f}" for a, b in pairwise(around))
                        print(f"no command for {words}; periods between those around it: {near}", flush=True)
        return {
            "ticks_without_command": missing,
            "ticks_without_command_while_the_machine_was_held_up": excused,
            "commands_lost_by_observer": unobserved,
            "longest_interval_periods": longest,
        }

    def _after(self, command: Heard) -> str:
        """What was done last before a command, in words."""
        done = [event for event in self.events if event.at_ns <= command.sent_ns]
        if not done:
            return "before anything was done"
        last = max(done, key=lambda event: event.at_ns)
        return f"{(command.sent_ns - last.at_ns) * 1e-9:.2f} s after {last.kind} of {last.node}"

    def _held_up(self, begin_ns: int, end_ns: int) -> int:
        """For how long the machine held up any of its processors between two times, ns."""
        total, reached = 0, begin_ns
        for begin, end in sorted(self.view.held_up):
            new = min(end, end_ns) - max(begin, reached)
            if new > 0:
                total, reached = total + new, end
        return total

    def _measured(self, column: str, begin_ns: int, end_ns: int, unit_ns: float) -> dict[str, float]:
        """The time between two moments in a unit, less what the machine was held up for, which is told beside it."""
        held_up = self._held_up(begin_ns, end_ns)
        row = {column: (end_ns - begin_ns - held_up) / unit_ns}
        return row | ({f"{column}_held_up": held_up / unit_ns} if held_up else {})

    def _slew(self) -> dict[str, Any]:
        """Commands that change faster than the slew limit from the last one, of the same process; but for the first of
        an episode, and for the zero that is a process's last word.
        """
        allowed = [slew * scale * self.robot.spec.period for slew, scale in zip(
            self.robot.spec.action.slew, self.robot.spec.action.scale, strict=True)]  # fmt: skip
        begins = sorted(step.sent_ns for step in self.steps if step.content[2] == 0)
        last = {message.publisher: message for message in self.commands}
        count = farewells = 0
        for before, after in pairwise(self.commands):
            if before.publisher != after.publisher or after.number != before.number + 1:
                continue  # a hand-over, or the observer has lost some
            fast = any(
                abs(new - old) > limit * (1.0 + 1e-6)
                for new, old, limit in zip(after.content, before.content, allowed, strict=True)
            )
            first = bisect.bisect(begins, before.sent_ns - self.period_ns) != bisect.bisect(
                begins, after.sent_ns + self.period_ns
            )
            farewell = last[after.publisher] is after and not any(after.content)
            count += fast and not first and not farewell
            farewells += fast and farewell
        return {"beyond_slew": count, "beyond_slew_to_the_zero_at_the_end": farewells}

    def _hand_overs(self) -> dict[str, Any]:
        """The largest step from a command of one process to one of another, in periods of the slew limit."""
        worst = 0.0
        for before, after in pairwise(self.commands):
            if before.process != after.process:
                worst = max(
                    worst,
                    *(
                        abs(new - old) / (slew * scale * self.robot.spec.period)
                        for new, old, slew, scale in zip(
                            after.content, before.content, self.robot.spec.action.slew, self.robot.spec.action.scale,
                            strict=True,
                        )
                        if math.isfinite(slew)
                    ),
                )  # fmt: skip
        return {"largest_step_at_a_hand_over_slew_periods": worst}

    @staticmethod
    def _processes(messages: list[Heard]) -> dict[str, list[Heard]]:
        found: dict[str, list[Heard]] = defaultdict(list)
        for message in messages:
            found[message.publisher].append(message)
        return {name: sorted(group, key=lambda message: message.number) for name, group in found.items()}

    def missed_by_own_count(self) -> int:
        """Ticks of episodes that the processes of robot_node say they have left out, those of freezes among them."""
        newest: dict[str, int] = {}
        for message in self.view.heard["d"]:
            name, _, _, values = message.content[0]
            if name == "robot" and "missed_ticks" in values:
                newest[message.process] = int(values["missed_ticks"])
        return sum(newest.values())

    # --- events ------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """A row for every event."""
        rows = []
        for event in self.events:
            row: dict[str, Any] = {"kind": event.kind, "node": event.node, "number": event.number}
            if event.node in ("planner", "policy", "explore"):
                row |= self._controller(event)
            elif event.node == "robot":
                row |= self._watchdog(event)
            elif event.figures.get("after") == "robot":
                row |= event.figures | self._backend_time_out(event)
            if event.kind == "kill":
                row["seconds_until_it_reports_again"] = self._reports(event)
            if event.node in ("mujoco", "faulty_backend", "robot") or event.node.startswith("faulty_backend/"):
                row |= self._episodes(event)
            rows.append(row)
        return rows

    def _controller(self, event: Event) -> dict[str, Any]:
        """Periods from the last command of the controller's to the first of its replacement's; seconds from its first
        plan when it is back to its first command.
        """
        begin = max(0, bisect.bisect(self._steps_ns, event.at_ns) - 3)
        served = self.steps[begin:]
        own = next((i for i, step in enumerate(served) if step.content[4] == event.node), None)
        if own is None:
            return {}
        lost = next((i for i in range(own, len(served)) if served[i].content[4] != event.node), None)
        row: dict[str, Any] = {"fallback_periods": NEVER, "back_seconds": NEVER}
        if lost is not None:
            last, first = self._command_of(served[lost - 1]), self._command_of(served[lost])
            if served[lost].content[0] != served[lost - 1].content[0]:
                return {}  # the episode had ended by itself
            row["fallback"] = served[lost].content[4]
            if last and first:
                row |= self._measured("fallback_periods", last.sent_ns, first.sent_ns, self.period_ns)
        since = event.until_ns or event.at_ns
        plan = next(
            (
                plan
                for plan in self.view.heard["p"]
                if plan.sent_ns > since
                and plan.content[0] == event.node
                and (event.kind == "freeze" or plan.process != event.process)
            ),
            None,
        )
        if plan is not None and self._selected(plan.sent_ns) != self._selected(event.at_ns):
            del row["back_seconds"]  # another trial has begun, which has selected its own
            row["selected_when_back"] = self._selected(plan.sent_ns)
        elif plan is not None:
            back = next(
                (
                    command
                    for step in self.steps[bisect.bisect(self._steps_ns, plan.sent_ns) :]
                    if step.content[4] == event.node and (command := self._command_of(step))
                    and command.sent_ns >= plan.sent_ns
                ),
                None,
            )  # fmt: skip
            if back is not None:
                row["back_seconds"] = (back.sent_ns - plan.sent_ns) * 1e-9
                row["seconds_from_event_to_back"] = (back.sent_ns - event.at_ns) * 1e-9
        return row

    def _selected(self, time_ns: int) -> str:
        """Who was selected at a time."""
        newest = [message.content[0] for message in self.view.heard["s"] if message.sent_ns <= time_ns]
        return str(newest[-1]) if newest else ""

    def _command_of(self, step: Heard) -> Heard | None:
        """The command that the interval ending at this time step was begun with."""
        if not step.content[7]:
            return None
        sent_ns = step.content[7] + self.view.steady_offset_ns
        index = bisect.bisect(self._robot_ns, sent_ns - MATCH_NS)
        near = self.of_robot[index : index + 4]
        best = min(near, key=lambda command: abs(command.sent_ns - sent_ns), default=None)
        return best if best is not None and abs(best.sent_ns - sent_ns) <= MATCH_NS else None

    def _watchdog(self, event: Event) -> dict[str, Any]:
        """Periods from the last command of robot_node's to the first of the watchdog's."""
        end = event.until_ns or event.at_ns + 2_000_000_000
        before = [command for command in self.of_robot if command.sent_ns <= event.at_ns + 1_000_000]
        others = [
            command for command in self.commands
            if event.at_ns < command.sent_ns < end and self.view.nodes.get(command.process) == "watchdog"
        ]  # fmt: skip
        if not before or not others:
            return {"watchdog_periods": NEVER}
        return self._measured("watchdog_periods", before[-1].sent_ns, others[0].sent_ns, self.period_ns)

    def _backend_time_out(self, event: Event) -> dict[str, Any]:
        """Seconds from the last command that reached the backend until the effort it applies is zero, less its
        time-out, in its time steps.
        """
        reached = [m for m in self.view.heard["b"] if m.sent_ns <= event.at_ns + 5_000_000]
        efforts = [m for m in self.view.heard["j"] if m.sent_ns > (reached[-1].sent_ns if reached else 0)]
        zero = next((m for m in efforts if not any(m.content)), None)
        if not reached or zero is None:
            return {"backend_steps_after_time_out": NEVER}
        silence = (zero.sent_ns - reached[-1].sent_ns) * 1e-9
        time_step = self.robot.spec.period / self.robot.simulation.steps_per_control
        return {
            "effort_before": max(abs(value) for value in reached[-1].content),
            "backend_zero_after_seconds": silence,
            "backend_steps_after_time_out": (silence - self.robot.simulation.command_timeout) / time_step,
        }

    def _reports(self, event: Event) -> float:
        told = next(
            (m for m in self.view.heard["d"] if m.sent_ns > event.at_ns and m.process != event.process
             and m.content[0][0] == event.node), None,
        )  # fmt: skip
        return NEVER if told is None else (told.sent_ns - event.at_ns) * 1e-9

    def _episodes(self, event: Event) -> dict[str, Any]:
        """Whether the episode ended by FAULT meanwhile, and seconds until a step of the next one."""
        since = event.until_ns or event.at_ns
        after = self.steps[bisect.bisect(self._steps_ns, event.at_ns) :]
        fault = next(
            (step for step in after
             if step.content[2] == LAST and step.content[3] == FAULT and step.sent_ns < since + FAULT_WITHIN_NS), None,
        )  # fmt: skip
        # The next episode is known by its steps: the observer may find a new robot_node after it has sent the first.
        if (event.kind, event.node) == ("kill", "robot"):
            after = [step for step in after if step.process != event.process]
        elif fault is not None:
            after = [step for step in after if step.content[0] != fault.content[0]]
        moving = next((step for step in after if step.sent_ns > since and step.content[2] == 1), None)
        return {
            "fault": int(fault is not None),
            "seconds_until_it_moves": NEVER if moving is None else (moving.sent_ns - event.at_ns) * 1e-9,
        }
