# SPDX-License-Identifier: Apache-2.0
"""Online learning: what to learn from, when, and which model is good enough to be published. Knows no ROS."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_core.config import parameter
from mbrl_core.dataset import ReplayBuffer, Transition, TransitionAssembler, Transitions
from mbrl_core.messages import StepType, TimeStep
from mbrl_dynamics.encoding import Encoder, safe_scale
from mbrl_dynamics.model import DynamicsModel, FitReport, KeepGoing
from mbrl_dynamics.prequential import FROZEN, PrequentialRecord

SCHEDULES = ("steps", "episode", "once", "never")


@dataclass(frozen=True)
class LearnerConfig:
    """When to fit, and what to publish."""

    schedule: str = parameter(
        "steps",
        "when to fit: every refit_interval steps and at the end of an episode; at the end of each episode; once, at the"
        " end of the first episode; or never",
        choices=SCHEDULES,
    )
    refit_interval: int = parameter(25, "new transitions after which the model is fitted again", minimum=1)
    first_fit: int = parameter(
        200,
        "transitions after which the first fit is made, or at the end of the first episode if that is sooner",
        minimum=2,
    )
    minimum_transitions: int = parameter(20, "fewer transitions than this are never fitted", minimum=2)
    capacity: int = parameter(50_000, "transitions kept; the oldest give way", minimum=2)
    error_window: int = parameter(
        100, "newest transitions that the prequential error is of, and that judge a new model", minimum=1
    )
    last_episode: int = parameter(
        0, "number of the last episode that is learned from; later ones judge a frozen model; 0 = all are", minimum=0
    )
    patience: int = parameter(
        3, "models in a row that may be rejected before learning starts from new weights", minimum=1
    )


@dataclass
class FitJob:
    """One fit: a snapshot, so that `run` may be called in another thread while the learner goes on."""

    model: DynamicsModel
    transitions: Transitions
    through_episode: int
    seed: int
    report: FitReport | None = None

    def run(self, keep_going: KeepGoing | None = None) -> None:
        """Fits `model` in place. Raises what `DynamicsModel.fit` raises."""
        self.report = self.model.fit(self.transitions, self.seed, keep_going)


class OnlineLearner:
    """Collects transitions, fits a candidate, and publishes it when it predicts what it has not seen better.

    Each transition is predicted by the published model when it comes, before anything is trained on it: that is the
    prequential error. A candidate is published when its error on the newest transitions is not larger, of which only
    what it was not trained on counts: transitions that came during the fit, and for each member those that it held out.
    It goes on being trained either way, so a rejected one meets the same question again with more data; after
    `patience` rejections in a row training starts from new weights.

    `add`, `begin_fit` and `finish_fit` belong to one thread; `FitJob.run` may be in another.
    """

    def __init__(self, model: DynamicsModel, config: LearnerConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.published = model
        self.version = 0
        self.trained_through_episode = 0
        self.report: FitReport | None = None
        self.rejected_in_row = 0
        self.rejected = 0
        self.candidate_error = float("nan")
        self.recorded_error = float("nan")
        self._fresh_model = model.clone()
        self._candidate = model.clone()
        self._encoder = Encoder(model.spec)
        self._assembler = TransitionAssembler()
        self._buffer = ReplayBuffer(model.spec.state.size, model.spec.action.size, config.capacity)
        self._seen = 0  # transitions ever
        self._seen_at_fit = 0  # of which the newest fit began with
        self._ended_episode = 0
        self._episode_ended = False
        self._fitting = False
        self._before_fit = (0, False)  # _seen_at_fit and _episode_ended when the fit under way began
        self._scale = np.ones(model.spec.state.size)  # of the change of state, over the newest fit's data
        self._record = PrequentialRecord(self._encoder, config.error_window)

    @property
    def transitions(self) -> int:
        """Transitions in the replay buffer."""
        return len(self._buffer)

    @property
    def fitting(self) -> bool:
        """Whether a fit has begun and not been finished."""
        return self._fitting

    @property
    def prequential_error(self) -> float:
        """Mean normalised squared error of published models on the newest transitions, before training; NaN = none."""
        return self._record.error(self._scale)

    def add(self, time_step: TimeStep) -> Transition | None:
        """Takes the next time step; returns the transition that it completes, if it does."""
        transition = self._assembler.add(time_step)
        if transition is not None:
            frozen = 0 < self.config.last_episode < time_step.episode
            if self.version > 0:
                self._record.add(transition, FROZEN if frozen else self._seen, self.published)
            if frozen:
                return transition
            self._buffer.add(transition)
            self._seen += 1
        if time_step.step_type == StepType.LAST:
            self._ended_episode = time_step.episode
            self._episode_ended = True
        return transition

    def preload(self, transitions: Transitions) -> None:
        """Takes data that was gathered before; a fit is due then, as at the end of an episode."""
        self._buffer.extend(transitions)
        self._seen += len(transitions)
        self._episode_ended = True

    @property
    def due(self) -> bool:
        """Whether a fit should begin now."""
        new = self._seen - self._seen_at_fit
        if self._fitting or new == 0 or self.config.schedule == "never" or self._seen < self.config.minimum_transitions:
            return False
        if self.config.schedule == "once" and self._seen_at_fit > 0:
            return False
        if self._episode_ended:
            return True
        interval = self.config.first_fit if self._seen_at_fit == 0 else self.config.refit_interval
        return self.config.schedule == "steps" and new >= interval

    def begin_fit(self) -> FitJob:
        """Takes a snapshot of all data for a fit."""
        self._before_fit = (self._seen_at_fit, self._episode_ended)
        self._fitting = True
        self._episode_ended = False
        self._seen_at_fit = self._seen
        transitions = self._buffer.transitions()
        self._scale = self._change_scale(transitions)
        return FitJob(self._candidate, transitions, self._ended_episode, self.seed)

    def finish_fit(self, job: FitJob) -> bool:
        """Judges what a fit has made. Returns true when it is published: `version` has grown then."""
        assert job.report is not None, "the job has not been run"
        self._fitting = False
        self.report = job.report
        # Whoever waits for this episode's data to be learned from need not care whether the outcome was published.
        self.trained_through_episode = job.through_episode
        candidate = job.model
        if not all(np.isfinite(value).all() for value in candidate.state_arrays().values()):
            self._reject(np.inf)
            self._restart()
            return False
        if self.version > 0 and not self._is_better(candidate, job):
            return False
        self.rejected_in_row = 0
        self.published = candidate.clone()
        self.version += 1
        return True

    def abandon_fit(self) -> None:
        """Gives up a fit that failed or was interrupted; the next one starts from new weights."""
        self._fitting = False
        self._restart()

    def fit(self) -> bool:
        """A whole fit, synchronously. Returns true when its model is published."""
        job = self.begin_fit()
        job.run()
        return self.finish_fit(job)

    def _is_better(self, candidate: DynamicsModel, job: FitJob) -> bool:
        count = len(job.transitions)
        numbers = range(self._seen_at_fit - count, self._seen_at_fit)
        errors = self._record.compare(candidate, candidate.held_out(count, job.seed), numbers, self._scale)
        self.candidate_error, self.recorded_error = errors
        if not self.candidate_error > self.recorded_error:
            return True
        self._reject(self.candidate_error)
        if self.rejected_in_row >= self.config.patience:
            self._restart()
        return False

    def _reject(self, error: float) -> None:
        self.candidate_error = float(error)
        self.rejected += 1
        self.rejected_in_row += 1

    def _restart(self) -> None:
        self._candidate = self._fresh_model.clone()
        self.rejected_in_row = 0

    def _change_scale(self, transitions: Transitions) -> np.ndarray:
        """Standard deviation [state_size] of the change of state."""
        return safe_scale(self._encoder.change(transitions).std(axis=0))

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Everything that resuming needs: published model, candidate, data. See `information` for the rest.

        A fit under way is not part of it: who resumes begins it again, from the published model.
        """
        candidate = self.published if self._fitting else self._candidate
        data = self._buffer.transitions()
        arrays = {f"published/{name}": value for name, value in self.published.state_arrays().items()}
        arrays |= {f"candidate/{name}": value for name, value in candidate.state_arrays().items()}
        arrays |= {f"data/{name}": getattr(data, name) for name in ("state", "action", "next_state", "episode", "step")}
        arrays |= {f"record/{name}": value for name, value in self._record.arrays().items()}
        arrays["scale"] = self._scale
        return arrays

    def information(self) -> dict[str, Any]:
        """What of a checkpoint is not an array; JSON types."""
        seen_at_fit, episode_ended = self._before_fit if self._fitting else (self._seen_at_fit, self._episode_ended)
        return {
            "interface_hash": self.published.spec.interface_hash,
            "model": self.published.configuration_mapping(),
            "version": self.version,
            "trained_through_episode": self.trained_through_episode,
            "ended_episode": self._ended_episode,
            "episode_ended": episode_ended,
            "rejected_in_row": self.rejected_in_row,
            "seen": [self._seen, seen_at_fit],
        }

    def load(self, arrays: Mapping[str, np.ndarray], information: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint. Raises ModelError or ValueError when it is of another robot or kind of model."""
        expected = self.published.spec.interface_hash
        if information.get("interface_hash") != expected:
            raise ValueError(
                f"checkpoint: interface {str(information.get('interface_hash'))[:12]!r}, expected {expected[:12]!r}"
            )
        if information.get("model") != self.published.configuration_mapping():
            raise ValueError(
                f"checkpoint: model {information.get('model')}, expected {self.published.configuration_mapping()}"
            )
        groups: dict[str, dict[str, np.ndarray]] = {"published": {}, "candidate": {}, "data": {}, "record": {}}
        for name, value in arrays.items():
            group, _, rest = name.partition("/")
            if group in groups:
                groups[group][rest] = value
        self.published.load_arrays(groups["published"])
        self._candidate.load_arrays(groups["candidate"])
        self._buffer.extend(Transitions(**groups["data"]))
        self._scale = arrays["scale"]
        self._record.load(groups["record"])
        self.version = int(information["version"])
        self.trained_through_episode = int(information["trained_through_episode"])
        self._ended_episode = int(information["ended_episode"])
        self._episode_ended = bool(information["episode_ended"])
        self.rejected_in_row = int(information["rejected_in_row"])
        self._seen, self._seen_at_fit = (int(value) for value in information["seen"])
