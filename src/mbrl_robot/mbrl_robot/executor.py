# SPDX-License-Identifier: Apache-2.0
"""Plans keyed by step: which are taken, and whose row serves a step."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from mbrl_core.delay import whole_and_fraction
from mbrl_core.messages import Plan
from mbrl_core.specs import Array, RobotSpec, state_difference

# planner_b is the place for a second planner that is to replace the first while the robot moves; trainer executes what
# is being trained, policy what has been; delay_probe measures how late the robot answers.
CONTROLLERS = ("planner", "planner_b", "explore", "policy", "trainer", "teleop", "delay_probe")
SAFE = "safe"
# Between episodes, on hardware: the way back to the start.
HOMING = "homing"
# Who is active when robot_node has ended: nobody, and the silence that follows is no accident.
NOBODY = "none"


class PlanRefused(ValueError):
    """A plan is refused. `reason` is a short kind for counting, the text says what came and what was expected."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class AddressedPlan:
    """A plan and what it is for: row i applies to step `start_step` + i of `episode`, answering `answers_step`.

    `trusted_rows`: how many of its rows the executor finds certain enough; None: all.
    """

    plan: Plan
    controller: str
    episode: int
    start_step: int
    answers_step: int
    trusted_rows: int | None = None

    def is_trusted_at(self, step: int) -> bool:
        """Whether the row of `step` is certain enough."""
        return self.trusted_rows is None or step - self.start_step < self.trusted_rows

    def has_row(self, step: int) -> bool:
        """Whether the plan says what to do at `step`."""
        return self.start_step <= step < self.start_step + len(self.plan.actions)


@dataclass(frozen=True)
class Row:
    """An action [action_size], before limits, whose it is, and how many steps old its state is."""

    action: Array
    controller: str
    age: int


