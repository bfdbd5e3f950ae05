# SPDX-License-Identifier: Apache-2.0
"""docs/tutorial_irl.md does what it says: its very commands, with a script in the place of the person."""

import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Joy

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "src" / "mbrl_policy" / "test"))

from swing_up import soon, wanted_action  # noqa: E402

from mbrl_bringup.domains import reserved_domain  # noqa: E402
from mbrl_bringup.run_files import read_run  # noqa: E402
from mbrl_core.config import load_preset  # noqa: E402
from mbrl_core.learned_reward import load_reward  # noqa: E402
from mbrl_core.robot_file import load_robot  # noqa: E402
from mbrl_core.tasks import task_of_preset  # noqa: E402
from mbrl_msgs.msg import Task, TimeStep  # noqa: E402
from mbrl_ros import qos  # noqa: E402
from mbrl_ros.conversions import task_from_message  # noqa: E402

START, SUCCESS, DEAD_MAN = 7, 0, 4  # buttons
DEAD_ZONE = 0.05
EPISODES, STEPS = 3, 90
REACTION = 0.1  # s from a state to the action that answers it
# What the document names as ways to have less of it.
FEWER = {
    "train": [
        *("--set", "iterations=5"),
        *("--set", "planner.population_size=40", "--set", "planner.iterations=2"),
    ],
    "mbrl.launch.yaml": ["trials:=2", "mode:=lockstep"],
}


def commands() -> list[list[str]]:
    """The words after `./mbrl` of every command in the document's blocks, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "tutorial_irl.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line.strip()]
    assert all(words[0] == "./mbrl" for words in lines)
    return [words[1:] for words in lines]


class Reader:
    """Somebody who follows the document, in a folder and a ROS domain of their own."""

    def __init__(self, folder: Path, domain: int) -> None:
        self._folder = folder
        self._environment = {
            **os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        self.launches: dict[str, subprocess.Popen[bytes]] = {}
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("reader", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.rewards: list[Task] = []
        self.node.create_subscription(Task, "learned_reward", self.rewards.append, qos.LATCHED)

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s for {what}\n{self._logs()}"
            self._executor.spin_once(timeout_sec=0.02)

    def launch(self, words: list[str]) -> None:
        """In a terminal that stays open."""
        file = words[1]
        with open(self._folder / f"{file}.log", "wb") as log:
            self.launches[file] = subprocess.Popen(
                [str(ROOT / "mbrl"), *words, *FEWER.get(file, [])],
                cwd=self._folder, env=self._environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def run(self, words: list[str]) -> str:
        """To its end; what it says."""
        result = subprocess.run(
            [str(ROOT / "mbrl"), *words, *FEWER.get(words[0], [])],
            cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}\n{self._logs()}"
        return result.stdout

    def stop(self) -> None:
        """Ctrl-C in every terminal."""
        for process in self.launches.values():
            process.send_signal(signal.SIGINT)
        for file, process in self.launches.items():
            assert process.wait(30.0) == 0, f"{file}\n{self._logs()}"
        self.launches.clear()

    def close(self) -> None:
        for process in self.launches.values():
            process.send_signal(signal.SIGINT)
        for process in self.launches.values():
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _logs(self) -> str:
        return "\n".join(f"--- {file}\n{file.read_text()[-3000:]}" for file in self._folder.glob("*.log"))


class Person:
    """Shows the swing-up with a joystick."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._axis = 0.0
        self._down = {DEAD_MAN}
        self._step: TimeStep | None = None
        self._joy = reader.node.create_publisher(Joy, "joy", 10)
        self._timer = reader.node.create_timer(0.05, self._publish)
        reader.node.create_subscription(TimeStep, "time_step", self._on_time_step, qos.TIME_STEP_RECORD)

    def _publish(self) -> None:
        self._joy.publish(Joy(axes=[self._axis, 0.0], buttons=[int(index in self._down) for index in range(8)]))

    def _on_time_step(self, message: TimeStep) -> None:
        self._step = message
        wanted = wanted_action(*soon(*message.state, REACTION))
        self._axis = math.copysign(DEAD_ZONE + (1.0 - DEAD_ZONE) * abs(wanted), wanted)
        self._publish()

    def show(self) -> None:
        """All episodes, then the joystick is put away."""
        # Who follows the joystick: teleop_node and the recorder.
        self._reader.wait(lambda: self._joy.get_subscription_count() >= 2, "teleop_node")
        for episode in range(1, EPISODES + 1):
            self._press(START, lambda: self._at(TimeStep.MID, episode), "an episode")  # noqa: B023
            self._reader.wait(lambda: self._step is not None and self._step.step >= STEPS, "its steps")
            self._press(SUCCESS, lambda: self._at(TimeStep.LAST, episode), "its end")  # noqa: B023
        self._timer.cancel()

    def _at(self, step_type: int, episode: int) -> bool:
        step = self._step
        return step is not None and (step.step_type, step.episode) == (step_type, episode)

    def _press(self, button: int, until: Callable[[], object], what: str) -> None:
        """Again and again until it has shown: the first time nobody may listen yet."""
        end = time.monotonic() + 60.0
        while not until():
            assert time.monotonic() < end, what
            self._down ^= {button}
            pressed = time.monotonic()
            self._reader.wait(lambda: until() or time.monotonic() > pressed + 0.6, what)  # noqa: B023
        self._down.discard(button)
        self._publish()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with reserved_domain() as domain:
        made = Reader(tmp_path, domain)
        yield made
        made.close()


