# SPDX-License-Identifier: Apache-2.0
"""mbrl.launch.yaml with its real nodes: however it is ended, all are gone within 3 s and the bag can be read."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader

from mbrl_bringup.domains import range_of_this_machine

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
COMMAND = [sys.executable, "-c", "import sys; from mbrl_bringup.cli import main; sys.exit(main(sys.argv[1:]))"]


@pytest.fixture
def started(tmp_path: Path, free_domain: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The graph of the pendulum, recording into tmp_path / "run"."""
    arguments = ["mbrl.launch.yaml", "robot:=pendulum", f"run_directory:={tmp_path / 'run'}"]
    process = subprocess.Popen(
        [*COMMAND, "launch", *arguments], stdout=subprocess.DEVNULL, env=_environment(tmp_path, free_domain)
    )
    yield process
    process.kill()
    process.wait()


def _environment(root: Path, domain: int) -> dict[str, str]:
    return {
        **os.environ,
        "MBRL_ROOT": str(root),
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": range_of_this_machine(),
    }


def _nodes(run: Path) -> list[str]:
    """Command lines of living processes that work for a run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            variables = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"MBRL_ROOT={run.parent}\0" in variables and "--ros-args" in words:
            found.append(words)
    return found


def _log(run: Path) -> str:
    file = run / "launch.log"
    return file.read_text() if file.exists() else ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_node_outlives_the_launch_and_the_bag_is_readable(
    started: "subprocess.Popen[bytes]", tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    limit = time.monotonic() + 60.0
    while "running: trial 0" not in _log(run):
        assert time.monotonic() < limit and started.poll() is None, _log(run)
        time.sleep(0.05)
    time.sleep(1.0)
    assert len(_nodes(run)) == 8
    begin = time.monotonic()
    started.send_signal(number)
    if number is not signal.SIGKILL:
        assert started.wait(10.0) == 0
    while left := _nodes(run):
        assert time.monotonic() - begin < 3.0, left
        time.sleep(0.02)
    with AnyReader([run / "bag"]) as reader:
        topics = {connection.topic for connection, _, _ in reader.messages()}
    assert {"/time_step", "/joint_states", "/robot_spec"} <= topics


def _launch_to_its_end(root: Path, domain: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "launch", "mbrl.launch.yaml", *arguments, f"run_directory:={root / 'run'}"],
        capture_output=True,
        text=True,
        env=_environment(root, domain),
        timeout=60.0,
        check=False,
    )


def test_an_unknown_robot_ends_the_launch_and_is_named(tmp_path: Path, free_domain: int) -> None:
    result = _launch_to_its_end(tmp_path, free_domain, "robot:=cartpool")
    assert result.returncode == 1
    names = ", ".join(sorted(path.name for path in ROBOTS.glob("*.yaml")))
    assert "arm.yaml, arm_velocity.yaml" in names
    assert f"cartpool.yaml; in its folder: {names}" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_a_node_that_fails_ends_the_launch_and_says_why(tmp_path: Path, free_domain: int) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("/**/experiment:\n  ros__parameters: {robot_file: /no/such/robot.yaml}\n", encoding="utf-8")
    result = _launch_to_its_end(tmp_path, free_domain, "robot:=pendulum", f"parameters:={wrong}")
    assert result.returncode == 1
    assert "/no/such/robot.yaml" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
