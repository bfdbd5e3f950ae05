# SPDX-License-Identifier: Apache-2.0
"""What the learner learns from, when it fits, what it publishes, and how it goes on after a restart."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from problems import SPEC, normalised_error, sample, true_change

from mbrl_core.checkpoint import CheckpointError, encode_arrays
from mbrl_core.messages import StepType, TimeStep
from mbrl_dynamics.checkpoints import CheckpointFolder
from mbrl_dynamics.learner import LearnerConfig, OnlineLearner
from mbrl_dynamics.model import ModelError
from mbrl_dynamics.registry import make_model

torch.set_num_threads(1)
QUICK = {"hidden_size": 32, "first_steps": 150, "refit_steps": 60}


def make_learner(seed=0, kind="ensemble", **config):
    model = make_model(kind, QUICK if kind == "ensemble" else {}, SPEC, seed)
    return OnlineLearner(model, LearnerConfig(**config), seed)


def episode(number, steps, seed=0):
    """Time steps of an episode under random actions."""
    random = np.random.default_rng((seed, number))
    state = random.normal(size=4)
    yield TimeStep(number, 0, StepType.FIRST, state, np.full(1, np.nan), action_valid=False)
    for step in range(1, steps + 1):
        action = random.uniform(-2.0, 2.0, 1)
        state = state + true_change(state[None], action[None])[0]
        yield TimeStep(number, step, StepType.LAST if step == steps else StepType.MID, state, action)


def feed(learner, number, steps, seed=0, fit=True):
    """Feeds an episode and fits when due; returns the steps after which a fit was made."""
    fits = []
    for time_step in episode(number, steps, seed):
        learner.add(time_step)
        if fit and learner.due:
            learner.fit()
            fits.append(time_step.step)
    return fits


def break_model(job):
    """Makes a fitted candidate predict nonsense that is finite."""
    arrays = job.model.state_arrays()
    arrays["weight_linear"] = arrays["weight_linear"] + 1.0
    job.model.load_arrays(arrays)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"schedule": "steps", "refit_interval": 20, "first_fit": 50}, [[50, 70, 80], [20, 40, 45]]),
        ({"schedule": "steps", "refit_interval": 30, "first_fit": 200}, [[80], [30, 45]]),
        ({"schedule": "episode"}, [[80], [45]]),
        ({"schedule": "once"}, [[80], []]),
        ({"schedule": "never"}, [[], []]),
    ],
)
def test_schedule(config, expected):
    learner = make_learner(kind="linear", **config)
    assert [feed(learner, 1, 80), feed(learner, 2, 45)] == expected


def test_too_short_an_episode_is_not_fitted_alone():
    learner = make_learner(kind="linear", minimum_transitions=20)
    assert feed(learner, 1, 10) == []
    assert feed(learner, 2, 15) == [10, 15]


def test_first_model_is_published_and_its_error_is_measured_before_training():
    learner = make_learner(error_window=30)
    assert learner.version == 0 and np.isnan(learner.prequential_error)
    feed(learner, 1, 200)
    assert learner.version == 1 and learner.trained_through_episode == 1 and learner.transitions == 200
    assert np.isnan(learner.prequential_error)
    feed(learner, 2, 30, fit=False)
    by_hand = []
    steps = list(episode(2, 30))
    with torch.no_grad():
        for before, after in pairwise(steps):
            state = torch.as_tensor(before.state[None]).float()
            mean = learner.published.predict(state, torch.as_tensor(after.action[None]).float()).mean.mean(dim=0)[0]
            by_hand.append((mean.numpy() - after.state) ** 2)
    scale = learner.published.normalisation.output_scale.numpy()
    assert learner.prequential_error == pytest.approx(np.mean(np.array(by_hand) / scale**2), rel=1e-4)


def test_prequential_error_falls_as_it_learns():
    learner = make_learner(error_window=60)
    feed(learner, 1, 20)
    first = normalised_error(learner.published, sample(200, 3))
    errors = []
    for number in range(2, 7):
        feed(learner, number, 60)
        errors.append(learner.prequential_error)
    assert learner.version >= 3
    assert errors[-1] < 0.5 * errors[0]
    assert normalised_error(learner.published, sample(200, 3)).mean() < 0.6 * first.mean()


@pytest.mark.parametrize("fresh", [0, 20])
def test_a_worse_candidate_is_not_published(fresh):
    learner = make_learner()
    feed(learner, 1, 100)
    before = encode_arrays(learner.published.state_arrays())
    feed(learner, 2, 40, fit=False)
    job = learner.begin_fit()
    job.run()
    break_model(job)
    # Transitions that come while the fit runs judge it; without any, those that its members held out do.
    feed(learner, 3, fresh, fit=False)
    assert not learner.finish_fit(job)
    assert learner.version == 1 and learner.rejected == 1
    assert learner.candidate_error > learner.recorded_error
    assert encode_arrays(learner.published.state_arrays()) == before


def test_a_better_candidate_is_published_after_a_rejected_one():
    learner = make_learner(patience=1)
    feed(learner, 1, 100)
    feed(learner, 2, 40, fit=False)
    job = learner.begin_fit()
    job.run()
    break_model(job)
    assert not learner.finish_fit(job)
    feed(learner, 3, 20)
    assert learner.version == 2
    assert learner.candidate_error <= learner.recorded_error


def test_a_bad_published_model_is_replaced():
    learner = make_learner()
    feed(learner, 1, 100, fit=False)
    job = learner.begin_fit()
    job.run()
    break_model(job)
    assert learner.finish_fit(job), "there is no other model"
    feed(learner, 2, 60)
    feed(learner, 3, 60)
    assert learner.version > 1
    assert np.all(normalised_error(learner.published, sample(200, 3)) < 1.0)


def test_a_candidate_with_non_finite_weights_is_dropped():
    learner = make_learner()
    feed(learner, 1, 60)
    feed(learner, 2, 30, fit=False)
    job = learner.begin_fit()
    job.run()
    with torch.no_grad():
        job.model.weights["bias_out"][0, 0, 0] = float("nan")
    assert not learner.finish_fit(job)
    feed(learner, 3, 20)
    assert learner.version == 2
    assert all(np.isfinite(value).all() for value in learner.published.state_arrays().values())


def test_an_abandoned_fit_is_made_up_for():
    learner = make_learner()
    feed(learner, 1, 60, fit=False)
    learner.begin_fit()
    assert learner.fitting and not learner.due
    learner.abandon_fit()
    feed(learner, 2, 20)
    assert learner.version == 1


def test_a_fit_works_on_a_snapshot():
    learner = make_learner()
    feed(learner, 1, 60, fit=False)
    job = learner.begin_fit()
    feed(learner, 2, 40, fit=False)
    job.run()
    assert job.report.transitions == 60
    assert learner.finish_fit(job) and learner.trained_through_episode == 1
    assert learner.due, "episode 2 ended meanwhile"


def test_lost_and_changed_time_steps_are_not_learned_from():
    learner = make_learner()
    steps = list(episode(1, 20))
    steps[5] = TimeStep(1, 5, StepType.MID, steps[5].state, steps[5].action, action_valid=False)
    del steps[10]
    for time_step in steps:
        learner.add(time_step)
    assert learner.transitions == 20 - 1 - 2


def test_same_seed_same_bytes():
    first, second = make_learner(3), make_learner(3)
    for learner in (first, second):
        feed(learner, 1, 60)
        feed(learner, 2, 30)
    assert encode_arrays(first.state_arrays()) == encode_arrays(second.state_arrays())


@pytest.mark.parametrize("kind", ["ensemble", "linear"])
def test_interrupted_and_resumed_equals_uninterrupted(kind, tmp_path):
    whole = make_learner(kind=kind, refit_interval=20)
    feed(whole, 1, 60)
    feed(whole, 2, 50)
    part = make_learner(kind=kind, refit_interval=20)
    feed(part, 1, 60)
    folder = CheckpointFolder(tmp_path)
    folder.save(part.version, part.state_arrays(), part.information())
    resumed = make_learner(kind=kind, refit_interval=20)
    _, arrays, information = folder.newest()
    resumed.load(arrays, information)
    assert resumed.version == 1
    feed(resumed, 2, 50)
    assert resumed.version == whole.version and resumed.prequential_error == whole.prequential_error
    assert encode_arrays(resumed.state_arrays()) == encode_arrays(whole.state_arrays())


def test_a_fit_under_way_at_the_checkpoint_is_begun_again():
    learner = make_learner()
    feed(learner, 1, 60)
    feed(learner, 2, 30, fit=False)
    learner.begin_fit()
    resumed = make_learner()
    resumed.load(learner.state_arrays(), learner.information())
    assert resumed.due and not resumed.fitting


def test_checkpoint_of_another_robot_or_model_is_refused():
    learner = make_learner()
    feed(learner, 1, 60)
    arrays, information = learner.state_arrays(), learner.information()
    with pytest.raises(ValueError, match="interface 'abc'"):
        make_learner().load(arrays, {**information, "interface_hash": "abc"})
    with pytest.raises(ValueError, match="checkpoint: model"):
        make_learner(kind="linear").load(arrays, information)
    del arrays["published/weight_0"]
    with pytest.raises(ModelError, match="'weight_0' is missing"):
        make_learner().load(arrays, information)


def test_checkpoint_folder_keeps_the_newest_and_refuses_the_damaged(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    assert folder.newest() is None
    for version in (1, 9, 10):
        folder.save(version, {"value": np.array([float(version)])}, {"version": version})
    assert [path.name for path in folder.paths()] == ["learner_00000009.safetensors", "learner_00000010.safetensors"]
    path, arrays, information = folder.newest()
    assert (arrays["value"], information["version"]) == (10.0, 10)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="learner_00000010"):
        folder.newest()
