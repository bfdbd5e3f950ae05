# SPDX-License-Identifier: Apache-2.0
"""Each check before motion, by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.robot_file import load_robot
from mbrl_robot.dry_run import DryRun
from mbrl_robot.guard import Guard
from mbrl_robot.readiness import AT_START, PASSED, Checks, Demands, Observation, failures, rate_of

ROOT = Path(__file__).resolve().parents[3]
ROBOT = load_robot(ROOT / "config" / "robots" / "cartpole.yaml")
GOOD = Observation(
    state=np.array([0.1, 3.0, 0.0, 0.0]),
    fastest=np.array([0.0, 0.0]),
    states_age=0.01,
    states_rate=500.0,
    description=(ROOT / "src" / "mbrl_description" / "urdf" / "cartpole.urdf").read_text(),
    controllers=1,
    controller_state="active",
    watchdog_state="idle",
    emergency_stops=1,
)


def _failing(**changes: object) -> dict[str, str]:
    results = Checks(ROBOT, Demands()).results(replace(GOOD, **changes))  # type: ignore[arg-type]
    return {name: text for name, text in results.items() if text != PASSED}


def test_all_pass() -> None:
    assert _failing() == {}
    assert _failing(watchdog_state="armed") == {} == _failing(watchdog_state="tripped")


@pytest.mark.parametrize(
    ("change", "check", "message"),
    [
        ({"state": None}, "joint_states", "none has come"),
        ({"states_age": 0.21}, "joint_states", "the newest is 0.21 s old, expected at most 0.2 s"),
        ({"states_rate": 40.0}, "joint_states_rate", "40 a second, expected at least 50"),
        ({"states_refused": "joint_states: no joint 'hinge'"}, "joint_states", "no joint 'hinge'"),
        ({"description": None}, "limits", "none has come; is robot_state_publisher running?"),
        ({"description": "<robot/>"}, "limits", "joint 'slider' is not in robot_description"),
        ({"controllers": 0}, "controller", "0 subscribers named effort_controller, expected 1"),
        ({"controllers": 2}, "controller", "2 subscribers named effort_controller"),
        ({"controller_state": None}, "controller_active", "does not say on /diagnostics"),
        ({"controller_state": "inactive"}, "controller_active", "says it is inactive, expected active"),
        ({"watchdog_state": None}, "watchdog", "says nothing"),
        ({"emergency_stops": 0}, "emergency_stop", "nobody publishes it"),
        ({"others": ("/rqt", "/x")}, "commands", "/rqt, /x publishes there as well"),
        ({"state": np.array([2.6, 0.0, 0.0, 0.0])}, "position_limits", "'slider' is at 2.600, expected -2.5 to 2.5"),
        (
            {"fastest": np.array([0.06, 0.0])},
            "rest",
            "'slider' has moved at 0.060 in the last 1 s, expected at most 0.05",
        ),
        ({"fastest": np.array([0.0, np.nan])}, "rest", "'hinge' has moved at nan"),
    ],
)
def test_what_is_missing_is_said_and_nothing_else(change: dict[str, object], check: str, message: str) -> None:
    failing = _failing(**change)
    assert list(failing) == [check]
    assert message in failing[check]


def test_while_an_episode_runs_the_robot_may_move() -> None:
    seen = replace(GOOD, state=np.array([3.0, 0.0, 1.0, 0.0]), fastest=np.array([1.0, 0.0]), controllers=0)
    results = Checks(ROBOT, Demands()).results(seen)
    assert len(failures(results)) == 3
    assert len(failures(results, AT_START)) == 1


def test_without_a_manager_nobody_is_asked_for_the_controllers_state() -> None:
    results = Checks(ROBOT, Demands(manager="")).results(replace(GOOD, controller_state=None))
    assert results["controller_active"] == PASSED


def test_a_rate_is_that_of_consecutive_messages() -> None:
    # Five in a row are looked at, then a pause until the next look.
    stamps = [second * 10**9 + step * 2_000_000 for second in range(3) for step in range(5)]
    assert rate_of(stamps) == pytest.approx(500.0)
    assert rate_of([]) == rate_of([1]) == rate_of([1, 1]) == 0.0


def test_a_dry_run_says_what_would_have_been_commanded() -> None:
    dry_run, guard = DryRun(ROBOT.spec.action), Guard(ROBOT.spec.action)
    for action in (-1.0, 5.0, 2.0):
        dry_run.add(guard.limit(np.array([action]), 0.04).action * 100.0)
    line = dry_run.line(guard.held_back, "explore")
    assert "3 commands of 'explore': slider -100 to 300 N; held back: range 1 times" in line
    assert dry_run.line(guard.held_back, "explore") == ""
    dry_run.add(np.array([1.0]))
    assert "1 commands of 'safe': slider 1 to 1 N; held back: nothing" in dry_run.line(guard.held_back, "safe")