def true_returns(folder: Path) -> tuple[float, float]:
    """Of the random trial and of the planner's, by the task that nobody told the trainer of."""
    config = ROOT / "config"
    robot = load_robot(config / "robots" / "pendulum.yaml")
    task = task_of_preset(load_preset(config / "tasks" / f"{robot.task}.yaml", "task"))
    steps = read_run(folder).steps
    found = []
    for trial in range(2):
        own = steps["trial"] == trial
        states, actions = steps["state"][own], steps["action"][own][1:]
        found.append(float(np.sum(task.reward(states[:-1], actions, states[1:]))))
    return found[0], found[1]


@pytest.mark.slow
def test_what_was_shown_by_joystick_becomes_a_reward_that_a_planner_swings_up_by(
    reader: Reader, tmp_path: Path
) -> None:
    said: dict[str, str] = {}
    for words in commands():
        if words[0] == "launch":
            if words[1] == "mbrl.launch.yaml":
                reader.stop()
            reader.launch(words)
        elif words[0] == "teleop":
            Person(reader).show()
        else:
            said[words[0]] = reader.run(words)
        if words[0] == "train":
            reader.wait(lambda: reader.rewards, "the reward on its topic")
    rows = [line.split() for line in said["bag"].splitlines() if "teleop" in line.split()]
    assert len([row for row in rows if "success" in row]) == EPISODES, said["bag"]
    assert len(re.findall(r"^iteration", said["train"], re.MULTILINE)) == 5 and "reward version" in said["train"]
    spec = load_robot(ROOT / "config" / "robots" / "pendulum.yaml").spec
    wanted = load_reward(tmp_path / "runs" / "wanted" / "checkpoints" / "reward.safetensors")
    assert task_from_message(reader.rewards[-1], spec).content == wanted.content
    assert (tmp_path / "runs" / "wanted" / "reward.png").read_bytes().startswith(b"\x89PNG")
    assert "is the task in force" in said["reward"]
    process = reader.launches["mbrl.launch.yaml"]
    reader.wait(lambda: process.poll() is not None, "the end of the run", 100.0)
    assert process.returncode == 0
    chance, planned = true_returns(tmp_path / "runs" / "followed")
    assert chance < -300.0 and planned > 0.6 * chance, (chance, planned)
