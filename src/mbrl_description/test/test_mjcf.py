# SPDX-License-Identifier: Apache-2.0
"""The MJCF models against their robot files and against closed-form physics."""

import math
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml
from ament_index_python.packages import get_package_share_directory

from mbrl_core.robot_file import Robot, load_robot

ROBOT_FILES = Path(__file__).parents[3] / "config" / "robots"
ROBOTS = ("acrobot", "arm", "cartpole", "pendulum", "reacher")
JOINT_KINDS = {mujoco.mjtJoint.mjJNT_SLIDE: "linear", mujoco.mjtJoint.mjJNT_HINGE: "angular"}
DENSITY = 1000.0


def load(name: str) -> tuple[Robot, mujoco.MjModel, mujoco.MjData]:
    """Robot, model and data, through package:// as every node does it."""
    robot = load_robot(ROBOT_FILES / f"{name}.yaml")
    assert robot.mjcf is not None
    model = mujoco.MjModel.from_xml_path(str(robot.mjcf))
    return robot, model, mujoco.MjData(model)


def capsule_mass(radius: float, length: float) -> float:
    return DENSITY * math.pi * (radius**2 * length + 4.0 / 3.0 * radius**3)


def energy(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    mujoco.mj_forward(model, data)
    mujoco.mj_energyPos(model, data)
    mujoco.mj_energyVel(model, data)
    return float(data.energy.sum())


@pytest.mark.parametrize("name", ROBOTS)
def test_installed_model_is_the_one_of_the_sources(name: str) -> None:
    robot, _, _ = load(name)
    share = Path(get_package_share_directory("mbrl_description"))
    assert robot.mjcf == share / "mjcf" / f"{name}.xml"
    source = Path(__file__).parents[1] / "mjcf" / f"{name}.xml"
    assert robot.mjcf.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", ROBOTS)
def test_robot_file_and_model_agree(name: str) -> None:
    robot, model, _ = load(name)
    assert robot.spec.name == name
    assert model.nq == model.nv == len(robot.joints), "the state has to be complete"
    for index, joint in enumerate(robot.joints):
        of_model = model.joint(joint.name)
        assert of_model.id == index
        assert JOINT_KINDS[mujoco.mjtJoint(of_model.type[0])] == joint.kind
        limits = tuple(of_model.range) if of_model.limited[0] else (-math.inf, math.inf)
        assert limits == joint.position_limits
    actions = robot.spec.action
    assert model.nu == actions.size
    for index, joint_name in enumerate(actions.names):
        actuator = model.actuator(index)
        assert model.joint(actuator.trnid[0]).name == joint_name
        assert actuator.gear[0] == actions.scale[index]
        assert tuple(actuator.ctrlrange) == (actions.lower[index], actions.upper[index])
        assert actuator.ctrllimited[0]
    assert model.opt.timestep * robot.simulation.steps_per_control == pytest.approx(robot.spec.period, abs=1e-12)
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4


@pytest.mark.parametrize("name", ROBOTS)
def test_robot_file_names_a_task_that_exists(name: str) -> None:
    content = yaml.safe_load((ROBOT_FILES / f"{name}.yaml").read_text())
    assert (ROBOT_FILES.parent / "tasks" / f"{content['task']}.yaml").is_file()


@pytest.mark.parametrize("name", ROBOTS)
def test_nothing_touches(name: str) -> None:
    _, model, data = load(name)
    random = np.random.default_rng(0)
    for _ in range(200):
        data.qpos[:] = random.uniform(-math.pi, math.pi, model.nq)
        mujoco.mj_forward(model, data)
        assert data.ncon == 0


@pytest.mark.parametrize("name", ROBOTS)
def test_energy_is_kept_without_damping(name: str) -> None:
    _, model, data = load(name)
    model.dof_damping[:] = 0.0
    model.jnt_limited[:] = 0
    data.qpos[:] = np.linspace(1.0, 2.0, model.nq)
    data.qvel[:] = 0.5
    before = energy(model, data)
    mujoco.mj_step(model, data, round(5.0 / model.opt.timestep))
    assert np.abs(data.qvel).max() > 0.1
    assert energy(model, data) == pytest.approx(before, rel=2e-3, abs=2e-3)


def test_cartpole_tip() -> None:
    _, model, data = load("cartpole")
    random = np.random.default_rng(1)
    for position, angle in random.uniform(-2.4, 2.4, (50, 2)) * (1.0, 3.0):
        data.qpos[:] = position, angle
        mujoco.mj_kinematics(model, data)
        expected = (position - 0.6 * math.sin(angle), 0.0, -0.6 * math.cos(angle))
        np.testing.assert_allclose(data.site("tip").xpos, expected, atol=1e-12)


def test_cartpole_is_the_published_one() -> None:
    _, model, _ = load("cartpole")
    assert model.body("cart").mass[0] == pytest.approx(capsule_mass(0.1, 0.2), rel=1e-9)
    assert model.body("pole").mass[0] == pytest.approx(capsule_mass(0.049, 0.6), rel=1e-9)
    np.testing.assert_allclose(model.body("pole").ipos, (0.0, 0.0, -0.3), atol=1e-12)
    np.testing.assert_array_equal(model.dof_damping, (1.0, 1.0))
    np.testing.assert_array_equal(model.dof_armature, (0.0, 0.0))
    np.testing.assert_array_equal(model.opt.gravity, (0.0, 0.0, -9.81))
    assert model.opt.timestep == 0.02


def test_cartpole_accelerates_by_newton() -> None:
    _, model, data = load("cartpole")
    data.ctrl[0] = 3.0
    mujoco.mj_forward(model, data)
    cart, pole = capsule_mass(0.1, 0.2), capsule_mass(0.049, 0.6)
    inertia = model.body("pole").inertia[0] + pole * 0.3**2
    # Hanging pole, rod pulled to +x: [M + m, -m l; -m l, I + m l^2] [x'', theta''] = [F, 0].
    expected = np.linalg.solve([[cart + pole, -pole * 0.3], [-pole * 0.3, inertia]], [300.0, 0.0])
    np.testing.assert_allclose(data.qacc, expected, rtol=1e-9)


def test_pendulum_torque_is_a_third_of_gravity() -> None:
    _, model, data = load("pendulum")
    data.qpos[0] = math.pi / 2.0
    mujoco.mj_forward(model, data)
    assert model.actuator("pivot").gear[0] == pytest.approx(abs(data.qfrc_bias[0]) / 3.0, rel=1e-9)


def test_pendulum_needs_several_strokes() -> None:
    robot, model, data = load("pendulum")
    data.ctrl[0] = 1.0
    highest = 0.0
    for _ in range(robot.episode_steps):
        mujoco.mj_step(model, data, robot.simulation.steps_per_control)
        highest = max(highest, abs(data.qpos[0]))
    assert highest < math.pi / 2.0, "a constant torque must not lift it"

    mujoco.mj_resetData(model, data)
    data.qpos[0] = 0.05
    upright_after = None
    for step in range(robot.episode_steps):
        data.ctrl[0] = 1.0 if data.qvel[0] >= 0.0 else -1.0
        mujoco.mj_step(model, data, robot.simulation.steps_per_control)
        if abs(data.qpos[0]) > math.pi:
            upright_after = step * robot.spec.period
            break
    assert upright_after is not None and 1.0 < upright_after < 6.0, "pumping has to lift it with time to balance"


def test_acrobot_links() -> None:
    _, model, data = load("acrobot")
    for body in ("upper_link", "lower_link"):
        assert model.body(body).mass[0] == pytest.approx(1.0)
        np.testing.assert_allclose(model.body(body).ipos, (0.0, 0.0, -0.5), atol=1e-12)
    data.qpos[:] = math.pi, 0.0
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(data.site("tip").xpos, (0.0, 0.0, 2.0), atol=1e-9)


def test_reacher_is_the_published_one() -> None:
    _, model, data = load("reacher")
    np.testing.assert_array_equal(model.dof_damping, (1.0, 1.0))
    np.testing.assert_array_equal(model.dof_armature, (1.0, 1.0))
    random = np.random.default_rng(2)
    for first, second in random.uniform(-3.0, 3.0, (20, 2)):
        data.qpos[:] = first, second
        mujoco.mj_forward(model, data)
        tip = 0.1 * np.array([math.cos(first), math.sin(first)])
        tip += 0.11 * np.array([math.cos(first + second), math.sin(first + second)])
        np.testing.assert_allclose(data.site("tip").xpos[:2], tip, atol=1e-12)
        np.testing.assert_allclose(data.qfrc_bias, 0.0, atol=1e-12, err_msg="gravity must not act")
