# SPDX-License-Identifier: Apache-2.0
"""`./mbrl robot new`: robots drawn at random as MJCF and URDF are described, simulated and launched; what cannot be is
refused by name."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mbrl_bringup import cli
from mbrl_bringup.batch import RunRequest, execute
from mbrl_bringup.launch_runner.expand import expand
from mbrl_core.config import load_preset, load_tuning
from mbrl_core.mjcf import load_mjcf
from mbrl_core.new_robot.descriptions import differences_from_urdf
from mbrl_core.new_robot.figures import figures_of
from mbrl_core.new_robot.motions import play
from mbrl_core.new_robot.source import read_source
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.tasks import Task, task_file_of, task_of_preset

ROOT = Path(__file__).resolve().parents[3]
# A cart with a pole that nothing drives; as it is drawn the pole lies.
CART = """<mujoco><compiler angle="radian"/><option timestep="0.01"/><worldbody><body name="cart">
  <joint name="slide" type="slide" axis="1 0 0" limited="true" range="-1 1" damping="1"/><geom size="0.1" mass="1"/>
  <body name="pole"><joint name="pole" axis="0 1 0" {pole}/>
    <geom type="capsule" size="0.02" fromto="0 0 0 0.6 0 0" mass="0.2"/></body></body></worldbody>
  <actuator>{actuator}</actuator></mujoco>"""
MOTOR = '<motor name="m" joint="slide" gear="20" ctrllimited="true" ctrlrange="-1 1"/>'


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("_random_robots")
    sys.modules.pop("_random_robots", None)


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBRL_ROOT", str(ROOT))


def new(folder: Path, form: str, text: str, *words: str) -> int:
    given = folder / f"given.{form}"
    given.write_text(text)
    return cli.main(["robot", "new", "own", f"--{form}", str(given), "--folder", str(folder / "own"), *words])


def task_of(robot_file: Path) -> tuple[Robot, Task]:
    robot = load_robot(robot_file)
    task = task_of_preset(load_preset(task_file_of(robot_file, robot.task), "task"))
    task.check_robot(robot.spec)
    return robot, task


@pytest.mark.parametrize("form", ["mjcf", "urdf"])
@pytest.mark.parametrize("seed", range(3))
def test_random_robots_get_a_goal_that_they_can_hold(
    form: str, seed: int, drawn: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    links = drawn.random_robot(seed)
    text = drawn.mjcf_text(links) if form == "mjcf" else drawn.urdf_text(links)
    assert new(tmp_path, form, text) == 0
    said = capsys.readouterr()
    assert "differs" not in said.err
    if form == "urdf":
        assert "package://random_description/joint0.stl" in said.err, "the mesh that is not there"
    robot, task = task_of(tmp_path / "own" / "own.yaml")
    assert [joint.name for joint in robot.joints] == [link.name for link in links]
    assert [joint.kind for joint in robot.joints] == ["angular" if link.hinge else "linear" for link in links]
    for joint, link in zip(robot.joints, links, strict=True):
        assert joint.position_limits == pytest.approx(link.limits or (-np.inf, np.inf), abs=1e-5)
    for scale, link in zip(robot.spec.action.scale, links, strict=True):
        assert 0.0 < scale <= link.effort * 1.001
    mjcf = load_mjcf(robot)
    assert mjcf.model.opt.timestep * robot.simulation.steps_per_control == pytest.approx(robot.spec.period)
    assert task.kind == "tip_target"
    start = np.concatenate([robot.start.position_mean, np.zeros(len(links))])
    assert not task.state_is_success(start)
    assert len(list((tmp_path / "own" / "gazebo").glob("*_controllers.yaml"))) == 1


def test_the_inertias_of_a_urdf_are_kept_to_a_millionth(drawn: ModuleType, tmp_path: Path) -> None:
    assert new(tmp_path, "urdf", drawn.urdf_text(drawn.random_robot(3))) == 0
    given = (tmp_path / "given.urdf").read_text()
    assert differences_from_urdf(tmp_path / "own" / "own.yaml", given) == ""
    mass = re.search(r'mass value="([0-9.]+)"', given)
    assert mass is not None
    heavier = given.replace(mass[0], f'mass value="{1.001 * float(mass[1])}"', 1)
    assert "mass" in differences_from_urdf(tmp_path / "own" / "own.yaml", heavier)


def test_a_passive_pole_is_swung_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(tmp_path, "mjcf", CART.format(pole="", actuator=MOTOR)) == 0
    assert "with pole, which nothing drives, at the highest equilibrium" in capsys.readouterr().out
    robot, task = task_of(tmp_path / "own" / "own.yaml")
    np.testing.assert_allclose(task.goal, [0.0, 0.0, 0.6], atol=1e-3)
    assert robot.start.position_mean[1] == pytest.approx(np.pi / 2, abs=1e-3), "it hangs, it does not lie"
    assert task.state_is_success(np.array([0.0, -np.pi / 2, 0.0, 0.0]))


@pytest.mark.parametrize("form", ["mjcf", "urdf"])
@pytest.mark.parametrize("seed", range(100, 103))
def test_a_pole_that_stands_is_explored_gently(
    form: str, seed: int, drawn: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A push of the explored size moves the pole as gravity does at a tilt of 0.4 rad, by the cart-pole's equations."""
    cart, pole = links = drawn.random_balancer(seed)
    assert new(tmp_path, form, drawn.mjcf_text(links) if form == "mjcf" else drawn.urdf_text(links)) == 0
    assert " trials:=15" in capsys.readouterr().out
    robot, task = task_of(tmp_path / "own" / "own.yaml")
    assert robot.episode_steps * robot.spec.period == pytest.approx(2.0, abs=0.5)
    assert task.state_is_success(np.zeros(4)), "it begins where it shall be"
    share = load_tuning(tmp_path / "own" / "own_tuning.yaml", "explore")["scale"]
    # The pole's mass is at its middle, its axle 5 cm above the cart, which does not matter: the cart does not turn.
    lever, total = pole.length / 2.0, cart.mass + pole.mass
    push = pole.mass * lever * share * robot.spec.action.scale[0]
    assert push == pytest.approx(total * pole.mass * 9.81 * lever * 0.4, rel=0.05) or share == 1.0


