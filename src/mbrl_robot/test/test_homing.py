# SPDX-License-Identifier: Apache-2.0
"""The way home: it arrives, slowly, whatever the interface; and the rules of a reset on hardware."""

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import Array, SpecError
from mbrl_robot.hardware_reset import LOST_INTEREST_NS, Criteria, HardwareReset, Outcome
from mbrl_robot.homing import Homing
from mbrl_robot.inverse_dynamics import InverseDynamics
from mbrl_robot.simulation import MujocoSimulation

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
ARM = load_robot(ROBOTS / "arm.yaml")
CARTPOLE = load_robot(ROBOTS / "cartpole.yaml")
KEY = (1, 0, ())
SECOND = 10**9


def _with_interface(robot: Robot, interface: str) -> Robot:
    action = replace(robot.spec.action, interfaces=(interface,) * robot.spec.action.size)
    return replace(robot, spec=replace(robot.spec, action=action))


def _drive(robot: Robot, homing: Homing, state: Array, seconds: float) -> tuple[Array, float]:
    """The state after homing in MuJoCo, and the largest speed of the driven joints on the way."""
    simulation = MujocoSimulation(robot)
    simulation.reset(state)
    velocities = [index + len(robot.joints) for index in robot.action_joints]
    fastest = 0.0
    for _ in range(round(seconds / robot.spec.period)):
        simulation.set_command(homing.command(simulation.state, robot.spec.period))
        simulation.step_control()
        fastest = max(fastest, float(np.abs(simulation.state[velocities]).max()))
    return simulation.state, fastest


def test_inverse_dynamics_is_the_simulations_own() -> None:
    simulation, inverse = MujocoSimulation(ARM), InverseDynamics(ARM)
    random = np.random.default_rng(0)
    for _ in range(10):
        efforts = random.uniform(-1.0, 1.0, 7) * np.array(ARM.spec.action.scale)
        simulation.reset(np.concatenate([random.uniform(-2.0, 2.0, 7), random.normal(size=7)]))
        simulation.set_command(efforts)
        mujoco.mj_forward(simulation.model, simulation.data)
        found = inverse.efforts(simulation.state, np.array(simulation.data.qacc))
        assert found == pytest.approx(efforts, abs=1e-9)


def test_efforts_bring_an_arm_home_slowly_against_its_weight() -> None:
    target = np.array(ARM.start.position_mean)
    homing = Homing(ARM, target, np.full(7, 0.3), efforts=InverseDynamics(ARM).efforts)
    # As far up and down as its joints are wide, from rest.
    start = np.array([0.5, 1.2, -0.4, 0.2, 0.6, -0.3, 0.4, *[0.0] * 7])
    state, fastest = _drive(ARM, homing, start, 12.0)
    assert np.abs(homing.way_left(state)).max() < 0.03
    assert fastest < 0.5


def test_with_a_model_that_is_a_third_too_light_a_joint_runs_away_and_is_noticed() -> None:
    target = np.array(ARM.start.position_mean)
    light = InverseDynamics(ARM)
    homing = Homing(ARM, target, np.full(7, 0.3), efforts=lambda state, answer: 0.67 * light.efforts(state, answer))
    simulation = MujocoSimulation(ARM)
    simulation.reset(np.array([*target + 0.3, *[0.0] * 7]))
    while not homing.runaway(simulation.state):
        assert simulation.data.time < 12.0
        simulation.set_command(homing.command(simulation.state, ARM.spec.period))
        simulation.step_control()
    assert np.abs(simulation.state[7:]).max() < 3.0


def test_the_cart_goes_home_with_its_pole_hanging() -> None:
    for arguments in ({"efforts": InverseDynamics(CARTPOLE).efforts}, {"gains": np.array([0.3])}):
        homing = Homing(CARTPOLE, np.array([0.3]), np.array([0.2]), **arguments)  # type: ignore[arg-type]
        state, fastest = _drive(CARTPOLE, homing, np.array([-0.7, 0.0, 0.0, 0.0]), 15.0)
        assert abs(homing.way_left(state)[0]) < 0.01
        assert fastest < 0.3


def test_without_a_model_weight_is_carried_by_the_integral_part() -> None:
    robot = load_robot(ROBOTS / "pendulum.yaml")
    # At 0.3 rad the bob pulls with 0.89 of the motor's largest torque.
    homing = Homing(robot, np.array([0.3]), np.array([0.3]), np.array([0.4]))
    state, fastest = _drive(robot, homing, np.array([0.0, 0.0]), 20.0)
    assert abs(state[0] - 0.3) < 0.01
    assert fastest < 0.5


