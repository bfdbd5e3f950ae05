# SPDX-License-Identifier: Apache-2.0
"""The simulation against the MJCF it came from, and its refusals."""

import dataclasses
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from mbrl_core.robot_file import load_robot
from mbrl_core.specs import SpecError
from mbrl_robot.simulation import MujocoSimulation, SimulationError

ROBOTS = Path(__file__).parents[3] / "config" / "robots"
NAMES = ("pendulum", "cartpole", "acrobot", "reacher", "arm")


def robot_file(tmp_path: Path, name: str, **changes: object) -> Path:
    """A copy of a shipped robot file with other top-level entries."""
    content = yaml.safe_load((ROBOTS / f"{name}.yaml").read_text())
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_step_is_exactly_the_mjcf_steps(name: str) -> None:
    robot = load_robot(ROBOTS / f"{name}.yaml")
    simulation = MujocoSimulation(robot)
    start = np.random.default_rng(3).normal(0.0, 0.3, robot.spec.state.size)
    simulation.reset(start)
    model = mujoco.MjModel.from_xml_path(str(robot.mjcf))
    data = mujoco.MjData(model)
    joints = len(robot.joints)
    data.qpos[:], data.qvel[:] = start[:joints], start[joints:]
    mujoco.mj_forward(model, data)
    for action in np.random.default_rng(4).uniform(-1.0, 1.0, (20, robot.spec.action.size)):
        state = simulation.step(action)
        data.ctrl[:] = action
        mujoco.mj_step(model, data, robot.simulation.steps_per_control)
        assert state == pytest.approx(np.concatenate([data.qpos, data.qvel]), abs=1e-12)


def test_joint_order_is_that_of_the_robot_file(tmp_path: Path) -> None:
    content = yaml.safe_load((ROBOTS / "cartpole.yaml").read_text())
    swapped = load_robot(robot_file(tmp_path, "cartpole", joints=content["joints"][::-1]))
    simulation = MujocoSimulation(swapped)
    reference = MujocoSimulation(load_robot(ROBOTS / "cartpole.yaml"))
    simulation.reset(np.array([0.3, 0.1, -0.2, 0.5]))
    reference.reset(np.array([0.1, 0.3, 0.5, -0.2]))
    for action in ([2.0], [-3.0]):
        state, expected = simulation.step(np.array(action)), reference.step(np.array(action))
        assert state == pytest.approx(expected[[1, 0, 3, 2]], abs=1e-12)


def test_command_is_an_si_effort_within_the_ctrlrange() -> None:
    simulation = MujocoSimulation(load_robot(ROBOTS / "cartpole.yaml"))
    simulation.reset(np.zeros(4))
    assert simulation.set_command(np.array([150.0])) is False
    simulation.advance()
    assert simulation.effort == pytest.approx([150.0, 0.0])
    assert simulation.set_command(np.array([-1000.0])) is True
    simulation.advance()
    assert simulation.effort == pytest.approx([-300.0, 0.0])


@pytest.mark.parametrize("command", [[1.0, 2.0], [], [np.nan], [np.inf]])
def test_bad_command_is_refused_and_the_old_one_kept(command: list[float]) -> None:
    simulation = MujocoSimulation(load_robot(ROBOTS / "cartpole.yaml"))
    simulation.reset(np.zeros(4))
    simulation.set_command(np.array([100.0]))
    with pytest.raises(ValueError, match="expected 1 finite numbers"):
        simulation.set_command(np.array(command))
    simulation.advance()
    assert simulation.effort[0] == pytest.approx(100.0)


def test_substeps_and_odd_steps_change_the_dynamics_little() -> None:
    robot = load_robot(ROBOTS / "cartpole.yaml")
    whole, cut, odd = MujocoSimulation(robot), MujocoSimulation(robot, substeps=5), MujocoSimulation(robot)
    assert cut.timestep == pytest.approx(whole.timestep / 5)
    start = np.array([0.1, 2.0, -0.3, 1.0])
    for simulation in (whole, cut, odd):
        simulation.reset(start)
    for action in np.random.default_rng(0).uniform(-1.0, 1.0, (25, 1)):
        whole.step(action)
        cut.step(action)
        odd.set_command(action * 100.0)
        for seconds in (0.0031, 0.0209, 0.016):
            odd.advance_time(seconds)
    assert cut.state == pytest.approx(whole.state, rel=1e-3, abs=1e-3)
    assert odd.state == pytest.approx(whole.state, rel=1e-3, abs=1e-3)
    assert odd.data.time == pytest.approx(whole.data.time, abs=1e-9)
    assert odd.model.opt.timestep == whole.timestep