def test_exploration_keeps_a_light_wrist_in_hand(drawn: ModuleType, tmp_path: Path) -> None:
    """Three motors before it spin this robot's last link until its simulation diverges; not at the share written."""
    assert new(tmp_path, "mjcf", drawn.mjcf_text(drawn.random_robot(10))) == 0
    robot, _ = task_of(tmp_path / "own" / "own.yaml")
    share = load_tuning(tmp_path / "own" / "own_tuning.yaml", "explore")["scale"]
    source = read_source(tmp_path / "given.mjcf")
    figures = figures_of(source)
    actions = np.random.default_rng(1).uniform(-1.0, 1.0, (6, 32, 4)).repeat(5, axis=1)
    assert actions.shape[1] == robot.episode_steps

    def fastest(scale: float) -> float:
        speeds = [np.abs(play(source, figures, scale * motion)[1]) for motion in actions]
        return float(np.max(speeds / (figures.span / figures.period)))

    assert fastest(1.0) > 1.0, "half its range within a control period"
    assert fastest(share) < 0.7


def test_goals_that_are_asked_for(drawn: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CART.format(pole='limited="true" range="-3 3"', actuator=MOTOR)
    assert new(tmp_path, "mjcf", text, "--goal", "slide=0.5,pole=0.1") == 0
    _, task = task_of(tmp_path / "own" / "own.yaml")
    assert (task.kind, task.goal) == ("joint_target", (0.5, 0.1))
    assert new(tmp_path, "mjcf", text, "--goal", "0.3,0,-0.6", "--tip", "pole", "--force") == 1
    assert "m from the nearest place" in capsys.readouterr().err
    assert new(tmp_path, "mjcf", text, "--goal", "0.3,0,0", "--tip", "pole", "--force", "--period", "0.03") == 0
    robot, task = task_of(tmp_path / "own" / "own.yaml")
    assert task.goal == (0.3, 0.0, 0.0) and robot.spec.period == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("parts", "words", "message"),
    [
        ({"actuator": ""}, (), "it has no actuators; add one"),
        ({"actuator": MOTOR + MOTOR.replace('"m"', '"n"')}, (), "actuators 'm' and 'n' both drive joint 'slide'"),
        ({"<joint name=\"pole\" axis=\"0 1 0\"": '<joint axis="0 1 0"'}, (), "a joint of body 'pole' has no name"),
        ({"<joint name=\"pole\" axis=\"0 1 0\"": '<joint name="b" type="ball"'}, (), "has a ball joint 'b'"),
        ({}, ("--tip", "nose"), "there is no site or body 'nose'; sites: none; bodies: cart, pole"),
        ({}, ("--goal", "nose=1"), "no joint 'nose' in"),
        ({}, ("--goal", "1,2"), "expected x,y,z in m"),
        ({}, ("--period", "0.015"), "expected a multiple of the time step 0.01 s"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(
    parts: dict[str, str], words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CART.format(pole="", actuator=parts.pop("actuator", MOTOR))
    for before, after in parts.items():
        assert before in text
        text = text.replace(before, after)
    assert new(tmp_path, "mjcf", text, *words) == 1
    error = capsys.readouterr().err
    assert error.startswith("mbrl robot new: ") and message in error
    assert not (tmp_path / "own" / "own.yaml").exists()


def test_a_file_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CART.format(pole="", actuator=MOTOR)
    assert new(tmp_path, "mjcf", text) == 0
    assert new(tmp_path, "mjcf", text) == 1
    assert "is there already; --force" in capsys.readouterr().err


def test_launch_files_take_the_path_of_a_robot_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    own = folder / "own.yaml"
    monkeypatch.chdir(tmp_path)

    def files(robot: str) -> str:
        nodes = expand(ROOT / "launch" / "mbrl.launch.yaml", {"robot": robot}, tmp_path).nodes
        return "\n".join(str(item) for node in nodes if node.name == "learner" for item in node.parameters)

    assert str(own) in files(str(own)) and str(own) in files("with a space/own.yaml")
    assert "own_tuning.yaml" not in files(str(own)) and "config/no_overrides.yaml" in files(str(own))
    (folder / "own_tuning.yaml").write_text("/**:\n  ros__parameters: {}\n")
    assert str(folder / "own_tuning.yaml") in files(str(own))
    assert "config/robots/pendulum.yaml" in files("pendulum") and "config/tuning/pendulum.yaml" in files("pendulum")


def test_a_new_robot_learns_through_the_launch_file(tmp_path: Path) -> None:
    """An arm of one driven joint, fit once: it gets nearer to its goal than by chance, in one learned trial."""
    arm = """<robot name="arm"><link name="base"/><link name="link"><inertial><origin xyz="0.2 0 0"/><mass value="0.5"/>
      <inertia ixx="0.001" ixy="0" ixz="0" iyy="0.006" iyz="0" izz="0.006"/></inertial></link>
      <joint name="turn" type="revolute"><parent link="base"/><child link="link"/><axis xyz="0 0 1"/>
      <limit lower="-3" upper="3" effort="0.6" velocity="10"/><dynamics damping="0.05"/></joint></robot>"""
    assert new(tmp_path, "urdf", arm) == 0
    small = {
        "experiment": {"episode_steps": 60},
        "learner": {"dynamics.first_steps": 200, "dynamics.refit_steps": 50},
        "planner": {"planner.population_size": 30, "planner.iterations": 2},
    }
    arguments = {"robot": str(tmp_path / "own" / "own.yaml"), "mode": "lockstep", "trials": "3", "record": "false"}
    run = execute(RunRequest(tmp_path / "run", arguments, small, timeout=120.0))
    returns = [row["return"] for row in run.metrics]
    assert returns[-1] > 0.6 * returns[0], returns
