# SPDX-License-Identifier: Apache-2.0
"""trainer_node learns a reward beside a real robot: latched, written, taken up again, refused."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from example_bags import Bag
from swing_up import shown_by_a_person
from trainer_graph import CONFIG, ROBOT, STEPS, TASK, Graph

from mbrl_core.demonstrations import Outcome
from mbrl_core.learned_reward import load_reward
from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.robot_file import load_robot
from mbrl_policy.training import Rollout, SimulatedRobot, make_trainer
from mbrl_ros.conversions import task_from_message

PLANNER = {"kind": "icem", "horizon": 6, "iterations": 1, "population_size": 10, "elites": 3, "particles": 5}
QUICK = {
    "horizon": 6, "windows": 2, "samples": 3, "gradient_steps": 5, "candidates": 8, "hidden": [8], "fits": 1,
    "members": 2, "iterations": 3, "episode_weight": 1.0, "weight_decay": 0.001, "exploration": 0.05,
}  # fmt: skip
SETTINGS = {**QUICK, "planner": PLANNER}


@pytest.fixture
def graph(tmp_path: Path, free_domain: int) -> Iterator[Graph]:
    made = Graph(tmp_path, "lockstep", free_domain)
    yield made
    made.close()


def shown(count: int = 2) -> list[Rollout]:
    here = SimulatedRobot(ROBOT, TASK, STEPS)
    return [here.rollout_controller(shown_by_a_person, seed=100 + index) for index in range(count)]


def time_steps(rollout: Rollout, episode: int, controller: str) -> list[TimeStep]:
    last = len(rollout)
    return [
        TimeStep(
            episode=episode, step=step, state=state, controller=controller if step else "",
            step_type=StepType.FIRST if step == 0 else StepType.LAST if step == last else StepType.MID,
            end_reason=EndReason.TIME_LIMIT if step == last else EndReason.NOT_ENDED,
            action=rollout.actions[step - 1] if step else np.full(ROBOT.spec.action.size, math.nan),
            action_valid=step > 0, committed_actions=np.zeros((0, ROBOT.spec.action.size)),
        )
        for step, state in enumerate(rollout.states)
    ]  # fmt: skip


def bag(path: Path, controller: str = "teleop", outcome: Outcome = Outcome.SUCCESS) -> str:
    made = Bag(path, ROBOT.spec)
    for episode, rollout in enumerate(shown(), start=1):
        made.steps(time_steps(rollout, episode, controller)).label(episode, outcome)
    made.close()
    return str(path)


def test_the_best_reward_is_latched_written_drawn_and_taken_up_again(graph: Graph) -> None:
    data = bag(graph.folder / "shown")
    graph.start_trainer()
    result = graph.train("guided_cost", SETTINGS, data=data)
    assert result.success and result.reward_version > result.policy_version == 0, result.message
    graph.wait(lambda: graph.rewards and graph.rewards[-1].version == result.reward_version, "the reward")
    versions = [message.version for message in graph.rewards]
    assert versions == sorted(set(versions)) and not graph.policies
    reward = task_from_message(graph.rewards[-1], ROBOT.spec)
    assert reward.kind == "learned"
    assert load_reward(graph.folder / "checkpoints" / "reward.safetensors").content == reward.content
    assert (graph.folder / "reward.png").read_bytes().startswith(b"\x89PNG")
    # In lockstep it is that of a simulation in process, byte by byte.
    torch.set_num_threads(1)
    trainer = make_trainer(
        "guided_cost", QUICK, SimulatedRobot(ROBOT, TASK, STEPS), 0, demonstrations=shown(), planner=PLANNER
    )
    told = [trainer.iterate() for _ in range(3)]
    assert [said.mean_return for said in graph.feedback] == [each.mean_return for each in told]
    learned = trainer.reward()
    assert learned is not None and learned.content == reward.content
    assert result.mean_return == trainer.best_return
    # Killed and started again it says the same at once.
    graph.processes["trainer"].kill()
    graph.processes["trainer"].wait()
    graph.rewards.clear()
    graph.start_trainer()
    graph.wait(lambda: graph.rewards, "the reward of the checkpoint")
    assert bytes(graph.rewards[-1].content) == reward.content
    assert graph.rewards[-1].version == result.reward_version


def test_a_cancel_keeps_the_best_reward(graph: Graph) -> None:
    graph.start_trainer()
    handle = graph.send("guided_cost", {**SETTINGS, "gradient_steps": 200}, data=bag(graph.folder / "shown"), budget=50)
    graph.wait(lambda: graph.feedback, "an iteration", 60.0)
    cancelled = handle.cancel_goal_async()
    graph.wait(cancelled.done, "an answer to the cancel")
    result = graph.result(handle)
    assert result.success and result.reward_version > 0, result.message
    graph.wait(lambda: graph.rewards and graph.rewards[-1].version == result.reward_version, "the reward")
    written = load_reward(graph.folder / "checkpoints" / "reward.safetensors")
    assert written.content == bytes(graph.rewards[-1].content)


def test_what_shows_nothing_is_refused_and_the_node_goes_on(graph: Graph) -> None:
    graph.start_trainer(episode_steps=STEPS)
    failed = bag(graph.folder / "failed", outcome=Outcome.FAILURE)
    explored = bag(graph.folder / "explored", controller="explore")
    reacher = load_robot(CONFIG / "robots" / "reacher.yaml")
    other = Bag(graph.folder / "other", reacher.spec).close()
    for text, data, settings in (
        ("no demonstrations; the robot was moved by teleop", failed, {}),
        ("no demonstrations; the robot was moved by explore", explored, {}),
        ("no demonstrations; the robot was moved by nobody", "", {}),
        ("of robot 'reacher', expected", str(other.path), {}),
        ("longest of 2 has 15 steps, expected at least a window of 20", bag(graph.folder / "short"), {"horizon": 20}),
        ("'planner.particles': got 3, expected a multiple", bag(graph.folder / "odd"), {
            "planner": {**PLANNER, "particles": 3}}),
    ):  # fmt: skip
        result = graph.train("guided_cost", {**SETTINGS, **settings}, data=data)
        assert not result.success and text in result.message, result.message
    assert not graph.rewards and graph.processes["trainer"].poll() is None
    assert graph.train("guided_cost", SETTINGS, data=bag(graph.folder / "good"), budget=1).success
