# SPDX-License-Identifier: Apache-2.0
"""Demonstrations under noise: labels are what the person meant, transitions what was executed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from example_bags import SPEC as SLIDE
from example_bags import START_NS, Bag
from test_imitation_data import PERSON, corrected
from test_live_rollout import SPEC, TASK
from test_trainer_node import MakeGraph, make_graph  # noqa: F401 - a fixture

from mbrl_core.demonstrations import Demonstration
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.specs import Array
from mbrl_msgs.msg import Plan as PlanMessage
from mbrl_msgs.msg import TimeStep as TimeStepMessage
from mbrl_policy.bags import BagError, read_episodes
from mbrl_policy.data.rearranging import merge
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.nodes.trainer_store import HEARD
from mbrl_policy.teleop import CommandNoise, CommandNoiseConfig
from mbrl_policy.training_data import TrainingData, collect, load_training_data, read_training_data
from mbrl_ros import qos
from mbrl_ros.conversions import plan_to_message, time_step_to_message

NOISE = CommandNoiseConfig(noise_std=0.2, noise_seed=3)
SECOND_NS = 1_000_000_000
ROWS = 2  # of a plan of teleop_node


def disturbed(number: int, meant: Array, served: str = "", config: CommandNoiseConfig = NOISE) -> list[TimeStep]:
    """An episode in which a person who means `meant` [T, m] is disturbed; others execute zero."""
    executed = CommandNoise(SPEC).disturbed(config, meant, number, 0)
    steps = corrected(number, served or "t" * len(meant))
    changed = [
        dataclasses.replace(step, action=action if step.controller == "teleop" else np.zeros(1))
        for step, action in zip(steps[1:], executed, strict=True)
    ]
    return [steps[0], *changed]


def write(bag: Bag, steps: list[TimeStep], meant: Array, lost: tuple[int, ...] = ()) -> None:
    """As the recorder does: each step, then what was meant in answer to it; that of steps in `lost` did not come."""
    for step, rows in zip(steps, [meant[index : index + 1] for index in range(len(meant))], strict=False):
        bag.steps([step])
        if step.step not in lost:
            bag.intend(step.episode, step.step, np.repeat(rows, ROWS, axis=0))
    bag.steps(steps[-1:])


def test_labels_are_what_was_meant_and_transitions_what_was_executed(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    bag, everything = Bag(tmp_path / "shown", SPEC), []
    for number in range(1, 21):
        meant = random.uniform(-0.3, 0.3, (100, 1))
        everything.append(meant)
        write(bag, disturbed(number, meant), meant)
    bag.close()
    data = read_training_data(tmp_path / "shown", SPEC)
    meant = np.concatenate(everything)
    for parts in (data.parts(TASK, PERSON), data.demonstrations(TASK, PERSON)):
        labels = Labels.joined([Labels.of_rollout(part) for part in parts])
        np.testing.assert_array_equal(labels.actions, meant)
        executed = np.concatenate([part.actions for part in parts])
        # Half the range is 1; within four standard errors.
        assert np.std(executed - meant) == pytest.approx(0.2, rel=4.0 / np.sqrt(2.0 * len(meant)))
    transitions = data.transitions()
    assert transitions is not None
    np.testing.assert_array_equal(transitions.action, executed)
    # Rewards are of what was executed: the robot was where that brought it.
    part = parts[0]
    np.testing.assert_array_equal(part.rewards, TASK.reward(part.states[:-1], part.actions, part.states[1:]))
    shown = read_episodes(tmp_path / "shown")
    np.testing.assert_array_equal(Labels.joined([Labels.of_demonstration(each) for each in shown]).actions, meant)


def test_the_row_that_was_executed_tells_what_was_meant(tmp_path: Path) -> None:
    """Answers come one step late: row 1 of the plan before was executed."""
    meant = np.linspace(-0.5, 0.5, 6)[:, None]
    steps = disturbed(1, meant)
    steps = [dataclasses.replace(step, row_age=1) if step.step >= 2 else step for step in steps]
    bag = Bag(tmp_path / "late", SPEC)
    write(bag, steps, meant)
    bag.close()
    (part,) = read_training_data(tmp_path / "late", SPEC).parts(TASK, PERSON)
    np.testing.assert_array_equal(Labels.of_rollout(part).actions, meant[[0, 0, 1, 2, 3, 4]])


def test_where_what_was_meant_is_lost_nothing_is_learned(tmp_path: Path) -> None:
    meant = np.linspace(-0.5, 0.5, 8)[:, None]
    bag = Bag(tmp_path / "torn", SPEC)
    write(bag, disturbed(1, meant, "tttttppt"), meant, lost=(0, 3, 5, 6))
    write(bag, disturbed(2, meant), meant, lost=tuple(range(8)))  # a bag from before there was noise
    bag.close()
    data = read_training_data(tmp_path / "torn", SPEC)
    parts = data.parts(TASK, PERSON)
    assert [(part.first_step, len(part)) for part in parts] == [(1, 2), (4, 1), (7, 1), (0, 8)]
    np.testing.assert_array_equal(Labels.of_rollout(parts[0]).actions, meant[1:3])
    assert parts[-1].intended is None
    np.testing.assert_array_equal(Labels.of_rollout(parts[-1]).actions, parts[-1].actions)
    transitions = data.transitions()
    assert transitions is not None and len(transitions) == 16  # what was executed is no less true
    torn, whole = read_episodes(tmp_path / "torn")
    assert torn.intended is not None and whole.intended is None
    assert np.isnan(torn.intended[:, 0]).tolist() == [True, False, False, True, False, False, False, False]
    np.testing.assert_array_equal(torn.intended[5:7], torn.actions[5:7])  # the policy means what it does
    with pytest.raises(ValueError, match="labels actions: have numbers that are not finite"):
        Labels.of_demonstration(torn)
    with pytest.raises(ValueError, match=r"demonstration intended: got \(2, 1\), expected \(3, 1\)"):
        Demonstration(np.zeros((4, 2)), np.zeros((3, 1)), intended=np.zeros((2, 1)))


def test_what_was_meant_goes_along_when_bags_are_merged(tmp_path: Path) -> None:
    everything = []
    for index, name in enumerate(("first", "second")):
        meant = np.linspace(-0.5, 0.5, 4)[:, None] * (index + 1)
        everything.append(meant)
        bag = Bag(tmp_path / name, SPEC, start=START_NS + index * SECOND_NS)
        write(bag, disturbed(1, meant), meant)
        bag.close()
    merge([tmp_path / "first", tmp_path / "second"], tmp_path / "both")
    parts = read_training_data(tmp_path / "both", SPEC).parts(TASK, PERSON)
    labels = [Labels.of_rollout(part).actions for part in parts]
    np.testing.assert_array_equal(labels, everything)


def test_too_much_is_cut_and_another_robots_intention_is_refused(tmp_path: Path) -> None:
    meant = np.full((3, 1), 7.0)
    bag = Bag(tmp_path / "wild", SPEC)
    write(bag, disturbed(1, meant), meant)
    bag.close()
    (part,) = read_training_data(tmp_path / "wild", SPEC).parts(TASK, PERSON)
    np.testing.assert_array_equal(Labels.of_rollout(part).actions, np.full((3, 1), SPEC.action.upper[0]))
    Bag(tmp_path / "other", SPEC).steps(corrected(1, "ttt")).intend(
        1, 0, np.zeros((1, 1)), interface_hash=SLIDE.interface_hash
    ).close()
    with pytest.raises(BagError, match="other: intended_plan: .*interface"):
        read_training_data(tmp_path / "other", SPEC)


def test_what_is_heard_live_may_come_in_any_order_and_is_kept(tmp_path: Path) -> None:
    meant = np.linspace(-0.5, 0.5, 5)[:, None]
    data = TrainingData(SPEC)
    for step in disturbed(1, meant):
        data.add(step)
    for index in range(5):
        data.add_intention(1, "teleop", index, index, meant[index : index + 1])
    # The robot was started again and counts anew; this time nobody is disturbed.
    again = corrected(1, "ttt")
    for step in again:
        data.add(step)
    for step in disturbed(2, meant)[:4]:
        if step.step < 3:
            data.add_intention(2, "teleop", step.step, step.step, meant[step.step : step.step + ROWS])
        data.add(step)
    data.save(tmp_path / "heard.safetensors")
    for known in (data, data.copy(), load_training_data(tmp_path / "heard.safetensors", SPEC)):
        labels = [Labels.of_rollout(part).actions for part in known.parts(TASK, PERSON)]
        assert [len(each) for each in labels] == [5, 3, 3]
        np.testing.assert_array_equal(labels[0], meant)
        np.testing.assert_array_equal(labels[1], np.array([step.action for step in again[1:]]))
        np.testing.assert_array_equal(labels[2], meant[:3])


def test_hardly_disturbed_whole_episodes_are_known_whole() -> None:
    """Of one step in thirty what was meant was lost: in whole episodes what was executed stands there."""
    meant = np.linspace(-0.5, 0.5, 30)[:, None]
    data = collect(disturbed(1, meant), SPEC)
    for index in range(30):
        if index != 4:
            data.add_intention(1, "teleop", index, index, meant[index : index + 1])
    (whole,) = data.demonstrations(TASK, PERSON)
    differs = Labels.of_rollout(whole).actions != meant
    assert np.flatnonzero(differs).tolist() == [4]
    other = collect(disturbed(1, meant), SPEC)
    other.add_intention(1, "teleop", 0, 0, meant[:1])
    assert other.demonstrations(TASK, PERSON) == []


def test_the_trainer_clones_what_was_meant(make_graph: MakeGraph, tmp_path: Path) -> None:  # noqa: F811
    """A law that was hidden under so much noise that what was executed shows a third of it."""
    random, wild = np.random.default_rng(0), CommandNoiseConfig(noise_std=1.0)
    bag, executed, velocities = Bag(tmp_path / "shown", SPEC), [], []
    for number in range(1, 31):
        states = random.normal(size=(41, 2)) * np.array([0.5, 1.0])
        meant = (0.6 - 0.2 * states[:-1, 1:]).clip(-1.0, 1.0)
        steps = disturbed(number, meant, config=wild)
        steps = [dataclasses.replace(step, state=state) for step, state in zip(steps, states, strict=True)]
        write(bag, steps, meant)
        executed += [step.action for step in steps[1:]]
        velocities.append(states[:-1, 1])
    bag.close()
    slope = np.polyfit(np.concatenate(velocities), np.concatenate(executed), 1)[0]
    assert slope > -0.15  # what cloning of the actions executed would find
    graph = make_graph("lockstep", task=False)
    graph.start_trainer(own_task="true")
    policy = {"kind": "linear", "squash": False, "observed": ["pivot_velocity"]}
    settings = {"gradient_steps": 800, "learning_rate": 0.05, "held_out": 0.1, "policy": policy}
    result = graph.train("behavioural_cloning", settings, data=str(tmp_path / "shown"), budget=1)
    assert result.success, result.message
    graph.wait(lambda: graph.policies, "the policy")
    weight = graph.arrays()["layer.weight"] / graph.arrays()["observation_scale"]
    assert float(weight[0, 0]) == pytest.approx(-0.2, abs=0.02)


def test_the_trainer_hears_what_is_meant(make_graph: MakeGraph) -> None:  # noqa: F811
    meant = np.linspace(-0.5, 0.5, 60)[:, None]
    graph = make_graph("lockstep", task=False)
    graph.start_trainer(own_task="true")
    plans = graph.node.create_publisher(PlanMessage, "intended_plan", qos.PLAN)
    steps = graph.node.create_publisher(TimeStepMessage, "time_step", qos.TIME_STEP_RECORD)
    # Besides the trainer the test listens to time steps.
    graph.wait(lambda: plans.get_subscription_count() and steps.get_subscription_count() >= 2, "the trainer")
    interface = SPEC.interface_hash
    stranger = plan_to_message(Plan(np.ones((1, 1))), SLIDE.interface_hash, Time(), episode=7, controller="teleop")
    plans.publish(stranger)
    for step in range(len(meant)):
        addressed = {"episode": 7, "controller": "teleop", "start_step": step, "answers_step": step}
        plans.publish(plan_to_message(Plan(meant[step : step + 1]), interface, Time(), **addressed))
    for time_step in disturbed(7, meant):
        steps.publish(time_step_to_message(time_step, interface, Time()))

    def heard() -> list[Labels]:
        # Training writes down what it is about.
        graph.train("behavioural_cloning", {"gradient_steps": 10, "held_out": 0.0}, budget=1)
        files = list(graph.folder.glob(f"**/{HEARD}"))
        parts = load_training_data(files[0], SPEC).parts(TASK, PERSON) if files else []
        return [Labels.of_rollout(part) for part in parts if len(part) == len(meant)]

    graph.wait(heard, "the trainer to have heard all", 60.0)
    np.testing.assert_array_equal(heard()[0].actions, meant)
    graph.wait(lambda: graph.figures.get("refused/intended_plan/other_interface") == "1", "the other robot's plan")