def test_commands_stay_within_the_actions_range() -> None:
    homing = Homing(CARTPOLE, np.array([2.0]), np.array([0.2]), np.array([0.3]))
    for _ in range(2000):  # held fast
        command = homing.command(np.zeros(4), 0.04)
        assert np.abs(command).max() <= 300.0
    # It has not wound up beyond what it can do.
    for _ in range(30):
        command = homing.command(np.array([2.2, 0.0, 0.5, 0.0]), 0.04)
    assert command[0] < 300.0


def test_a_joint_that_runs_away_is_noticed_and_homing_given_up() -> None:
    homing = Homing(CARTPOLE, np.array([0.0]), np.array([0.2]), np.array([0.3]))
    assert homing.runaway(np.array([1.0, 0.0, 0.5, 9.0])) == ""
    assert "joint 'slider' moves at -0.51, expected at most 0.50" in homing.runaway(np.array([1.0, 0.0, -0.51, 0.0]))
    assert homing.runaway(np.array([1.0, 0.0, np.nan, 0.0]))
    asked = _Asked("homing")
    asked.state = np.array([1.0, 0.0, 0.0, 0.0])
    assert asked.ask().pending
    asked.state = np.array([0.9, 0.0, -2.0, 0.0])
    assert asked.reset.homing_command(asked.state, asked.time_ns) is None
    assert asked.ask().failed and "homing given up: joint 'slider' moves at -2.00" in asked.ask().message


def test_a_position_drive_gets_a_ramp_from_where_it_is() -> None:
    robot = _with_interface(CARTPOLE, "position")
    homing = Homing(robot, np.array([1.0]), np.array([0.5]), np.array([]))
    state = np.array([-1.0, 0.0, 0.0, 0.0])
    commands = []
    for _ in range(120):
        commands.append(float(homing.command(state, 0.04)[0]))
        state[0] += 0.5 * (commands[-1] - state[0])
    assert -1.0 < commands[0] <= -1.0 + 0.02 + 1e-12
    assert max(np.diff(commands)) <= 0.02 + 1e-12
    assert commands[-1] == pytest.approx(1.0)


def test_a_ramp_waits_for_a_joint_that_is_held() -> None:
    homing = Homing(_with_interface(CARTPOLE, "position"), np.array([1.0]), np.array([0.1]), np.array([]))
    for _ in range(1000):
        command = homing.command(np.zeros(4), 0.04)
    assert command[0] == pytest.approx(0.1 * Homing.LEAD_TIME)


def test_a_velocity_drive_gets_a_velocity_within_its_limit() -> None:
    homing = Homing(_with_interface(CARTPOLE, "velocity"), np.array([1.0]), np.array([0.2]), np.array([]))
    assert homing.command(np.array([-1.0, 0, 0, 0]), 0.04) == pytest.approx([0.2])
    assert homing.command(np.array([0.95, 0, 0, 0]), 0.04) == pytest.approx([0.05])
    assert homing.command(np.array([1.0, 0, 0, 0]), 0.04) == pytest.approx([0.0])


def test_a_joint_without_limits_takes_the_shorter_way() -> None:
    robot = load_robot(ROBOTS / "pendulum.yaml")
    homing = Homing(robot, np.array([3.0]), np.array([0.3]), np.array([0.4]))
    assert homing.way_left(np.array([-3.0, 0.0])) == pytest.approx([6.0 - 2.0 * np.pi])


def test_speeds_and_gains_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SpecError, match=r"homing_speeds: got \[0\.0\], expected 1 positive numbers"):
        Homing(CARTPOLE, np.array([0.0]), np.array([0.0]), np.array([0.3]))
    with pytest.raises(SpecError, match=r"homing_gains: got \[\], expected 1 positive numbers"):
        HardwareReset(replace(CARTPOLE, mjcf=None), Criteria("homing"))


class _Asked:
    """A reset that is asked every 0.2 s, as robot_node does."""

    def __init__(self, kind: str, **criteria: float) -> None:
        self.reset = HardwareReset(CARTPOLE, Criteria(kind, **criteria))  # type: ignore[arg-type]
        self.time_ns = SECOND
        self.state = np.zeros(4)
        self.missing: list[str] = []
        self.start = np.array([])

    def ask(self, seconds: float = 0.2) -> Outcome:
        self.time_ns += round(seconds * SECOND)
        return self.reset.ask(KEY, self.start, self.state, self.missing, self.time_ns)


