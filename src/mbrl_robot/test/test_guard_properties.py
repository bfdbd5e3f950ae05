# SPDX-License-Identifier: Apache-2.0
"""Random robots, plans, faults and clocks: every tick gives a finite command within all limits."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.command_interfaces import SAFE_ACTIONS
from mbrl_core.guard_limits import GuardLimits, SoftStop, SpeedLimit
from mbrl_core.messages import Plan
from mbrl_core.robot_file import Robot, SafeAction, load_robot
from mbrl_core.specs import INTERFACES, Array
from mbrl_robot.control import Control
from mbrl_robot.executor import CONTROLLERS, SAFE, AddressedPlan, PlanRefused
from mbrl_robot.faults import Faults, FaultyLine, spoil_numbers
from mbrl_robot.state_estimation import JointStatesRefused, StateEstimator

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
NAMES = ("joint0", "joint1")
TICKS = 600
STALE_NS = 200_000_000
# Stamp, positions, velocities.
Message = tuple[int, list[float], list[float]]


def random_robot(random: np.random.Generator) -> Robot:
    """The reacher with any limits, interfaces, safe action and guard."""
    robot = load_robot(ROBOTS / "reacher.yaml")
    interface = str(random.choice(INTERFACES))
    action = dataclasses.replace(
        robot.spec.action,
        interfaces=(interface,) * 2,
        lower=(-1.0, float(random.uniform(-2.0, 0.5))),
        upper=(float(random.uniform(0.1, 3.0)), 2.0),
        scale=(float(random.choice([-50.0, 1.0, 200.0])), 2.0),
        slew=(float(random.choice([np.inf, 5.0, 0.5])), float(random.choice([np.inf, 20.0]))),
    )
    stop = SoftStop(-2.0, float(random.uniform(-1.0, 2.0)), float(random.choice([0.0, 0.5, 1e3])))
    guard = GuardLimits(
        (stop, None) if random.random() < 0.7 else (None, stop),
        (None, SpeedLimit(3.0, 0.1)) if random.random() < 0.7 else (None, None),
        (np.inf, float(random.choice([np.inf, 0.5])), np.inf, 1.0),
    )
    spec = dataclasses.replace(robot.spec, action=action)
    safe = SafeAction(str(random.choice(SAFE_ACTIONS[interface])), (0.5, float(10.0 ** random.uniform(-2, 3))))
    chain = tuple(str(name) for name in random.permutation(CONTROLLERS)[: random.integers(0, 4)])
    return dataclasses.replace(robot, spec=spec, safe_action=safe, chain=chain, guard=guard)


def random_plan(random: np.random.Generator, step: int) -> AddressedPlan:
    """Any plan at all: often valid, sometimes wrong in every way a plan can be."""
    rows = int(random.integers(1, 6))
    actions = random.normal(0.0, 10.0 ** random.uniform(-1, 300), (rows, 2))
    states = spread = gains = None
    if random.random() < 0.4:
        states = random.normal(0.0, 3.0, (rows + 1, 4))
        spread = np.abs(random.normal(0.0, 0.5, (rows + 1, 4)))
        gains = random.normal(0.0, 10.0 ** random.uniform(0, 308), (rows, 2, 4))
    if random.random() < 0.1:
        actions[random.integers(rows), random.integers(2)] = random.choice([np.nan, np.inf, -np.inf])
    if random.random() < 0.05:
        actions = actions[:, :1]
    return AddressedPlan(
        Plan(actions, predicted_states=states, predicted_std=spread, gains=gains),
        str(random.choice([*CONTROLLERS, "nobody"])),
        1 if random.random() < 0.9 else 2,
        max(0, step + int(random.integers(-3, 5))),
        max(0, step + int(random.integers(-4, 2))),
    )


def random_faults(random: np.random.Generator) -> Faults:
    """Faults of joint states, all kinds at once."""
    shares = {name: float(random.choice([0.0, 0.3])) for name in ("drop", "duplicate", "reorder", "corrupt")}
    return Faults(
        delay=float(random.exponential(0.02)),
        jitter=float(random.exponential(0.02)),
        freeze=bool(random.random() < 0.2),
        **shares,
    )


class Scene:
    """A control loop as robot_node runs it, without ROS: joint states over a faulty line, ticks on a rough clock."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.robot = random_robot(self.random)
        self.control = Control(self.robot)
        self.control.executor.begin_episode(1)
        self.estimator = StateEstimator(self.robot)
        self.line: FaultyLine[Message] = FaultyLine(
            np.random.default_rng(seed + 1),
            lambda message, kind, random: (message[0], spoil_numbers(message[1], kind, random), message[2]),
            lambda old, new: (new[0], *old[1:]),
        )
        self.time_ns = 0
        self.refused = 0

    def joint_states(self) -> None:
        """Something of the robot comes in, whatever it is; stamps may go back."""
        size = 10.0 ** self.random.uniform(-1, 2 if self.random.random() < 0.9 else 308)
        stamp_ns = self.time_ns - int(self.random.exponential(1e6))
        if self.random.random() < 0.01:
            stamp_ns = 0
        self.line.put((stamp_ns, *self.random.normal(0.0, size, (2, 2)).tolist()), self.time_ns)
        for stamp_ns, positions, velocities in self.line.take(self.time_ns):
            try:
                self.estimator.update(NAMES, positions, velocities, stamp_ns, self.time_ns)
            except JointStatesRefused:
                self.refused += 1

    def state(self) -> Array | None:
        """The newest state, None where it is too old."""
        sample = self.estimator.latest
        return None if sample is None or self.time_ns - sample.arrival_ns > STALE_NS else sample.state

    def disturb(self, step: int) -> None:
        """Plans, selections, stops and resets, at random."""
        random, control = self.random, self.control
        for _ in range(random.integers(0, 4)):
            try:
                control.executor.accept(random_plan(random, step), step, step)
            except PlanRefused:
                self.refused += 1
        if random.random() < 0.1:
            control.executor.select(str(random.choice([*CONTROLLERS, SAFE])))
        if random.random() < 0.02:
            control.guard.latch_emergency_stop()
        elif random.random() < 0.2:
            control.guard.reset_emergency_stop()
        if random.random() < 0.1:
            self.line.faults = random_faults(random)

    def elapsed(self) -> float:
        """Seconds since the last command: a period, less, more, none at all, or a clock that is broken."""
        period = self.robot.spec.period
        elapsed = float(self.random.choice([period, 0.0, 0.3 * period, 7.0 * period, -1.0]))
        self.time_ns += max(round(elapsed * 1e9), 0)
        return elapsed


