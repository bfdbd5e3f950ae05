# SPDX-License-Identifier: Apache-2.0
"""learner_node starts from data that was recorded before."""

import dataclasses

import numpy as np
import pytest
from problems import SPEC, normalised_error, sample
from test_learner import make_learner
from test_learner_node import graph as graph
from test_learner_node import learner_arguments, restored

from mbrl_core.config import ConfigurationError
from mbrl_core.transition_file import TransitionFile, save_transitions
from mbrl_dynamics.nodes.learner_node import LearnerNode


@pytest.fixture
def recorded(tmp_path):
    save_transitions(tmp_path / "data.npz", TransitionFile(SPEC, sample(150, 5)))
    return tmp_path / "data.npz"


def test_preloaded_data_is_fitted_at_once():
    learner = make_learner(schedule="episode")
    assert not learner.due
    learner.preload(sample(150, 5))
    assert learner.due and learner.transitions == 150
    assert learner.fit() and learner.version == 1 and not learner.due
    assert np.all(normalised_error(learner.published, sample(200, 6)) < 1.0)


def test_preloaded_data_keeps_to_the_capacity():
    learner = make_learner(capacity=100)
    learner.preload(sample(150, 5))
    assert learner.transitions == 100
    assert learner.fit()


@pytest.mark.parametrize("mode", ["lockstep", "realtime"])
def test_a_model_is_there_before_the_robot_moves(graph, recorded, mode):
    learner = graph(mode=mode, bag=recorded, seed=3)
    learner.publish_spec()
    learner.until(lambda: learner.models, 60.0)
    assert np.all(normalised_error(restored(learner.models[-1]), sample(200, 6)) < 1.0)
    learner.run_episode(1, 30)
    assert learner.statuses[-1].transitions == 150 + 30


def test_a_checkpoint_takes_the_place_of_the_bag(graph, recorded, tmp_path):
    first = graph(mode="lockstep", run_directory=tmp_path, bag=recorded, seed=3)
    first.publish_spec()
    first.until(lambda: first.models, 60.0)
    assert first.call("save_model").success
    first.close()
    second = graph(mode="lockstep", run_directory=tmp_path, bag=recorded, seed=3)
    second.publish_spec()
    second.until(lambda: second.models, 60.0)
    second.run_episode(1, 30)
    assert second.statuses[-1].transitions == 150 + 30


def test_data_of_another_robot_are_refused_and_learning_goes_on(graph, tmp_path):
    other = dataclasses.replace(SPEC, period=0.01)
    save_transitions(tmp_path / "other.npz", TransitionFile(other, sample(150, 5)))
    learner = graph(mode="lockstep", bag=tmp_path / "other.npz")
    learner.publish_spec()
    learner.until(lambda: learner.learner.health.refused.get("bag") == 1)
    learner.run_episode(1, 30)
    assert learner.statuses[-1].transitions == 30


def test_a_bag_that_is_not_there_ends_the_start(graph, tmp_path):
    with pytest.raises(ConfigurationError, match="parameter 'bag': .*nothing.* does not exist"):
        LearnerNode(cli_args=learner_arguments(bag=tmp_path / "nothing"))
