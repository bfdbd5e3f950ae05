# SPDX-License-Identifier: Apache-2.0
"""`./mbrl robot delay` on simulations whose delay is known, as processes in real time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mbrl_bringup.cli.robot import main
from mbrl_bringup.domains import range_of_this_machine, reserved_domain
from mbrl_core.robot_file import load_robot

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
NODE = "from mbrl_robot.nodes.executables import {0}_node; {0}_node()"
COMMAND = "import sys; from mbrl_bringup.cli.robot import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Of processes in a domain of their own."""
    with reserved_domain() as domain:
        yield {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": range_of_this_machine()}


def measured(path: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """What the command says of a robot that runs."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", NODE.format(name), "--ros-args", "-p", f"robot_file:={path}"], env=environment
        )
        for name in ("mujoco", "robot")
    ]
    try:
        return subprocess.run(
            [sys.executable, "-c", COMMAND, "delay", "--robot", str(path), "--yes", *options],
            env=environment, capture_output=True, text=True, timeout=90.0,
        )  # fmt: skip
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10.0)


@pytest.mark.parametrize(("name", "delay", "seconds"), [("cartpole", 0.058, 5.0), ("reacher", 0.033, 3.0)])
def test_finds_and_writes_the_delay(
    name: str, delay: float, seconds: float, tmp_path: Path, environment: dict[str, str]
) -> None:
    content = yaml.safe_load((ROBOTS / f"{name}.yaml").read_text())
    content["simulation"]["command_delay"] = delay
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    before = load_robot(path)
    result = measured(path, environment, "--write", "--seconds", str(seconds))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "written into" in result.stdout
    assert all(joint in result.stdout for joint in before.spec.action.names)
    # What the middleware takes on a busy machine is part of what is measured.
    assert delay - 0.001 < load_robot(path).spec.delay < delay + 0.25 * before.spec.period, result.stdout


def test_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["delay", "--robot", "nothing"]) == 1
    assert "unknown robot 'nothing'" in capsys.readouterr().err
    assert main(["delay", "--yes", "--joints", "hinge"]) == 1
    assert "expected joints that are driven: slider" in capsys.readouterr().err
    for words, text in (
        (["--amplitude", "0"], "expected above 0 and at most 1"),
        (["--longest", "9"], "a quarter of --seconds 12"),
    ):
        assert main(["delay", "--yes", *words]) == 1
        assert text in capsys.readouterr().err


def test_asks_before_anything_moves(environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, "delay", "--robot", "cartpole"],
        env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60.0,
    )  # fmt: skip
    assert result.returncode == 1
    assert "going to move by itself" in result.stdout and "slider: effort of up to +-60 N" in result.stdout
    assert "nobody is there to be asked" in result.stderr


def test_says_where_nobody_answers(environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, "delay", "--yes", "--timeout", "1"],
        env=environment, capture_output=True, text=True, timeout=60.0,
    )  # fmt: skip
    assert result.returncode == 1 and "is robot_node running in this ROS domain?" in result.stderr