def check_stops(robot: Robot, action: Array, last: Array, state: Array, reach: Array) -> int:
    """Nothing pushes further into a soft stop, unless slew limit or range leave nothing else; how often it mattered."""
    spec, checked = robot.spec.action, 0
    for index, stop in enumerate(robot.guard.soft_stops):
        if stop is None or spec.interfaces[index] == "position":
            continue
        outwards = float(state[index] >= stop.upper) - float(state[index] <= stop.lower)
        can_be_zero = spec.lower[index] <= 0.0 <= spec.upper[index] and abs(last[index]) <= reach[index]
        if outwards and can_be_zero:
            assert outwards * np.sign(spec.scale[index]) * action[index] <= 1e-12
            checked += 1
    return checked


@pytest.mark.parametrize("seed", range(40))
def test_every_tick_gives_a_command_that_may_be_sent(seed: int) -> None:
    scene = Scene(seed)
    control, spec = scene.control, scene.robot.spec.action
    slew = np.array(spec.slew)
    last, served, checked = control.guard.last, set(), 0
    for step in range(TICKS):
        scene.disturb(step)
        elapsed = scene.elapsed()
        for _ in range(scene.random.integers(0, 4)):
            scene.joint_states()
        state = scene.state()
        with np.errstate(over="ignore", invalid="ignore"):
            decision = control.safe(None, elapsed) if state is None else control.decide(step, state, elapsed)
            committed = np.zeros((0, 2)) if state is None else control.committed_actions(step, state, 4, decided=True)
        served.add(decision.controller)
        action = decision.action
        if scene.robot.interface == "position" and np.isnan(last).all():
            # Nobody has told it a position yet: none is told before it is known, and no slew limit holds there.
            assert np.isnan(action).all() == (state is None) and np.isfinite(action).all() == (state is not None)
            last = action
            continue
        assert np.isfinite(action).all() and np.isfinite(decision.command).all()
        assert (action >= spec.lower).all() and (action <= spec.upper).all()
        reach = np.array([limit if np.isinf(limit) else limit * max(elapsed, 0.0) for limit in slew])
        assert (np.abs(action - last) <= reach + 1e-12).all()
        assert decision.command == pytest.approx(action * np.array(spec.scale))
        assert decision.fallback == (decision.controller != control.executor.selected)
        assert not control.guard.emergency_stop or decision.controller == SAFE
        assert np.isfinite(committed).all()
        assert (committed >= spec.lower).all() and (committed <= spec.upper).all()
        if state is not None:
            checked += check_stops(scene.robot, action, last, state, reach)
        last = action
    assert SAFE in served and len(served) > 1 and scene.refused > 100, "a property that is empty says nothing"
    assert checked > 0 or "position" in spec.interfaces or spec.lower[1] > 0.0


def test_equal_seeds_give_equal_commands() -> None:
    def commands(seed: int) -> list[bytes]:
        scene = Scene(seed)
        sent = []
        for step in range(100):
            scene.disturb(step)
            elapsed = scene.elapsed()
            scene.joint_states()
            with np.errstate(over="ignore", invalid="ignore"):
                state = scene.state()
                decision = scene.control.safe(None, elapsed) if state is None else scene.control.decide(
                    step, state, elapsed
                )  # fmt: skip
            sent.append(decision.command.tobytes())
        return sent

    assert commands(3) == commands(3) != commands(4)
