# SPDX-License-Identifier: Apache-2.0
"""DartSimulation against MujocoSimulation, its limits and refusals, and what becomes of it when DART's process ends."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbrl_core.robot_description.dart import MISSING, SYSTEM_PYTHON, available
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import SpecError
from mbrl_robot.dart_simulation import DartSimulation
from mbrl_robot.simulation import MujocoSimulation
from mbrl_robot.simulation_interface import SimulationError

pytestmark = pytest.mark.skipif(not available(), reason=MISSING.format(python=SYSTEM_PYTHON))
ROBOTS = Path(__file__).parents[3] / "config" / "robots"
PERIODS = 5

Make = Callable[..., DartSimulation]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes simulations of a shipped robot, which are closed after the test."""
    made: list[DartSimulation] = []

    def one(name: str, *arguments: Any, **named: Any) -> DartSimulation:
        made.append(DartSimulation(load_robot(ROBOTS / f"{name}.yaml"), *arguments, **named))
        return made[-1]

    yield one
    for simulation in made:
        simulation.close()


def motion(simulation: Any, start: Any) -> np.ndarray:
    """States [periods, state_size] under a few random actions."""
    simulation.reset(start)
    size = simulation.robot.spec.action.size
    actions = np.random.default_rng(3).uniform(-0.3, 0.3, (PERIODS, size))
    return np.array([simulation.step(action) for action in actions])


@pytest.mark.parametrize("name", ["pendulum", "cartpole", "acrobot", "reacher", "arm"])
def test_moves_as_in_mujoco_but_for_an_error_of_first_order(name: str, make: Make) -> None:
    robot = load_robot(ROBOTS / f"{name}.yaml")
    start = np.random.default_rng(1)
    # Away from the joints' limits, which yield in MuJoCo.
    state = np.concatenate([np.full(len(robot.joints), 0.3), start.normal(0.0, 0.1, len(robot.joints))])
    expected = motion(MujocoSimulation(robot, 4), state)
    coarse, fine = (motion(make(name, timestep), state) for timestep in (0.002, 0.0005))
    scale = np.abs(expected).max(axis=0)
    errors = [float((np.abs(found - expected) / scale).max()) for found in (coarse, fine)]
    assert errors[0] < 0.03
    assert errors[1] == pytest.approx(0.25 * errors[0], rel=0.1)


@pytest.mark.parametrize("name", ["cartpole", "reacher"])
def test_urdf_and_sdf_move_the_same(name: str, make: Make) -> None:
    sdf = make(name)
    assert sdf.robot.mjcf is not None
    urdf = make(name, description=sdf.robot.mjcf.parent.parent / "urdf" / f"{name}.urdf")
    start = np.full(4, 0.3)
    assert motion(sdf, start) == pytest.approx(motion(urdf, start), rel=1e-9)


def test_starts_are_exact_and_drawn_as_in_mujoco(make: Make) -> None:
    simulation = make("cartpole")
    wanted = np.array([0.5, 1.0, -0.2, 0.3])
    assert simulation.reset(wanted).tolist() == simulation.state.tolist() == wanted.tolist()
    expected = MujocoSimulation(simulation.robot).reset(np.random.default_rng(7))
    assert simulation.reset(np.random.default_rng(7)).tolist() == expected.tolist()
    for wrong in (np.zeros(3), np.full(4, np.nan)):
        with pytest.raises(ValueError, match="expected 4 finite numbers"):
            simulation.reset(wrong)


def test_a_reset_leaves_nothing_of_what_was_before(make: Make) -> None:
    used, fresh = make("reacher"), make("reacher")
    start = np.array([0.1, -0.2, 0.3, 0.4])
    used.reset(np.array([0.0, 2.9, 0.0, 30.0]))
    used.step(np.array([1.0, -1.0]))
    assert motion(used, start).tobytes() == motion(fresh, start).tobytes()


def test_any_part_of_time_is_integrated(make: Make) -> None:
    whole, parts = make("pendulum"), make("pendulum")
    start = np.array([1.0, 0.0])
    whole.reset(start)
    parts.reset(start)
    whole.advance_time(0.02)
    for seconds in (0.0031, 0.0009, 0.01, 0.006):
        parts.advance_time(seconds)
    assert parts.state == pytest.approx(whole.state, rel=1e-3)
    parts.advance_time(0.0)
    before = parts.state
    parts.advance_time(1e-3)
    assert parts.state[0] - before[0] == pytest.approx(1e-3 * parts.state[1], rel=1e-9)