class PlanExecutor:
    """Keeps the plans of each controller and picks the row of a step.

    The plan in force at step k is the newest whose start has come; a plan for the future stays pending and evicts
    nothing before its start. A row of step k answering step j is valid while k - j <= max_open_loop_steps. With
    feedback gains u = u_t + K_t (x - x_t), the angles of the difference wrapped. Limits are the guard's part.

    `largest_std` [state_size] or empty bounds the spread that a plan predicts (uncertainty stop): from the first row on
    at whose end a state is more uncertain, the plan has no valid row, and neither has an older one of the same
    controller. A plan that predicts no spread is not held to it.
    """

    def __init__(self, spec: RobotSpec, chain: tuple[str, ...], largest_std: Array | None = None) -> None:
        self._largest_std = largest_std if largest_std is not None and np.isfinite(largest_std).any() else None
        # Plans of which some row was too uncertain.
        self.uncertain_plans = 0
        self._spec = spec
        self._chain = chain
        self._oldest = spec.max_open_loop_steps
        whole, fraction = whole_and_fraction(spec)
        # A row has acted so many steps later than it would on a robot without delay.
        self._acts_later = whole + (fraction > 0.0)
        self.controllers = tuple(dict.fromkeys((*CONTROLLERS, *chain)))
        self.selected = chain[0] if chain else SAFE
        self.episode = 0
        self._plans: dict[str, list[AddressedPlan]] = {name: [] for name in self.controllers}

    @property
    def chain(self) -> tuple[str, ...]:
        """Controllers in the order in which they serve; the robot's safe action is always last."""
        if self.selected == SAFE:
            return (SAFE,)
        return tuple(dict.fromkeys((self.selected, *self._chain, SAFE)))

    def select(self, controller: str) -> None:
        """Selects who moves the robot. Raises ValueError that lists the known controllers."""
        self.check_controller(controller)
        self.selected = controller

    def check_controller(self, controller: str) -> None:
        """Raises ValueError that lists the known controllers."""
        if controller not in (*self.controllers, SAFE):
            known = ", ".join((*self.controllers, SAFE))
            raise ValueError(f"unknown controller {controller!r}, expected one of {known}")

    def begin_episode(self, episode: int) -> None:
        """Forgets all plans: those to come must be of `episode`."""
        self.episode = episode
        for plans in self._plans.values():
            plans.clear()

    def accept(self, plan: AddressedPlan, newest_step: int, next_step: int) -> None:
        """Takes a plan while TimeStep `newest_step` is the newest published and `next_step` the next to get an action.

        Raises PlanRefused: unknown_controller, other_episode, wrong_shape, non_finite, from_the_future, far_ahead,
        out_of_date, superseded.
        """
        source = f"plan from {plan.controller!r}"
        if plan.controller not in self._plans:
            known = ", ".join(self.controllers)
            raise PlanRefused("unknown_controller", f"{source}: unknown controller, expected one of {known}")
        if plan.episode != self.episode:
            raise PlanRefused("other_episode", f"{source}: episode {plan.episode}, expected {self.episode}")
        self._check_content(source, plan.plan)
        if plan.answers_step > newest_step:
            raise PlanRefused(
                "from_the_future", f"{source}: answers step {plan.answers_step}, expected at most {newest_step}"
            )
        last_valid = plan.answers_step + self._oldest
        if plan.start_step > last_valid:
            raise PlanRefused(
                "far_ahead",
                f"{source}: starts at step {plan.start_step}, expected at most {last_valid}, {self._oldest} after"
                " the step that it answers",
            )
        last_row = min(plan.start_step + len(plan.plan.actions) - 1, last_valid)
        if last_row < next_step:
            raise PlanRefused(
                "out_of_date", f"{source}: its last valid row is for step {last_row}, expected at least {next_step}"
            )
        plans = self._plans[plan.controller]
        if plans and plan.answers_step < plans[-1].answers_step:
            raise PlanRefused(
                "superseded",
                f"{source}: answers step {plan.answers_step}, expected at least {plans[-1].answers_step} as before",
            )
        # The same step answered again (an anytime planner's better answer) replaces the earlier, from its start on.
        kept = [
            other
            for other in plans
            if (other.answers_step, other.start_step) < (plan.answers_step, plan.start_step)
            and next_step - other.answers_step <= self._oldest
        ]
        self._plans[plan.controller] = [*kept, self._with_trust(plan)]

    def choose(self, step: int, state: Array, newest_answer: int | None = None) -> Row | None:
        """Row that serves `step` in `state` [state_size], from the first in the chain that has one, else None.

        With `newest_answer`, plans that answer a later step do not count yet (lockstep with delay).
        """
        for controller in self.chain[:-1]:
            plan = self._in_force(controller, step, newest_answer)
            if plan is None:
                continue
            action = self._action(plan, step - plan.start_step, state)
            # Gains can overflow where the plan itself was finite.
            if np.isfinite(action).all():
                return Row(action, controller, step - plan.answers_step)
        return None

    def planned(self, step: int, newest_answer: int | None = None) -> Array | None:
        """Feed-forward action [action_size] that `step` gets if nothing newer comes; None when no plan has it."""
        for controller in self.chain[:-1]:
            plan = self._in_force(controller, step, newest_answer)
            if plan is not None:
                return plan.plan.actions[step - plan.start_step]
        return None

    def answered(self, controller: str, step: int) -> bool:
        """Whether `controller` has answered `step` with a plan that was taken."""
        return any(plan.answers_step == step for plan in self._plans.get(controller, ()))

    def is_uncertain(self, controller: str, step: int) -> bool:
        """Whether `controller` has a row for `step` that is not trusted."""
        newest = next((plan for plan in reversed(self._plans.get(controller, ())) if plan.has_row(step)), None)
        return newest is not None and not newest.is_trusted_at(step)

    def _with_trust(self, plan: AddressedPlan) -> AddressedPlan:
        if self._largest_std is None or plan.plan.predicted_std is None:
            return plan
        # The spread before row 0 is that of the state that was measured.
        exceeds = (plan.plan.predicted_std[1:] > self._largest_std).any(axis=1)
        if not exceeds.any():
            return plan
        self.uncertain_plans += 1
        return dataclasses.replace(plan, trusted_rows=max(int(exceeds.argmax()) - self._acts_later, 0))

    def _in_force(self, controller: str, step: int, newest_answer: int | None) -> AddressedPlan | None:
        for plan in reversed(self._plans[controller]):
            if newest_answer is not None and plan.answers_step > newest_answer:
                continue
            if plan.has_row(step) and step - plan.answers_step <= self._oldest:
                # An older plan knew less: it does not stand in for one that is too uncertain.
                return plan if plan.is_trusted_at(step) else None
        return None

    def _action(self, plan: AddressedPlan, index: int, state: Array) -> Array:
        content = plan.plan
        action = content.actions[index]
        if content.gains is None or content.predicted_states is None:
            return action
        # A gain of 1e308 is finite and its product is not: that is caught by the caller, not printed.
        with np.errstate(over="ignore", invalid="ignore"):
            error = state_difference(state, content.predicted_states[index], self._spec.state.angular)
            return action + content.gains[index] @ error

    def _check_content(self, source: str, plan: Plan) -> None:
        rows, states, actions = len(plan.actions), self._spec.state.size, self._spec.action.size
        shapes = {
            "actions": (rows, actions),
            "predicted_states": (rows + 1, states),
            "predicted_std": (rows + 1, states),
            "gains": (rows, actions, states),
        }
        for name, shape in shapes.items():
            values = getattr(plan, name)
            if values is None:
                continue
            if values.shape != shape:
                raise PlanRefused("wrong_shape", f"{source}: {name} {list(values.shape)}, expected {list(shape)}")
            if not np.isfinite(values).all():
                raise PlanRefused("non_finite", f"{source}: {name} has non-finite numbers")
