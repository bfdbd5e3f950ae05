# SPDX-License-Identifier: Apache-2.0
"""Recomputes a recorded decision of a planner from the bag alone, as it was or with something changed."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mbrl_bringup.replay_decision import Decision, Occasion
from mbrl_bringup.replay_recording import RecordedPlan, ReplayError
from mbrl_core.config import ConfigurationError
from mbrl_core.messages import StepType
from mbrl_core.specs import Array
from mbrl_core.tasks import Task
from mbrl_dynamics.model import DynamicsModel
from mbrl_planner.controller import PredictiveController, Reply
from mbrl_planner.nodes.settings import PlannerSettings
from mbrl_planner.objective import ModelObjective
from mbrl_planner.registry import build_planner
from mbrl_planner.risk import check_risk


@dataclass(frozen=True)
class Circumstances:
    """With what each plan is made: the recorded model and task that were in force then, unless others are given."""

    settings: PlannerSettings
    model: DynamicsModel | None = None
    task: Task | None = None


@dataclass
class Recomputed:
    """The answer to the decision's time step, what it was planned for, and `state` [state_size] from where. `replies`
    are all answers by the number of their occasion.
    """

    reply: Reply
    objective: ModelObjective
    state: Array
    replies: Mapping[int, Reply]
    not_asked: frozenset[int] = frozenset()


def recompute(decision: Decision) -> Recomputed:
    """The recorded decision again: with what it was made with, from the beginning of its episode on.

    In lockstep, where the planner was asked and found no plan it fails here, too; where it was not asked it answers,
    which is taken back: then all begins anew without asking it there. In realtime each plan gets as many iterations as
    it had. Raises ReplayError.
    """
    not_asked: set[int] = set()
    while True:
        feed = _Feed(decision, Circumstances(decision.settings), as_recorded=True)
        taken_back = feed.run(not_asked)
        if not taken_back:
            return feed.result(frozenset(not_asked))
        not_asked |= taken_back


def recompute_changed(decision: Decision, circumstances: Circumstances, like: Recomputed) -> Recomputed:
    """The decision under other circumstances, from the beginning of the episode on; `like` tells when it was asked.

    The time steps are those that were recorded: the robot goes on as it did. No plan has a deadline. Raises
    ReplayError.
    """
    feed = _Feed(decision, circumstances, as_recorded=False)
    feed.run(like.not_asked)
    return feed.result(like.not_asked)


class _Feed:
    """Gives a planner the occasions of a decision one by one."""

    def __init__(self, decision: Decision, circumstances: Circumstances, as_recorded: bool) -> None:
        self._decision = decision
        self._circumstances = circumstances
        self._as_recorded = as_recorded
        self._controller: PredictiveController | None = None
        self._in_force: tuple[DynamicsModel, Task] | None = None
        self._replies: dict[int, Reply] = {}
        self._state: Array | None = None  # that the newest plan was made from
        torch.set_num_threads(1)
        recording = decision.recording
        plans = [item.plan for item in decision.occasions if item.plan is not None]
        self._models = {
            plan.order: recording.model_index(plan.message.model_version, plan.order)
            for plan in plans
            if circumstances.model is None
        }

    def run(self, not_asked: set[int] | frozenset[int]) -> set[int]:
        """Returns occasions, by their number, at which the planner answered though it had not been asked."""
        occasions = self._decision.occasions
        gap: set[int] = set()
        for number, occasion in enumerate(occasions):
            time_step = occasion.time_step
            if self._controller is not None and time_step.step_type != StepType.MID:
                self._controller.end_episode()
            if time_step.step_type == StepType.LAST or number in not_asked:
                continue
            if occasion.plan is not None:
                if gap:
                    return gap
                self._prepare(occasion.plan)
                self._ask(number)
            elif self._looks_for_failures and (gap or self._ask(number)):
                gap.add(number)  # once it answers, nobody asked; then nobody did in what follows of the gap
        return set()

    @property
    def _looks_for_failures(self) -> bool:
        return self._controller is not None and self._decision.settings.lockstep and self._as_recorded

    def result(self, not_asked: frozenset[int]) -> Recomputed:
        """What was answered to the last occasion."""
        assert self._controller is not None and self._state is not None
        objective, last = self._controller.planner.objective, len(self._decision.occasions) - 1
        assert isinstance(objective, ModelObjective)
        return Recomputed(self._replies[last], objective, self._state, self._replies, not_asked)

    def _prepare(self, plan: RecordedPlan) -> None:
        """Puts model and task in force as the node does: a new objective for each, the warm start stays."""
        recording, given = self._decision.recording, self._circumstances
        model = given.model
        if model is None:
            model = recording.model(self._models[plan.order], tuple(self._models.values()))
        task = given.task if given.task is not None else recording.task(plan)
        if self._in_force is not None and self._in_force[0] is model and self._in_force[1] is task:
            return
        self._in_force = model, task
        objective = make_objective(given.settings, model, task)
        if self._controller is None:
            settings = given.settings
            planner = build_planner(
                settings.kind, settings.planned_config, recording.spec, objective, settings.node.seed
            )
            self._controller = PredictiveController(planner, settings.node.replan)
        else:
            self._controller.planner.objective = objective

    def _ask(self, number: int) -> bool:
        """Whether it answers an occasion. Raises ReplayError where it is the last one and gets no answer."""
        assert self._controller is not None
        occasions = self._decision.occasions
        occasion, last = occasions[number], number == len(occasions) - 1
        controller, settings, time_step = self._controller, self._circumstances.settings, occasion.time_step
        delay = self._delay(occasion)
        if self._as_recorded and not settings.lockstep and occasion.plan is not None:
            iterations = max(occasion.plan.message.iterations, 0 if controller.planner.has_answer else 1)
            controller.planner.config = dataclasses.replace(settings.planned_config, iterations=iterations)
        try:
            self._replies[number] = controller.answer(time_step, delay)
            if last:
                self._state = controller.state_at_start(time_step, delay)
        except Exception as error:  # whatever a planner raises, as in planner_node
            controller.reset()
            if last:
                raise ReplayError(
                    f"{settings.kind} finds no plan for step {time_step.step} of episode {time_step.episode}: {error}"
                ) from error
            return False
        return True

    def _delay(self, occasion: Occasion) -> int:
        """Steps until the first row: as it was, since an answer can only be for what it can reach."""
        if self._decision.settings.lockstep or occasion.plan is None:
            return max(0, self._circumstances.settings.node.delay_steps)
        message = occasion.plan.message
        return max(0, message.start_step - message.answers_step)


def make_objective(settings: PlannerSettings, model: DynamicsModel, task: Task) -> ModelObjective:
    """The objective of a planner of these settings. Raises ReplayError where they do not go together."""
    config = settings.planned_config
    try:
        if config.particles % model.members:
            raise ConfigurationError(
                f"model: {model.members} members, expected a divisor of parameter 'planner.particles', which is"
                f" {config.particles}"
            )
        check_risk(config, config.propagation, config.particles, model)
        return ModelObjective(
            model, task, config.particles, config.propagation, config, config.precision, config.device
        )
    except ConfigurationError as error:
        raise ReplayError(str(error)) from None
