# SPDX-License-Identifier: Apache-2.0
"""Recomputes all decisions of an episode and says how many come out as they were taken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mbrl_bringup.replay import recompute
from mbrl_bringup.replay_compare import differences, published
from mbrl_bringup.replay_decision import decision_of
from mbrl_bringup.replay_recording import RecordedEpisode, Recording, ReplayError
from mbrl_ros.conversions import plan_from_message


@dataclass(frozen=True)
class EpisodeCheck:
    """Of one planner in one episode: `exact` of `plans` come out bit for bit; `largest` is the largest difference of an
    action, normalised (NaN: some are of other steps); `doubts` are reasons for which that may be.
    """

    episode: int
    controller: str
    plans: int
    exact: int
    largest: float
    doubts: Sequence[str]


def check_episodes(recording: Recording, number: int | None = None) -> Iterator[EpisodeCheck]:
    """Every planner of every episode, or of the one that is named. Raises ReplayError, also when there is none."""
    episodes = recording.episodes if number is None else [recording.episode(number)]
    checked = False
    for episode in episodes:
        for planner in dict.fromkeys(plan.planner for plan in episode.plans):
            if recording.is_planner(planner):
                checked = True
                yield _check(recording, episode, planner)
    if not checked:
        where = "in it" if number is None else f"in episode {number}"
        raise ReplayError(f"{recording.path}: {where} there is no plan of a planner whose settings are recorded")


def _check(recording: Recording, episode: RecordedEpisode, planner: tuple[str, str]) -> EpisodeCheck:
    answers = episode.answers(planner)
    there = {message.step for message in episode.time_steps}
    last = max((step for step in answers if step in there), default=None)
    if last is None:
        raise ReplayError(f"{recording.path}: no time step that {planner[0]!r} answered in episode {episode.number}")
    decision = decision_of(recording, episode, answers[last])
    replies = recompute(decision).replies
    exact, largest, plans = 0, 0.0, 0
    for index, occasion in enumerate(decision.occasions):
        plan = occasion.plan
        if plan is None or answers.get(occasion.time_step.step) is not plan:
            continue
        plans += 1
        if index not in replies:
            largest = float("nan")
            continue
        reply = replies[index]
        compared = differences(plan_from_message(plan.message, recording.spec), published(reply, decision.settings))
        same = all(item.same_bits for item in compared) and reply.start_step == plan.message.start_step
        exact += same
        largest = max(largest, compared[0].largest)
    return EpisodeCheck(episode.number, planner[0], plans, exact, largest, decision.doubts)


def text(check: EpisodeCheck) -> str:
    """A line, and why exactness is not promised where it is not."""
    line = f"episode {check.episode}, {check.controller}: {check.exact} of {check.plans} plans bit for bit"
    if check.exact < check.plans:
        line += f", the largest difference of an action is {check.largest:.3g}"
    return "\n".join([line, *(f"  - {doubt}" for doubt in check.doubts)])
