# SPDX-License-Identifier: Apache-2.0
"""Finds a recorded decision of a planner, and all that it depends on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mbrl_bringup.replay_recording import RecordedEpisode, RecordedPlan, Recording, ReplayError
from mbrl_core.messages import Plan, TimeStep
from mbrl_planner.nodes.settings import PlannerSettings, computation
from mbrl_planner.planner import Planner
from mbrl_planner.registry import PLANNERS
from mbrl_ros.conversions import MessageError, plan_from_message


@dataclass(frozen=True)
class Occasion:
    """A time step of the planner's life and the plan that it answered it by; None where it gave none."""

    time_step: TimeStep
    plan: RecordedPlan | None


@dataclass(frozen=True)
class Decision:
    """A recorded decision with all that came before it and counts; `doubts` are reasons why it may come out otherwise
    when it is recomputed."""

    recording: Recording
    episode: RecordedEpisode
    recorded: RecordedPlan
    plan: Plan
    settings: PlannerSettings
    occasions: Sequence[Occasion]
    doubts: Sequence[str]

    @property
    def time_step(self) -> TimeStep:
        """The one that was answered."""
        return self.occasions[-1].time_step

    @property
    def model_index(self) -> int:
        """Which of the recorded models was in force."""
        return self.recording.model_index(self.recorded.message.model_version, self.recorded.order)


def find_decision(
    recording: Recording, episode: int | None = None, step: int = 0, controller: str | None = None
) -> Decision:
    """The plan that answered `step`, of the controller that is named or else the planner whose actions were executed.

    Raises ReplayError when there is no such step, or no plan of a planner for it.
    """
    chosen = recording.episode(episode)
    if step not in {message.step for message in chosen.time_steps}:
        numbers = [message.step for message in chosen.time_steps]
        raise ReplayError(
            f"{recording.path}: step {step} of episode {chosen.number} is not recorded; there are {len(numbers)} steps,"
            f" {min(numbers)} to {max(numbers)}"
        )
    return decision_of(recording, chosen, _choose(recording, chosen, step, controller))


def decision_of(recording: Recording, chosen: RecordedEpisode, plan: RecordedPlan) -> Decision:
    """The decision that one plan of an episode is. Raises ReplayError."""
    settings, told = recording.settings(plan.planner)
    try:
        content = plan_from_message(plan.message, recording.spec)
    except MessageError as error:
        raise ReplayError(f"{recording.path}: {error}") from None
    episodes = [chosen]
    if _learns(settings):
        # What it learned from earlier episodes is in no message, so it has to learn that again.
        life = recording.episodes[: recording.episodes.index(chosen) + 1]
        episodes = life[next(index for index, item in enumerate(life) if item.answers(plan.planner)) :]
    occasions = _occasions(recording, episodes, plan)
    doubts = [*_gaps(recording, episodes, settings, occasions), *_other_bits(settings, told)]
    return Decision(recording, chosen, plan, content, settings, occasions, doubts)


def _choose(recording: Recording, episode: RecordedEpisode, step: int, controller: str | None) -> RecordedPlan:
    where = f"{recording.path}: step {step} of episode {episode.number}"
    given = [plan for plan in episode.plans if plan.message.answers_step == step]
    wanted = [plan for plan in given if controller in (None, plan.message.controller)]
    if not wanted:
        others = ", ".join(sorted({plan.message.controller for plan in given})) or "nobody"
        by = f" by {controller!r}" if controller is not None else ""
        raise ReplayError(f"{where} has no plan{by} that answers it; answered by: {others}")
    planners = [plan for plan in wanted if recording.is_planner(plan.planner)]
    if not planners:
        names = ", ".join(repr(plan.message.controller) for plan in wanted)
        with_plans = sorted({plan.message.answers_step for plan in episode.plans if recording.is_planner(plan.planner)})
        known = f"steps {with_plans[0]} to {with_plans[-1]}" if with_plans else "no step"
        raise ReplayError(
            f"{where} was answered by {names}, expected a planner whose settings are recorded; in this episode planners"
            f" answered {known}"
        )
    later = (message for message in episode.time_steps if message.step == step + 1)
    executed = next((message.controller for message in later), "")
    return next((plan for plan in planners if plan.message.controller == executed), planners[-1])


def _learns(settings: PlannerSettings) -> bool:
    """Whether a planner of this kind keeps more than an episode's warm start."""
    return PLANNERS.get(settings.kind).implementation.end_episode is not Planner.end_episode


def _occasions(recording: Recording, episodes: Sequence[RecordedEpisode], last: RecordedPlan) -> list[Occasion]:
    """From the first of the episodes to the time step that `last` answers, less the time steps that nodes refuse."""
    occasions = []
    for episode in episodes:
        answers = episode.answers(last.planner)
        for message in episode.time_steps:
            try:
                time_step = recording.time_step(message)
            except ReplayError:
                if episode is episodes[-1] and message.step == last.message.answers_step:
                    raise
                continue
            occasions.append(Occasion(time_step, answers.get(message.step)))
            if episode is episodes[-1] and message.step == last.message.answers_step:
                break
    return occasions


def _gaps(
    recording: Recording,
    episodes: Sequence[RecordedEpisode],
    settings: PlannerSettings,
    occasions: Sequence[Occasion],
) -> list[str]:
    """What is not in the bag although plans may depend on it, in words."""
    found = []
    if not settings.lockstep:
        found.append(
            "mode realtime: plans ended by a deadline; here each gets as many iterations, of all their candidates"
        )
    if not all(episode.begins for episode in episodes):
        found.append("the bag begins within the episode: what was planned before is not in it")
    last = occasions[-1]
    assert last.plan is not None
    there = {(item.time_step.episode, item.time_step.step) for item in occasions}
    answered = {(episode.number, step) for episode in episodes for step in episode.answers(last.plan.planner)}
    lost = sum(item < (last.time_step.episode, last.time_step.step) for item in answered - there)
    if lost:
        found.append(f"{lost} time steps that the planner answered are not in the bag")
    earliest = recording.episodes[0].number
    if _learns(settings) and earliest > 1:
        found.append(f"{settings.kind} learns from episode to episode; the bag begins with episode {earliest}")
    return found


def _other_bits(settings: PlannerSettings, told: bool) -> list[str]:
    """Why the last bits of a sum may be others here, in words."""
    if not told:
        return ["settings are those of run.json: the bag does not say what they were computed with"]
    torch.set_num_threads(1)  # as planner_node does
    here = computation(settings.config)
    return [
        f"computed with other {name}: {here.get(name, 'unknown')} here, {value} there"
        for name, value in settings.computation.items()
        if here.get(name) != value
    ]