def test_same_seed_same_start() -> None:
    simulation = MujocoSimulation(load_robot(ROBOTS / "acrobot.yaml"))
    states = [simulation.reset(np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert np.array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])


@pytest.mark.parametrize("state", [[0.0, 0.0], [0.0, np.nan, 0.0, 0.0]])
def test_bad_start_state_is_refused(state: list[float]) -> None:
    with pytest.raises(ValueError, match="expected 4 finite numbers"):
        MujocoSimulation(load_robot(ROBOTS / "cartpole.yaml")).reset(np.array(state))


def test_divergence_is_an_error_and_no_silent_reset() -> None:
    simulation = MujocoSimulation(load_robot(ROBOTS / "acrobot.yaml"))
    simulation.reset(np.array([0.0, 0.0, 1e200, 1e200]))
    with pytest.raises(SimulationError, match="diverged"):
        simulation.advance(5)
    simulation.reset(np.zeros(4))
    simulation.advance(5)


def test_warnings_of_mujoco_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    simulation = MujocoSimulation(load_robot(ROBOTS / "acrobot.yaml"))
    monkeypatch.chdir(tmp_path)
    simulation.reset(np.array([0.0, 0.0, 1e200, 1e200]))
    with pytest.raises(SimulationError):
        simulation.advance(5)
    assert "unstable" in "".join(capfd.readouterr())
    assert not list(tmp_path.iterdir())


def test_joint_that_the_mjcf_lacks_is_named(tmp_path: Path) -> None:
    joints = [{"name": "slider", "kind": "linear"}, {"name": "pole", "kind": "angular"}]
    robot = load_robot(robot_file(tmp_path, "cartpole", joints=joints))
    with pytest.raises(SpecError, match=r"joint 'pole' is not in .*cartpole\.xml; joints there: slider, hinge"):
        MujocoSimulation(robot)


def test_joint_of_another_kind_is_named(tmp_path: Path) -> None:
    joints = [{"name": "slider", "kind": "angular"}, {"name": "hinge", "kind": "angular"}]
    with pytest.raises(SpecError, match="joint 'slider' is angular but a mjJNT_SLIDE"):
        MujocoSimulation(load_robot(robot_file(tmp_path, "cartpole", joints=joints)))


def test_joint_without_actuator_is_named(tmp_path: Path) -> None:
    actions = [{"joint": "hinge", "limits": [-1.0, 1.0]}]
    with pytest.raises(SpecError, match="no actuator of .* drives joint 'hinge'; driven joints there: slider"):
        MujocoSimulation(load_robot(robot_file(tmp_path, "cartpole", actions=actions)))


def test_period_that_the_timestep_does_not_make_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="steps_per_control 3 times the timestep 0.02 s"):
        MujocoSimulation(load_robot(robot_file(tmp_path, "cartpole", simulation={"steps_per_control": 3})))


def test_interface_that_simulation_lacks_is_named(tmp_path: Path) -> None:
    actions = [{"joint": "slider", "interface": "velocity", "limits": [-1.0, 1.0]}]
    robot = load_robot(robot_file(tmp_path, "cartpole", actions=actions, safe_action={"kind": "zero"}))
    with pytest.raises(SpecError, match="action 'slider': interface 'velocity'"):
        MujocoSimulation(robot)


def test_missing_mjcf_is_named(tmp_path: Path) -> None:
    robot = load_robot(ROBOTS / "cartpole.yaml")
    with pytest.raises(FileNotFoundError, match=r"gone\.xml does not exist"):
        MujocoSimulation(dataclasses.replace(robot, mjcf=tmp_path / "gone.xml"))
    with pytest.raises(SpecError, match="names no mjcf"):
        MujocoSimulation(dataclasses.replace(robot, mjcf=None))
    broken = tmp_path / "broken.xml"
    broken.write_text("<mujoco><worldbody>")
    with pytest.raises(SpecError, match=r"broken\.xml"):
        MujocoSimulation(dataclasses.replace(robot, mjcf=broken))
