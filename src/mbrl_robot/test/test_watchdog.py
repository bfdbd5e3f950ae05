# SPDX-License-Identifier: Apache-2.0
"""The rules of the watchdog: when it commands, what, and when it does not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.robot_file import Robot, SafeAction, load_robot
from mbrl_robot.watchdog import CommandRefused, OwnCommands, StopMemory, Watch, Watchdog

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
PERIOD_NS = 40_000_000
STATE = np.array([1.0, 0.2, 0.5, -0.3])
SECOND_NS = 1_000_000_000


def cartpole(kind: str = "damping", slew: float = np.inf) -> Robot:
    """The cart-pole with a safe action of a kind and a slew limit, normalised units a second."""
    robot = load_robot(ROBOTS / "cartpole.yaml")
    spec = dataclasses.replace(robot.spec, action=dataclasses.replace(robot.spec.action, slew=(slew,)))
    return dataclasses.replace(robot, spec=spec, safe_action=SafeAction(kind, (0.3,)))


def test_it_arms_with_the_first_command_and_trips_when_they_stop() -> None:
    watchdog = Watchdog(cartpole(), 2.5)
    assert watchdog.state is Watch.IDLE and not watchdog.is_due(10**18)
    for tick in range(5):
        watchdog.commanded(np.array([10.0]), tick * PERIOD_NS, tick + 1)
        assert watchdog.state is Watch.ARMED
    last_ns = 4 * PERIOD_NS
    assert watchdog.longest_silence_ns == PERIOD_NS
    assert not watchdog.is_due(last_ns + 2 * PERIOD_NS)
    assert watchdog.is_due(last_ns + watchdog.timeout_ns) and watchdog.timeout_ns <= 3 * PERIOD_NS
    assert watchdog.command(STATE) == pytest.approx([-0.3 * 0.5 * 100.0])
    assert watchdog.state is Watch.TRIPPED and watchdog.trips == 1
    watchdog.command(STATE)
    assert watchdog.trips == 1
    watchdog.commanded(np.array([1.0]), 9 * PERIOD_NS, 9)
    assert watchdog.state is Watch.ARMED and not watchdog.is_due(10 * PERIOD_NS)


def test_a_farewell_is_no_accident() -> None:
    watchdog = Watchdog(cartpole(), 2.5)
    watchdog.commanded(np.array([0.0]), 0, 100)
    watchdog.farewell(10, 102)
    assert watchdog.state is Watch.IDLE and not watchdog.is_due(10**18)
    # The last words come after all: another topic has overtaken them.
    watchdog.commanded(np.array([0.0]), 20, 101)
    assert watchdog.state is Watch.IDLE
    watchdog.commanded(np.array([0.0]), 30, 103)
    assert watchdog.state is Watch.ARMED


def test_system_time_that_is_set_back_does_not_keep_it_from_arming() -> None:
    watchdog = Watchdog(cartpole(), 2.5)
    watchdog.farewell(0, 10**18)
    watchdog.commanded(np.array([0.0]), 2 * SECOND_NS, 5)
    assert watchdog.state is Watch.ARMED


@pytest.mark.parametrize(("command", "reason"), [([], "wrong_length"), ([1.0, 2.0], "wrong_length"),
                                                 ([np.nan], "non_finite"), ([-np.inf], "non_finite")])  # fmt: skip
def test_what_no_backend_executes_is_no_sign_of_life(command: list[float], reason: str) -> None:
    watchdog = Watchdog(cartpole(), 2.5)
    watchdog.commanded(np.array([10.0]), 0, 1)
    with pytest.raises(CommandRefused) as refusal:
        watchdog.commanded(np.array(command), 2 * PERIOD_NS, 2)
    assert refusal.value.reason == reason
    assert watchdog.is_due(watchdog.timeout_ns)


def test_taking_over_does_not_jerk_the_robot() -> None:
    watchdog = Watchdog(cartpole(slew=2.0), 2.5)
    watchdog.commanded(np.array([250.0]), 0, 1)
    first = watchdog.command(STATE)
    assert first == pytest.approx([(2.5 - 2.0 * 2.5 * 0.04) * 100.0])
    assert watchdog.command(STATE) == pytest.approx(first - 2.0 * 0.04 * 100.0)


def test_a_command_beyond_the_limits_is_followed_from_the_limit() -> None:
    watchdog = Watchdog(cartpole(slew=2.0), 2.5)
    watchdog.commanded(np.array([1e9]), 0, 1)
    assert watchdog.command(STATE) == pytest.approx([(3.0 - 0.2) * 100.0])


def test_hold_is_entered_where_the_robot_is_at_each_trip() -> None:
    watchdog = Watchdog(cartpole("hold"), 2.5)
    rest, moved = np.array([1.0, 0.2, 0.0, 0.0]), np.array([1.1, 0.2, 0.0, 0.0])
    watchdog.commanded(np.array([0.0]), 0, 1)
    assert watchdog.command(rest) == pytest.approx([0.0])
    assert watchdog.command(moved) == pytest.approx([-0.3 * 0.1 * 100.0])
    watchdog.commanded(np.array([0.0]), SECOND_NS, 2)
    assert watchdog.command(moved) == pytest.approx([0.0])


@pytest.mark.parametrize("kind", ["zero", "damping", "hold"])
def test_an_unknown_state_means_zero(kind: str) -> None:
    watchdog = Watchdog(cartpole(kind), 2.5)
    watchdog.commanded(np.array([10.0]), 0, 1)
    assert watchdog.command(None) == pytest.approx([0.0])


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_its_commands_are_finite_and_within_all_limits(seed: int) -> None:
    random = np.random.default_rng(seed)
    robot = cartpole(str(random.choice(["zero", "damping", "hold"])), slew=5.0)
    watchdog = Watchdog(robot, 2.5)
    time_ns, last, sent = 0, 0.0, 0
    for _ in range(2000):
        time_ns += int(random.exponential(PERIOD_NS))
        if random.random() < 0.3:
            value = float(random.choice([0.0, 120.0, -300.0, 1e300, np.nan, np.inf]))
            try:
                watchdog.commanded(np.array([value]), time_ns, int(random.integers(10**9)))
            except CommandRefused:
                assert not np.isfinite(value)
            if np.isfinite(value):
                last = None if watchdog.state is Watch.IDLE else min(max(value / 100.0, -3.0), 3.0)
        elif random.random() < 0.05:
            watchdog.farewell(time_ns, int(random.integers(10**9)))
        elif watchdog.is_due(time_ns):
            elapsed = 0.1 if watchdog.state is Watch.ARMED else 0.04
            state = None if random.random() < 0.2 else random.normal(0.0, 10.0 ** random.uniform(-2, 6), 4)
            action = watchdog.command(state) / 100.0
            sent += 1
            assert np.isfinite(action).all() and (np.abs(action) <= 3.0).all()
            assert last is None or abs(action[0] - last) <= 5.0 * elapsed + 1e-9
            last = action[0]
    assert sent > 50


def test_own_messages_are_told_by_their_stamps() -> None:
    own = OwnCommands()
    assert not own.include(5)
    for start in range(0, 10**9, 10**7):
        own.sent(start, start + 50_000)
    assert own.include(99 * 10**7 + 25_000) and own.include(90 * 10**7)
    assert not own.include(99 * 10**7 + 60_000) and not own.include(0)


def test_an_emergency_stop_outlives_the_process_that_it_was_latched_in() -> None:
    memory = StopMemory()
    assert [memory.say(b"one", stopped) for stopped in (False, True, False, True)] == [None] * 4
    assert memory.say(b"two", False) is True, "another process, which knows of no stop"
    assert memory.say(b"two", False) is None, "it has not heard of it yet"
    assert memory.say(b"three", False) is None, "what is latched stops this one, too"
    assert memory.say(b"three", True) is None
    assert memory.say(b"three", False) is False, "reset: what is latched must not stop the next one"
    assert memory.say(b"three", False) is None
    assert memory.say(b"four", False) is None