def test_efforts_are_held_and_clipped_to_the_actuators_range(make: Make) -> None:
    simulation = make("cartpole")
    assert not simulation.set_command(np.array([120.0]))
    assert simulation.effort.tolist() == [120.0, 0.0]
    assert simulation.set_command(np.array([1e6]))
    assert simulation.effort.tolist() == [300.0, 0.0]
    with pytest.raises(ValueError, match="expected 1 finite numbers"):
        simulation.set_command(np.array([np.nan]))
    assert simulation.effort.tolist() == [300.0, 0.0]
    simulation.reset(np.zeros(4))
    assert simulation.effort.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "joint", "action", "limit"), [("cartpole", 0, [3.0], 2.5), ("reacher", 1, [0, 1.0], 3.0)]
)
def test_joint_limits_hold(name: str, joint: int, action: list[float], limit: float, make: Make) -> None:
    simulation = make(name)
    simulation.reset(np.zeros(4))
    positions = [simulation.step(np.array(action))[joint] for _ in range(40)]
    assert positions[-1] == pytest.approx(limit, abs=0.02)
    # One time step may carry it past; a stop that is not there would let it go much further.
    assert max(positions) < limit + 0.03
    assert abs(simulation.state[2 + joint]) < 0.1


def test_a_state_that_is_not_finite_is_an_error(make: Make) -> None:
    simulation = make("acrobot")
    simulation.reset(np.array([0.0, 0.0, 1e200, 1e200]))
    with pytest.raises(SimulationError):
        simulation.advance_time(0.1)
    assert simulation.reset(np.zeros(4)).tolist() == [0.0] * 4
    simulation.advance_time(0.1)
    assert simulation.state == pytest.approx(np.zeros(4), abs=1e-9)


def test_a_process_that_is_killed_is_named_and_a_reset_starts_another(make: Make) -> None:
    simulation = make("cartpole")
    simulation.reset(np.array([0.0, 1.0, 0.0, 0.0]))
    simulation.step_control()
    before = simulation.state
    (process,) = simulation.processes
    os.kill(process, signal.SIGKILL)
    with pytest.raises(SimulationError, match="DART's process ended with status -9; reset starts another"):
        simulation.step_control()
    assert simulation.state.tolist() == before.tolist()
    with pytest.raises(SimulationError, match="status -9"):
        simulation.advance_time(0.01)
    expected = motion(make("cartpole"), np.full(4, 0.1))
    assert motion(simulation, np.full(4, 0.1)).tobytes() == expected.tobytes()
    assert simulation.processes != (process,)


def test_a_process_that_is_silent_is_ended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = make("pendulum")
    monkeypatch.setattr("mbrl_robot.dart_process.LONGEST_ANSWER", 0.2)
    os.kill(simulation.processes[0], signal.SIGSTOP)
    with pytest.raises(SimulationError, match="did not answer for 0.2 s"):
        simulation.step_control()
    monkeypatch.undo()
    simulation.reset(np.zeros(2))
    simulation.step_control()


def test_no_process_outlives_the_one_that_it_simulates_for(tmp_path: Path) -> None:
    code = (
        "import signal, sys; from mbrl_core.robot_file import load_robot;"
        " from mbrl_robot.dart_simulation import DartSimulation;"
        " simulation = DartSimulation(load_robot(sys.argv[1]));"
        " print(simulation.processes[0], flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", code, str(ROBOTS / "pendulum.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        process.kill()
        process.wait(10.0)
        limit = time.monotonic() + 10.0
        while _lives(child):
            assert time.monotonic() < limit
            time.sleep(0.01)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_cannot_be_simulated_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="timestep: got 0.003 s, expected a whole part of control.period 0.04 s"):
        make("cartpole", 0.003)
    with pytest.raises(FileNotFoundError, match=r"gone\.sdf does not exist"):
        make("cartpole", description=tmp_path / "gone.sdf")
    with pytest.raises(SpecError, match="expected an .sdf or .urdf"):
        make("cartpole", description=tmp_path / "robot.xml")
    robot = load_robot(ROBOTS / "cartpole.yaml")
    assert robot.mjcf is not None
    other = robot.mjcf.parent.parent / "sdf" / "reacher.sdf"
    with pytest.raises(SpecError, match="moving joints joint0, joint1, expected slider, hinge"):
        make("cartpole", description=other)
    with pytest.raises(SpecError, match="names no mjcf to find its SDF by"):
        DartSimulation(dataclasses.replace(robot, mjcf=None))
    newer = tmp_path / "newer.sdf"
    shipped = (other.parent / "cartpole.sdf").read_text()
    newer.write_text(
        shipped.replace('<link name="pole">', '<link name="pole"><pose relative_to="cart">0 0 0 0 0 0</pose>')
    )
    with pytest.raises(SpecError, match=r"newer\.sdf.*relative_to, expressed_in"):
        make("cartpole", description=newer)
    broken = tmp_path / "broken.sdf"
    broken.write_text("<sdf version='1.9'><model name='a'>")
    with pytest.raises(SpecError, match=r"broken\.sdf"):
        make("cartpole", description=broken)


@pytest.mark.parametrize("python", [sys.executable, "/no/such/python"])
def test_missing_dartpy_is_said_with_what_to_install(python: str, make: Make) -> None:
    if available(python):
        pytest.skip("this environment's Python has dartpy")
    with pytest.raises(SpecError, match="dartpy is missing for .*apt-get install python3-dartpy python3-numpy"):
        make("cartpole", python=python)
