# SPDX-License-Identifier: Apache-2.0
"""From bags to imitation: whose steps are learned from, by whom and from which bags; up to the trainer node."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from example_bags import SPEC as SLIDE
from example_bags import Bag
from test_live_rollout import SPEC, TASK, episode
from test_trainer_node import MakeGraph, make_graph  # noqa: F401 - a fixture

from mbrl_core.demonstrations import Outcome
from mbrl_core.messages import TimeStep
from mbrl_policy.bags import BagError
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.training_data import collect, load_training_data, read_training_data

PERSON = ("teleop",)


def corrected(number: int, served: str) -> list[TimeStep]:
    """An episode of the policy in which a person takes over where `served` has a t."""
    names = {"t": "teleop", "p": "policy"}
    return [
        dataclasses.replace(
            step,
            controller=names[served[step.step - 1]] if step.step else "",
            committed_actions=np.zeros((0, 1)),
            row_age=0,
        )
        for step in episode(len(served), number)
    ]


def test_corrections_and_whole_episodes_are_parts_in_order_of_time() -> None:
    data = collect([*corrected(5, "pptttp"), *corrected(4, "tttt"), *corrected(6, "pppp")], SPEC)
    parts = data.parts(TASK, PERSON)
    assert [(part.first_step, len(part)) for part in parts] == [(0, 4), (2, 3)]
    np.testing.assert_allclose(parts[1].states[:, 0], 0.5 + 0.1 * np.arange(2, 6))
    labels = Labels.joined([Labels.of_rollout(part) for part in parts])
    assert labels.steps.tolist() == [0, 1, 2, 3, 2, 3, 4]
    assert labels.follows is not None and labels.follows.tolist() == [False, True, True, True, False, True, True]
    # Those who need whole episodes get no parts.
    assert [len(whole) for whole in data.demonstrations(TASK, PERSON)] == [4]


def test_what_is_torn_or_still_going_on_is_shown_as_far_as_it_went(tmp_path: Path) -> None:
    steps = corrected(4, "tttttt")
    data = collect([*steps[:3], *steps[4:], *corrected(5, "ttt")[:3]], SPEC)
    assert [(part.first_step, len(part)) for part in data.parts(TASK, PERSON)] == [(0, 2), (4, 2), (0, 2)]
    assert data.demonstrations(TASK, PERSON) == []
    data.save(tmp_path / "heard.safetensors")
    again = load_training_data(tmp_path / "heard.safetensors", SPEC).parts(TASK, PERSON)
    assert [(part.first_step, len(part)) for part in again] == [(0, 2), (4, 2), (0, 2)]
    twin = data.copy()
    twin.add(corrected(5, "ttt")[3])
    assert len(twin.parts(TASK, PERSON)[-1]) == 3 and len(data.parts(TASK, PERSON)[-1]) == 2


def test_labels_in_the_bag_say_what_is_learned_from(tmp_path: Path) -> None:
    bag = Bag(tmp_path / "shown", SPEC)
    for number in range(1, 5):
        bag.steps(corrected(number, "t" * (2 + number)))
    bag.label(1, Outcome.SUCCESS).label(2, Outcome.FAILURE).label(3, Outcome.SUCCESS, discarded=True).close()
    data = read_training_data(tmp_path / "shown", SPEC)
    assert [len(part) for part in data.parts(TASK, PERSON)] == [3, 6]
    assert [len(whole) for whole in data.demonstrations(TASK, PERSON)] == [3, 6]
    transitions = data.transitions()
    assert transitions is not None and len(transitions) == 3 + 4 + 6  # a failure is no less true


def test_several_bags_are_one_data_set(tmp_path: Path) -> None:
    for name, served in (("first", "ttt"), ("second", "ptttp")):
        Bag(tmp_path / name, SPEC).steps(corrected(1, served)).close()
    both = os.pathsep.join(str(tmp_path / name) for name in ("first", "second"))
    parts = read_training_data(both, SPEC).parts(TASK, PERSON)
    assert [(part.first_step, len(part)) for part in parts] == [(0, 3), (1, 3)]
    Bag(tmp_path / "other", SLIDE).close()
    with pytest.raises(BagError, match="other: interface .* of robot 'slide', expected .* of robot 'pendulum'"):
        read_training_data(os.pathsep.join((str(tmp_path / "first"), str(tmp_path / "other"))), SPEC)
    with pytest.raises(FileNotFoundError, match=f"data {str(tmp_path / 'no')!r}: no such folder"):
        read_training_data(os.pathsep.join((str(tmp_path / "first"), str(tmp_path / "no"))), SPEC)
    with pytest.raises(FileNotFoundError, match="names no folder"):
        read_training_data(os.pathsep, SPEC)


def test_the_trainer_clones_what_a_bag_shows(make_graph: MakeGraph, tmp_path: Path) -> None:  # noqa: F811
    """A law that a person followed in part of an episode comes back as a policy, without model or rollouts."""
    random = np.random.default_rng(0)
    shown = []
    for number in range(1, 9):
        steps = corrected(number, "pp" + "t" * 12 + "p")
        states = random.normal(size=(len(steps), 2)) * np.array([0.5, 1.0])
        laws = (0.2 - 0.3 * states[:-1, 1:]).clip(-1.0, 1.0)
        for step, state, action in zip(steps, states, np.concatenate([[[np.nan]], laws]), strict=True):
            # What is not the person's would spoil it.
            executed = np.ones(1) if step.controller == "policy" else action
            shown.append(dataclasses.replace(step, state=state, action=executed))
    Bag(tmp_path / "shown", SPEC).steps(shown).close()
    # Nobody has said what the task is: the robot's own.
    graph = make_graph("lockstep", task=False)
    graph.start_trainer(own_task="true")
    policy = {"kind": "linear", "squash": False, "observed": ["pivot_velocity"]}
    settings = {"gradient_steps": 800, "learning_rate": 0.05, "held_out": 0.25, "policy": policy}
    result = graph.train("behavioural_cloning", settings, data=str(tmp_path / "shown"), budget=1)
    assert result.success, result.message
    assert graph.time_steps == []  # the robot has not moved
    graph.wait(lambda: graph.policies, "the policy")
    weight = graph.arrays()["layer.weight"] / graph.arrays()["observation_scale"]
    assert float(weight[0, 0]) == pytest.approx(-0.3, abs=0.03)
    Bag(tmp_path / "unshown", SPEC).steps(corrected(1, "ppp")).close()
    refused = graph.train("behavioural_cloning", {}, data=str(tmp_path / "unshown"))
    assert not refused.success
    assert "no demonstrations; the robot was moved by policy, expected some of parameter 'teachers'" in refused.message
    refused = graph.train("behavioural_cloning", {}, data=str(tmp_path / "nothing"))
    assert not refused.success and "no such folder" in refused.message
