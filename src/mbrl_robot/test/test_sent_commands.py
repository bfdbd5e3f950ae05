# SPDX-License-Identifier: Apache-2.0
"""What acts when: on the robot's side of the line and on the simulation's, by hand and against each other."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.delay import between, commands_on_the_way, whole_and_fraction, whole_steps
from mbrl_core.robot_file import Robot, load_robot
from mbrl_robot.command_delay import CommandDelay
from mbrl_robot.delayed_simulation import DelayedSimulation
from mbrl_robot.sent_commands import SentCommands
from mbrl_robot.simulation import MujocoSimulation

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
PERIOD = 40_000_000


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def with_delay(periods: float, robot: str = "cartpole") -> Robot:
    """A robot whose simulation is late, and whose file says so."""
    machine = load_robot(ROBOTS / f"{robot}.yaml")
    delay = periods * machine.spec.period
    return dataclasses.replace(
        machine,
        spec=dataclasses.replace(machine.spec, delay=delay),
        simulation=dataclasses.replace(machine.simulation, command_delay=delay),
    )


@pytest.mark.parametrize(
    ("periods", "expected"), [(0.0, (0, 0.0)), (0.3, (0, 0.3)), (1.0, (1, 0.0)), (1.5, (1, 0.5)), (3.0, (3, 0.0))]
)
def test_whole_periods_and_the_fraction(periods: float, expected: tuple[int, float]) -> None:
    spec = with_delay(periods).spec
    assert whole_and_fraction(spec) == (expected[0], pytest.approx(expected[1]))
    assert commands_on_the_way(spec) == (expected[0] + 1 if periods else 0)
    assert whole_steps(spec) == int(periods + 0.5)


@pytest.mark.parametrize("periods", [0.0, 0.3, 1.0, 1.5, 2.75])
def test_executed_is_the_mean_of_what_acts(periods: float) -> None:
    sent = SentCommands(np.zeros(1), PERIOD, round(periods * PERIOD))
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, 60)
    whole, fraction = int(periods), periods - int(periods)
    for step, action in enumerate(actions):
        sent.add(step * PERIOD, np.array([action]))
        earlier = [actions[index] if index >= 0 else 0.0 for index in (step - whole - 1, step - whole)]
        expected = fraction * earlier[0] + (1.0 - fraction) * earlier[1]
        assert sent.executed(step * PERIOD)[0, 0] == pytest.approx(expected, abs=1e-12)


def test_without_a_delay_the_command_is_what_acts_bit_for_bit() -> None:
    sent = SentCommands(np.zeros(1), PERIOD, 0)
    for step, value in enumerate((0.1, -0.0, 1.0 / 3.0)):
        sent.add(step * PERIOD, np.array([value]))
        assert sent.executed(step * PERIOD)[0].tobytes() == np.array([value]).tobytes()
        coming = sent.coming(step * PERIOD, 0, column(value, 0.7), decided=True)
        assert coming.executed.tobytes() == column(value, 0.7).tobytes()
        assert coming.sent.shape == (0, 1)


def test_what_is_to_come_with_one_and_a_half_periods() -> None:
    sent = SentCommands(np.zeros(1), PERIOD, PERIOD * 3 // 2)
    for step, action in enumerate((1.0, 2.0, 3.0)):
        sent.add(step * PERIOD, np.array([action]))
    # At step 3, whose command is not sent yet; 4 and 5 are what plans have for steps 3 and 4.
    coming = sent.coming(3 * PERIOD, 0, column(4.0, 5.0), decided=False)
    assert coming.sent.ravel().tolist() == [2.0, 3.0, 4.0, 5.0]
    assert coming.executed.ravel().tolist() == [1.5 + 1.0, 3.5, 4.5]
    # A little later the first of them has been sent: the same is told, acting as much later.
    sent.add(3 * PERIOD + 1_000_000, np.array([4.0]))
    later = sent.coming(3 * PERIOD, 1_000_000, column(4.0, 5.0), decided=True)
    assert later.sent.ravel().tolist() == [2.0, 3.0, 4.0, 5.0]
    assert later.executed.ravel() == pytest.approx([2.5, 3.475, 4.475], abs=1e-9)
    nothing = sent.coming(4 * PERIOD, 0, np.zeros((0, 1)), decided=False)
    assert len(nothing.sent) == len(nothing.executed) == 0


def test_pieces_of_a_late_line() -> None:
    line = CommandDelay(15)
    line.push(0, column(1.0))
    line.push(10, column(2.0))
    line.push(10, column(3.0))

    def pieces(begin: int, end: int) -> list[tuple[float | None, int]]:
        return [(None if item is None else float(item[0, 0]), lasting) for item, lasting in line.pieces(begin, end)]

    assert pieces(0, 10) == [(None, 10)]
    assert pieces(10, 25) == [(None, 5), (1.0, 10)]
    assert pieces(25, 40) == [(2.0, 0), (3.0, 15)]
    line.push(40, column(4.0))
    line.clear()
    assert pieces(40, 80) == [(None, 40)]
    with pytest.raises(ValueError, match="delay: got -1"):
        CommandDelay(-1)
    line.push(50, column(1.0))
    with pytest.raises(ValueError, match="not before the last one"):
        line.push(49, column(1.0))


@pytest.mark.parametrize("periods", [1.0, 1.5, 0.3])
def test_simulation_is_late_by_exactly_the_delay(periods: float) -> None:
    """Against one whose commands are changed by hand, at the times at which they act."""
    robot = with_delay(periods)
    late, by_hand = DelayedSimulation(MujocoSimulation(robot), robot), MujocoSimulation(robot)
    start = np.array([0.1, 3.0, 0.0, 0.2])
    late.reset(start)
    by_hand.reset(start)
    actions = np.random.default_rng(1).uniform(-3.0, 3.0, (12, 1))
    whole, fraction = int(periods), periods - int(periods)
    for step, action in enumerate(actions):
        state = late.step(action)
        for index, share in ((step - whole - 1, fraction), (step - whole, 1.0 - fraction)):
            by_hand.set_command(100.0 * (actions[index] if index >= 0 else np.zeros(1)))
            by_hand.advance_time(share * robot.spec.period)
        assert state == pytest.approx(by_hand.state, abs=1e-9)
    assert late.reset(start) == pytest.approx(start)
    undriven = MujocoSimulation(robot)
    undriven.reset(start)
    if periods >= 1.0:
        assert late.step(np.ones(1)) == pytest.approx(undriven.step(np.zeros(1))), "what was on its way is forgotten"


def test_between_is_exact_for_a_constant_acceleration() -> None:
    spec = load_robot(ROBOTS / "cartpole.yaml").spec
    before, acceleration, seconds = np.array([0.5, 3.0, 1.0, -2.0]), np.array([4.0, 30.0]), 0.04

    def after(time: float) -> np.ndarray:
        place = before[:2] + before[2:] * time + 0.5 * acceleration * time**2
        return np.concatenate([place, before[2:] + acceleration * time])

    for share in (0.0, 0.3, 0.5, 1.0):
        found = between(before, after(seconds), share, seconds, spec)
        assert found == pytest.approx(after(share * seconds), abs=1e-12)
    # Angles that a model has wrapped are as near as they are.
    wrapped = after(seconds) - [0.0, 2.0 * np.pi, 0.0, 0.0]
    assert between(before, wrapped, 0.5, seconds, spec) == pytest.approx(after(0.02), abs=1e-12)