def test_nobody_resets_once_it_is_at_rest() -> None:
    asked = _Asked("none", settle_timeout=1.0)
    asked.missing = ["joint 'hinge' moves"]
    assert asked.ask() == Outcome(False, True, "joint 'hinge' moves")
    asked.missing = []
    assert asked.ask() == Outcome(True, False, "")
    # An answer can be lost: asked again, it is the same.
    asked.missing = ["joint 'hinge' moves"]
    assert asked.ask().success
    again = _Asked("none", settle_timeout=1.0)
    again.missing = ["joint 'hinge' moves"]
    outcomes = [again.ask() for _ in range(7)]
    assert outcomes[-1] == Outcome(False, False, "after 1 s: joint 'hinge' moves")


def test_a_person_confirms_when_all_checks_pass() -> None:
    asked = _Asked("confirm")
    assert not asked.reset.confirm([], asked.time_ns)[0], "nobody has asked yet"
    assert asked.ask().pending
    assert asked.reset.confirm(["joint 'hinge' moves"], asked.time_ns) == (False, "joint 'hinge' moves")
    assert asked.ask().pending
    assert asked.reset.confirm([], asked.time_ns) == (True, "confirmed")
    assert asked.ask().success
    # It is for one episode.
    outcome = asked.reset.ask((2, 0, ()), asked.start, asked.state, [], asked.time_ns)
    assert outcome.pending


def test_a_confirmation_is_not_waited_for_for_ever_nor_kept() -> None:
    asked = _Asked("confirm", confirm_timeout=60.0)
    for _ in range(300):
        assert asked.ask().pending
    assert "nobody has confirmed within 60 s" in asked.ask().message
    late = _Asked("confirm")
    late.ask()
    assert not late.reset.confirm([], late.time_ns + LOST_INTEREST_NS)[0]


def test_homing_begins_at_rest_and_ends_at_the_start() -> None:
    asked = _Asked("homing", homing_timeout=10.0, settle_timeout=5.0)
    asked.state = np.array([1.0, 0.0, 0.0, 0.0])
    asked.missing = ["it moves"]
    assert asked.ask().pending and not asked.reset.is_homing
    asked.missing = []
    assert "homing: joint 'slider' is 1.000 from its start" in asked.ask().message
    assert asked.reset.is_homing
    command = asked.reset.homing_command(asked.state, asked.time_ns)
    assert command is not None and command[0] < 0.0
    # It is there, and still moves.
    asked.state, asked.missing = np.array([0.01, 0.0, -0.2, 0.0]), ["it moves"]
    assert asked.ask() == Outcome(False, True, "homing: it moves")
    asked.missing = []
    assert asked.ask().success
    assert asked.reset.homing_command(asked.state, asked.time_ns) is None


def test_homing_is_given_up_with_what_is_left_and_when_nobody_asks_any_more() -> None:
    asked = _Asked("homing", homing_timeout=2.0, settle_timeout=1.0)
    asked.state, asked.missing = np.array([1.0, 0.0, 0.0, 0.0]), ["it moves"]
    assert [asked.ask() for _ in range(4)][-1] == Outcome(False, True, "it moves")
    # The motion has all of its time, however long it was waited for.
    asked.missing = []
    outcomes = [asked.ask() for _ in range(12)]
    assert [outcome.pending for outcome in outcomes] == [True] * 11 + [False]
    assert "homing given up after 2 s: joint 'slider' is 1.000 from its start" in outcomes[-1].message
    forsaken = _Asked("homing")
    forsaken.state = asked.state
    forsaken.ask()
    assert forsaken.reset.homing_command(forsaken.state, forsaken.time_ns + SECOND) is not None
    assert forsaken.reset.homing_command(forsaken.state, forsaken.time_ns + LOST_INTEREST_NS + 1) is None


def test_a_start_state_can_be_had_by_homing_alone_and_at_rest() -> None:
    asked = _Asked("none")
    asked.start = np.array([0.5, 0.0, 0.0, 0.0])
    assert "reset 'none' cannot bring about" in asked.ask().message
    homed = _Asked("homing")
    homed.start = np.array([0.5, 0.0, 1.0, 0.0])
    assert "homing ends at rest" in homed.ask().message
    homed = _Asked("homing")
    homed.start, homed.state = np.array([0.5, 0.0, 0.0, 0.0]), np.array([0.49, 0.0, 0.0, 0.0])
    assert homed.ask().success
