# SPDX-License-Identifier: Apache-2.0
"""Planning for a robot that acts late: from where it will act, through MuJoCo itself."""

import dataclasses

import numpy as np
import pytest
from simulated import SimulatedObjective, robot_and_task

from mbrl_core.delay import commands_on_the_way
from mbrl_core.messages import Plan, TimeStep
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_core.tasks import Task
from mbrl_core.trial import run_trial
from mbrl_planner.controller import PredictiveController
from mbrl_planner.planner import PlanningError
from mbrl_planner.robot_delay import approach
from mbrl_robot.delayed_simulation import DelayedSimulation
from mbrl_robot.simulation import MujocoSimulation

STEPS = 30


def late_robot(periods: float) -> tuple[Robot, Task]:
    robot, task = robot_and_task("cartpole")
    delay = periods * robot.spec.period
    spec = dataclasses.replace(robot.spec, delay=delay)
    simulation = dataclasses.replace(robot.simulation, command_delay=delay)
    return dataclasses.replace(robot, spec=spec, simulation=simulation), task


class Recorded:
    """Answers with given actions and keeps the time steps."""

    def __init__(self, actions: Array) -> None:
        self.actions, self.time_steps = actions, []

    def __call__(self, time_step: TimeStep) -> Plan:
        self.time_steps.append(time_step)
        return Plan(self.actions[time_step.step][None])


@pytest.mark.parametrize("periods", [1.0, 1.5, 2.25])
def test_approach_is_where_the_command_acts(periods: float) -> None:
    """Predicted before a command is sent, compared with the true state when it begins to act."""
    robot, task = late_robot(periods)
    actions = np.random.default_rng(3).uniform(-1.0, 1.0, (STEPS, 1))
    controller = Recorded(actions)
    simulation = DelayedSimulation(MujocoSimulation(robot), robot)
    run_trial(simulation, controller, task, robot.spec, STEPS - 3)
    objective = SimulatedObjective(robot, task)
    # The same episode at a hundredth of the control period.
    fine = MujocoSimulation(robot)
    fine.reset(controller.time_steps[0].state)
    tick, true_states = robot.spec.period / 100, []
    for index in range(100 * STEPS):
        sent = int((index - round(100 * periods)) // 100)
        fine.set_command(100.0 * actions[sent] if sent >= 0 else np.zeros(1))
        true_states.append(fine.state)
        fine.advance_time(tick)
    moved, errors = [], []
    for time_step in controller.time_steps[2:20]:
        assert time_step.sent_actions.shape == (commands_on_the_way(robot.spec), 1)
        found = approach(objective, robot.spec, time_step, 0)
        assert found.times[-1] == pytest.approx(periods)
        expected = true_states[round(100 * (time_step.step + periods))]
        assert found.states[-1] == pytest.approx(expected, abs=0.02)
        moved.append(np.abs(time_step.state - expected).max())
        errors.append(np.abs(found.states[-1] - expected).max())
    # Without it the state would be that of the time step.
    assert np.mean(errors) < 0.03 * np.mean(moved)


class Ramp:
    """Plans the state that it is asked in, moving evenly, so that one can see what becomes of predictions."""

    def __init__(self, robot: Robot, task: Task) -> None:
        self.spec, self.objective = robot.spec, SimulatedObjective(robot, task)

    def plan(self, state: Array, deadline: float | None = None, step_key: tuple[int, int] | None = None) -> Plan:
        rows = np.arange(4.0)
        states = state + rows[:, None] * 0.1
        return Plan(np.zeros((3, 1)), states, np.tile(rows[:, None], (1, 4)), np.ones((3, 1, 4)))


@pytest.mark.parametrize("periods", [0.0, 1.0, 1.5])
def test_plans_tell_the_state_in_which_each_row_is_sent(periods: float) -> None:
    robot, task = late_robot(periods)
    controller = PredictiveController(Ramp(robot, task))  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    steps = Recorded(random.uniform(-1.0, 1.0, (STEPS, 1)))
    run_trial(DelayedSimulation(MujocoSimulation(robot), robot), steps, task, robot.spec, 8)
    time_step = steps.time_steps[5]
    plan = controller.answer(time_step).plan
    assert plan.predicted_states is not None and plan.predicted_std is not None
    assert plan.predicted_states.shape == plan.predicted_std.shape == (4, 4)
    # Row 0 is sent in the state that was measured, which has no spread: its feedback is zero.
    assert plan.predicted_states[0] == pytest.approx(time_step.state)
    assert plan.predicted_std[0] == pytest.approx(0.0)
    begin = controller.state_at_start(time_step, 0)
    if periods == 1.0:
        assert plan.predicted_states[1] == pytest.approx(begin)
        assert plan.predicted_std[:, 0].tolist() == [0.0, 0.0, 1.0, 2.0]
    if periods == 1.5:
        assert plan.predicted_states[1] == pytest.approx(steps.time_steps[6].state, abs=0.05)
        assert plan.predicted_std[:, 0] == pytest.approx([0.0, 0.0, 0.5, 1.5])


def test_time_steps_of_a_trial_tell_what_acted() -> None:
    robot, task = late_robot(1.5)
    steps = Recorded(np.linspace(-1.0, 1.0, STEPS)[:, None])
    trial = run_trial(DelayedSimulation(MujocoSimulation(robot), robot), steps, task, robot.spec, 10)
    sent = steps.actions[:, 0]
    expected = [0.0, 0.5 * sent[0], *(0.5 * (sent[k - 2] + sent[k - 1]) for k in range(2, 10))]
    assert trial.action[:, 0] == pytest.approx(expected)
    assert steps.time_steps[6].sent_actions[:, 0].tolist() == sent[4:6].tolist()


def test_a_way_that_is_not_finite_is_no_plan() -> None:
    robot, task = late_robot(1.0)
    objective = SimulatedObjective(robot, task)
    steps = Recorded(np.zeros((STEPS, 1)))
    run_trial(DelayedSimulation(MujocoSimulation(robot), robot), steps, task, robot.spec, 3)
    bad = dataclasses.replace(steps.time_steps[1], state=np.full(4, np.inf))
    with pytest.raises(PlanningError, match="acts is predicted as"):
        approach(objective, robot.spec, bad, 0)
