# SPDX-License-Identifier: Apache-2.0
"""The interface of all planners: warm start, deadline, and an answer that is always within the limits."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mbrl_core.config import parameter
from mbrl_core.messages import Plan
from mbrl_core.random_streams import generator, stream_seed
from mbrl_core.specs import Array, RobotSpec
from mbrl_dynamics.closed_loop import BatchPolicy
from mbrl_dynamics.propagation import PRECISIONS, PROPAGATIONS
from mbrl_planner.deadline import DeadlineKeeper
from mbrl_planner.errors import OutOfTime, PlanningError
from mbrl_planner.risk import RiskConfig

__all__ = ["Actions", "Answer", "Objective", "OutOfTime", "Planner", "PlannerConfig", "PlanningError"]

if TYPE_CHECKING:
    from mbrl_planner.expansion import TrajectoryProblem

Rows = TypeVar("Rows", NDArray[np.float32], NDArray[np.float64])

Actions = NDArray[np.float32]
"""float32 action sequences [..., horizon, action_size] in normalised units."""


class Objective(ABC):
    """What a planner maximises: the expected sum of rewards of an action sequence.

    `divisible`: whether a batch may be evaluated part by part, see `part_of_batch`. While `keep_going` is set, an
    objective that can stop in the middle of its work asks it now and then, and raises OutOfTime once it says no.
    """

    divisible: ClassVar[bool] = False
    keep_going: Callable[[], bool] | None = None

    def start(self, seed: int) -> None:  # noqa: B027 - an objective without randomness has nothing to do
        """Starts the random stream of one plan: the same seed and the same calls give the same returns."""

    @abstractmethod
    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        """Returns [N] (float32) of `actions` [N, H, action_size] (float32, normalised) from `state` [state_size].

        A sequence whose return cannot be computed (non-finite prediction) gets -inf.
        """

    def part_of_batch(self, first: int, begins: bool) -> None:  # noqa: B027 - only divisible objectives are told
        """The next call evaluates the candidates `first`, `first` + 1, ... of a batch; with `begins` it is the batch's
        first call. All calls of a batch use the same random numbers, and `prediction` counts in the whole batch.
        """

    def with_gradient(self, state: Array, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns [N] and their gradient [N, H, action_size] with respect to `actions`, arguments as for a call.

        Raises PlanningError where an objective cannot be differentiated.
        """
        raise PlanningError(f"{type(self).__name__} has no gradient, which this kind of planner needs")

    def closed_loop(
        self, state: Array, policy: BatchPolicy, count: int, horizon: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns [N] of `count` = N policies from `state` over `horizon` steps, and the actions [N, H, action_size]
        that they take, mean over particles; returns as for a call.

        Raises PlanningError where an objective cannot answer the actions with states step by step.
        """
        raise PlanningError(f"{type(self).__name__} cannot roll out a policy, which this kind of planner needs")

    def trajectory_problem(self, spec: RobotSpec) -> "TrajectoryProblem":
        """What trajectory optimisers see, within the action limits of `spec`.

        Raises PlanningError where an objective cannot be expanded.
        """
        raise PlanningError(f"{type(self).__name__} cannot be expanded, which this kind of planner needs")

    def prediction(self, index: int) -> tuple[Array, Array] | None:
        """Mean and standard deviation [H + 1, state_size] of the states of candidate `index` of the newest call;
        None when the objective keeps no states."""
        return None

    @abstractmethod
    def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
        """Mean and standard deviation [H + 1, state_size] of the states under `actions` [H, action_size]."""

    def advance(self, state: Array, actions: Array) -> Array:
        """Expected state [state_size] after `actions` [n, action_size], n >= 1: delay compensation."""
        return self.predict(state, actions)[0][-1]


@dataclass(frozen=True)
class PlannerConfig(RiskConfig):
    """Parameters that all planners share, those of risk included."""

    horizon: int = parameter(25, "steps that a plan looks ahead", minimum=1, maximum=2000)
    iterations: int = parameter(
        3, "optimiser iterations of a plan; fewer are done when the deadline comes first", minimum=1, maximum=1000
    )
    population_size: int = parameter(60, "action sequences tried in an iteration", minimum=2, maximum=100_000)
    particles: int = parameter(
        5, "model particles of each action sequence; a multiple of the model's members", minimum=1, maximum=1000
    )
    propagation: str = parameter(
        "tsinf",
        "uncertainty propagation of PETS (arXiv:1805.12114): ts1 draws a member at every step, tsinf keeps it, ds draws"
        " from the members' mixture moments, mm from those over particles too, mean is the members' mean without noise",
        choices=PROPAGATIONS,
    )
    precision: str = parameter(
        "auto",
        "of the products in the model's hidden layers: float32, bfloat16, or auto for bfloat16 where the processor"
        " multiplies it faster; elsewhere bfloat16 is float32",
        choices=PRECISIONS,
    )
    device: str = parameter("cpu", "where the model is rolled out", choices=("cpu", "cuda"))


@dataclass
class Answer:
    """What an optimiser would answer now: actions [H, action_size], their expected return, predicted states, and
    feedback gains [H, action_size, state_size] about them."""

    actions: Actions
    predicted_return: float = float("nan")
    prediction: tuple[Array, Array] | None = None
    gains: Array | None = None


class Planner(ABC):
    """Optimises action sequences through an objective.

    Subclasses implement `_begin`, `_iterate` and `_answer`; this class owns the warm start, the random stream,
    the deadline and the checks. `objective` may be replaced between plans (a new model or task): the warm start stays.
    `clock` is in the seconds of `deadline`; it is an argument so that tests need not wait. An iteration evaluates its
    candidates by `_evaluate`, which keeps to the deadline (DeadlineKeeper says how); whatever else takes long in one
    goes through the keeper's `piece`. What an iteration changes in the planner's answer it changes after that: it may
    end there by OutOfTime.
    """

    kind: ClassVar[str] = ""
    in_parts: ClassVar[bool] = True
    """Whether a part of an iteration's candidates can be learned from, else an iteration is done as a whole."""

    def __init__(
        self,
        config: PlannerConfig,
        spec: RobotSpec,
        objective: Objective,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.spec = spec
        self.objective = objective
        self.seed = seed
        self._clock = clock
        self._time = DeadlineKeeper(clock)
        self.lower = np.asarray(spec.action.lower, dtype=np.float32)
        self.upper = np.asarray(spec.action.upper, dtype=np.float32)
        self.centre = 0.5 * (self.lower + self.upper)
        self.half_range = 0.5 * (self.upper - self.lower)
        self.random: np.random.Generator = np.random.default_rng(seed)
        self._previous: tuple[int, int] | None = None
        self._previous_actions: Actions | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets the warm start. Subclasses add what they keep from plan to plan."""
        self._previous = None
        self._previous_actions = None

    def end_episode(self) -> None:
        """Ends an episode: forgets the warm start. Planners that learn from what they planned do so here."""
        self.reset()

    @property
    def has_answer(self) -> bool:
        """Whether there is a last plan to go on from."""
        return self._previous_actions is not None

    def expected_seconds(self) -> float:
        """Time that a whole plan is expected to take, as measured; 0 before the first one."""
        return self._time.expected_seconds(self.config.iterations)

    def warm_up(self, seconds: float = 0.5) -> None:
        """Makes two plans from the zero state, each of about `seconds` at most, and forgets them: a process's
        first plan takes several times as long as the others.

        Afterwards `expected_seconds` holds. Raises what `plan` raises.
        """
        for _ in range(2):
            self.reset()
            self._time.forget()
            with self._time.calibration():
                self.plan(np.zeros(self.spec.state.size), self._clock() + seconds)
        self.reset()

    def plan(self, state: Array, deadline: float | None = None, step_key: tuple[int, int] = (0, 0)) -> Plan:
        """Plans from `state` [state_size].

        `step_key` is (episode, step) of the first row: it names the random stream and tells how many steps have
        passed since the last plan, by which the warm start is shifted. With a `deadline` (seconds of `clock`) the
        best found by then is returned: with fewer iterations than configured, the last perhaps of fewer candidates;
        where there is time for none, the last plan shifted. Without a deadline all iterations are done and the plan is
        a function of the arguments and the earlier plans alone.

        Raises ValueError when the state has another size or non-finite numbers, PlanningError when no candidate has a
        finite return, and OutOfTime when there is no time for a single candidate and no last plan.
        """
        state = np.asarray(state, dtype=np.float64)
        if state.shape != (self.spec.state.size,) or not np.isfinite(state).all():
            raise ValueError(f"state: got {state}, expected {self.spec.state.size} finite numbers")
        episode, step = step_key
        passed = self._steps_passed(episode, step)
        warm = self._previous_actions is not None
        self.random = generator(self.seed, episode, step, "planner")
        self.objective.start(stream_seed(self.seed, episode, step, "planner_objective"))
        iterations, objective = 0, self.objective
        self._time.begin(deadline, objective)
        try:
            with torch.inference_mode():
                self._begin(passed)
                iterations = self._time.iterate(
                    self.config.iterations,
                    partial(self._iterate, state),
                    objective.divisible and self.in_parts,
                    warm,
                    self._done,
                )
                answer = self._answer() if iterations else self._unchanged(passed)
        finally:
            self._time.end(objective, iterations > 0)
        self._previous = (episode, step)
        self._previous_actions = answer.actions
        # In double precision a single-precision limit such as 0.1 would lie outside of itself.
        actions = np.clip(answer.actions.astype(np.float64), self.spec.action.lower, self.spec.action.upper)
        mean, deviation = answer.prediction if answer.prediction is not None else (None, None)
        return Plan(
            actions=actions,
            predicted_states=mean,
            predicted_std=deviation,
            gains=answer.gains,
            predicted_return=answer.predicted_return,
            iterations=iterations,
            deadline_missed=deadline is not None and self._clock() > deadline,
        )

    def _steps_passed(self, episode: int, step: int) -> int:
        """Steps since the previous plan; forgets a warm start that is of another episode or no longer overlaps."""
        if self._previous is None:
            return 0
        passed = step - self._previous[1]
        if self._previous[0] != episode or not 0 <= passed < self.config.horizon:
            self.reset()
            return 0
        return passed

    def _central_actions(self) -> Actions:
        """[H, action_size] in the middle of the limits: the mean before anything is known."""
        return np.tile(self.centre, (self.config.horizon, 1))

    @staticmethod
    def _shifted(actions: Rows, passed: int, fill: NDArray[np.floating[Any]] | float | None = None) -> Rows:
        """`actions` [..., H, size] moved forward by `passed` < H steps; the steps that come into view get `fill`, by
        default the last row.

        The mean of a search is to start from `fill`: the last row is chosen for one step's reward alone, so it lies at
        a limit often, from where a distribution within the limits finds no way back.
        """
        if passed == 0:
            return actions
        tail = np.repeat(actions[..., -1:, :], passed, axis=-2)
        if fill is not None:
            tail[...] = fill
        return np.concatenate([actions[..., passed:, :], tail], axis=-2)

    def _evaluate(
        self, state: Array, candidates: Actions, last_first: bool = False, within: float | None = None
    ) -> NDArray[np.float32]:
        """Returns [N] of candidates [N, H, action_size]; -inf for those that a deadline left no time for: the last
        ones, or with `last_first` the first ones. With `within` they get this share of the time left, and one will do.

        Raises PlanningError when none is finite, and OutOfTime when too few were evaluated to learn from.
        """

        def evaluate(sequences: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.objective(state, sequences),)

        sequences = torch.from_numpy(candidates)
        (returns,) = self._time.evaluate(evaluate, sequences, self.objective, last_first, within=within)
        return self._check_returns(returns.numpy(), state)

    def _evaluate_with_gradient(self, state: Array, candidates: Actions) -> tuple[NDArray[np.float32], Actions]:
        """As `_evaluate`, and the gradient [N, H, action_size], which is zero where time ran out."""
        evaluate = partial(self.objective.with_gradient, state)
        sequences = torch.from_numpy(candidates)
        returns, gradient = self._time.evaluate(evaluate, sequences, self.objective, name="gradient")
        return self._check_returns(returns.numpy(), state), gradient.numpy()

    def _evaluate_policies(
        self, state: Array, make: Callable[[torch.Tensor], BatchPolicy], candidates: Actions
    ) -> tuple[NDArray[np.float32], Actions]:
        """As `_evaluate`, of the policies that `make` makes of candidates [N, ...]; and their actions
        [N, H, action_size], which are zero where time ran out.
        """

        def evaluate(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.objective.closed_loop(state, make(part), len(part), self.config.horizon)

        sequences = torch.from_numpy(candidates)
        returns, actions = self._time.evaluate(evaluate, sequences, self.objective, name="closed_loop")
        return self._check_returns(returns.numpy(), state), actions.numpy()

    def _of_evaluated(self, count: int) -> int:
        """How many of the evaluated candidates are to be learned from where it is `count` of all."""
        return max(1, math.ceil(count * self._time.share))

    @staticmethod
    def _check_returns(returns: NDArray[Any], state: Array) -> NDArray[np.float32]:
        """`returns` [N]. Raises PlanningError when none is finite."""
        if not np.isfinite(returns).any():
            raise PlanningError(
                f"none of {len(returns)} candidates has a finite return from state"
                f" {np.array2string(state, precision=3)}"
            )
        return returns

    def _unchanged(self, passed: int) -> Answer:
        """The last plan `passed` steps later, where there was no time at all. Raises OutOfTime without one."""
        if self._previous_actions is None:
            raise OutOfTime("the deadline left no time for a first candidate, and there is no earlier plan")
        return Answer(self._shifted(self._previous_actions, passed))

    def _done(self) -> bool:
        """Whether further iterations would change nothing."""
        return False

    @abstractmethod
    def _begin(self, passed: int) -> None:
        """Prepares a plan; what is kept of the last one is shifted by `passed` steps."""

    @abstractmethod
    def _iterate(self, state: Array, index: int, last: bool) -> None:
        """Does iteration `index`; `last` when no other is expected to follow."""

    @abstractmethod
    def _answer(self) -> Answer:
        """The best answer after at least one iteration."""
