# SPDX-License-Identifier: Apache-2.0
"""The tip by the MJCF against the tasks' own formulas, and its spread against samples."""

from pathlib import Path

import numpy as np
import pytest

from mbrl_core.robot_file import load_robot
from mbrl_core.specs import SpecError
from mbrl_core.tasks import make_task
from mbrl_robot.tip_kinematics import TipKinematics, ellipsoid

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
# What the tasks call the axes of the world.
PLANES = {
    "cartpole": ("cartpole_tip", (0, 2)),
    "pendulum": ("pendulum_upright", (0, 2)),
    "acrobot": ("acrobot_tip", (0, 2)),
    "reacher": ("reacher_tip", (0, 1)),
    "arm": ("arm_tip", (0, 1, 2)),
}


def test_the_tip_of_the_cart_pole_by_hand() -> None:
    kinematics = TipKinematics(load_robot(ROBOTS / "cartpole.yaml"))
    x, angle = 0.4, 0.7
    tip = kinematics.tip(np.array([x, angle, 3.0, -2.0]))
    np.testing.assert_allclose(tip, [x - 0.6 * np.sin(angle), 0.0, -0.6 * np.cos(angle)], atol=1e-12)


@pytest.mark.parametrize("name", PLANES)
def test_the_tip_is_that_of_the_task(name: str) -> None:
    robot = load_robot(ROBOTS / f"{name}.yaml")
    kinematics = TipKinematics(robot)
    kind, plane = PLANES[name]
    task = make_task(kind)
    found = kinematics.workspace(task)
    assert found is not None and found[0] == plane
    states = np.random.default_rng(1).uniform(-2.0, 2.0, (5, robot.spec.state.size))
    for state in states:
        told = found[1].copy()
        told[list(plane)] += [float(value) for value in task.chain(state)[-1].position]
        np.testing.assert_allclose(kinematics.tip(state)[list(plane)], told[list(plane)], atol=1e-9)


@pytest.mark.parametrize("name", PLANES)
def test_spread_of_the_tip_is_that_of_samples(name: str) -> None:
    robot = load_robot(ROBOTS / f"{name}.yaml")
    kinematics = TipKinematics(robot)
    random = np.random.default_rng(2)
    state = random.uniform(-1.0, 1.0, robot.spec.state.size)
    std = random.uniform(0.001, 0.004, robot.spec.state.size)
    tips = [kinematics.tip(state + std * random.normal(size=std.shape)) for _ in range(4000)]
    expected = np.cov(np.array(tips).T)
    covariance = kinematics.covariance(state, std)
    np.testing.assert_allclose(covariance, expected, atol=0.1 * np.trace(expected))
    half_axes, rotation = ellipsoid(covariance)
    np.testing.assert_allclose(rotation @ np.diag(half_axes**2) @ rotation.T, covariance, atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_a_task_with_another_tip_has_no_workspace_here() -> None:
    kinematics = TipKinematics(load_robot(ROBOTS / "cartpole.yaml"))
    assert kinematics.workspace(make_task("cartpole_tip", parameters={"pole_length": 0.7})) is None


def test_an_mjcf_without_a_tip_is_refused(tmp_path: Path) -> None:
    source = (ROBOTS.parents[1] / "src/mbrl_description/mjcf/pendulum.xml").read_text()
    lines = [line for line in source.splitlines() if 'name="tip"' not in line or "site" not in line]
    for name in ("scene.xml",):
        (tmp_path / name).write_text((ROBOTS.parents[1] / "src/mbrl_description/mjcf" / name).read_text())
    (tmp_path / "pendulum.xml").write_text("\n".join(lines))
    robot = (
        (ROBOTS / "pendulum.yaml")
        .read_text()
        .replace("package://mbrl_description/mjcf/pendulum.xml", str(tmp_path / "pendulum.xml"))
    )
    (tmp_path / "pendulum.yaml").write_text(robot)
    with pytest.raises(SpecError, match="has no site 'tip'"):
        TipKinematics(load_robot(tmp_path / "pendulum.yaml"))
