# SPDX-License-Identifier: Apache-2.0
"""Rollouts in this process: what lockstep does in the graph, as `mbrl_core.trial` does it."""

from collections.abc import Callable
from typing import Protocol

import mujoco
import numpy as np
import torch

from mbrl_core.messages import EndReason, Plan, TimeStep
from mbrl_core.mjcf import RobotMjcf, load_mjcf
from mbrl_core.observation import require_plain
from mbrl_core.policies import Policy, TimeVaryingLinearPolicy
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_core.tasks import Task
from mbrl_core.trial import Controller, run_trial
from mbrl_policy.training.rollouts import Rollout, RolloutError, TrainingRobot, action_noise


class Steps(Protocol):
    """A simulation that can begin anywhere, as mbrl_robot's does."""

    def reset(self, start: Array) -> Array:
        """Puts the robot into a state [n]; returns it."""

    def step(self, action: Array) -> Array:
        """Holds a normalised action [m] for one control period; returns the state [n]."""


class SimulatedRobot(TrainingRobot):
    """Steps a simulation: MuJoCo on the robot file's MJCF, or another that is given.

    Raises ConfigurationError on a task of another robot, SpecError and FileNotFoundError on a robot file without a
    usable MJCF, ValueError on `steps` below one.
    """

    def __init__(self, robot: Robot, task: Task, steps: int | None = None, simulation: Steps | None = None) -> None:
        super().__init__(robot, task, steps)
        require_plain(robot.observation.plain, robot.spec.name, "training in a simulation of its own")
        self._simulation = MujocoSteps(robot) if simulation is None else simulation

    def rollout(
        self,
        policy: Policy,
        start: Array | None = None,
        steps: int | None = None,
        seed: int = 0,
        sampled: bool = False,
        start_index: int | None = None,
    ) -> Rollout:
        """See `TrainingRobot.rollout`."""
        length = self.checked_steps(steps, policy)
        noise = action_noise(seed, length, self.spec.action.size) if sampled else None
        wanted = _law(policy, noise) if isinstance(policy, TimeVaryingLinearPolicy) else _samples(policy, noise)

        def answer(time_step: TimeStep) -> Plan:
            return Plan(wanted(time_step.state, time_step.step)[None])

        return self.rollout_controller(answer, start, length, seed, start_index)

    def rollout_controller(
        self,
        controller: Controller,
        start: Array | None = None,
        steps: int | None = None,
        seed: int = 0,
        start_index: int | None = None,
    ) -> Rollout:
        """See `TrainingRobot.rollout_controller`."""
        length = self.checked_steps(steps)
        backend = _FromStart(self._simulation, self.checked_start(start, seed))
        wanted: list[Array] = []

        def answer(time_step: TimeStep) -> Plan:
            plan = controller(time_step)
            row = np.asarray(plan.actions[0], dtype=np.float64)
            if not np.isfinite(row).all():
                raise RolloutError(f"action of step {time_step.step}: got {row.tolist()}, expected finite numbers")
            wanted.append(row)
            return plan

        trial = run_trial(backend, answer, self.task, self.spec, length, episode=seed % 2**31, seed=seed)
        return Rollout(
            trial.state, np.array(wanted), trial.action, trial.reward,
            trial.end_reason == EndReason.TERMINATED, start_index,
        )  # fmt: skip


def _samples(policy: Policy, noise: Array | None) -> Callable[[Array, int], Array]:
    """What a policy wants in a state [n] at a step: its mean [m], plus its noise where standard numbers [T, m] are
    given.
    """

    def wanted(state: Array, step: int) -> Array:
        with torch.inference_mode():
            mean, scale_tril = policy.gaussian(torch.from_numpy(np.array(state)).float(), step)
            values = mean if noise is None else mean + scale_tril @ torch.from_numpy(noise[step]).float()
            return np.asarray((policy.squashed(values) if policy.squash else values).double().numpy())

    return wanted


def _law(policy: TimeVaryingLinearPolicy, noise: Array | None) -> Callable[[Array, int], Array]:
    """The same without torch, which would take most of the time of a simulated step."""
    fast, added = policy.fast(), np.zeros((policy.config.horizon, policy.spec.action.size))
    if noise is not None:
        added[: len(noise)] = np.einsum("hij,hj->hi", policy.scale_tril.double().numpy()[: len(noise)], noise)
    return lambda state, step: np.asarray(fast.linearised(state, step)[0] + added[step])


class MujocoSteps:
    """The robot's MJCF in MuJoCo, stepped as mbrl_robot's simulation steps it."""

    def __init__(self, robot: Robot) -> None:
        self._mjcf: RobotMjcf = load_mjcf(robot)
        self._data = mujoco.MjData(self._mjcf.model)
        self._scale = np.array(robot.spec.action.scale)

    @property
    def state(self) -> Array:
        """[n] now, a copy."""
        return np.concatenate([self._data.qpos[self._mjcf.positions], self._data.qvel[self._mjcf.velocities]])

    def reset(self, start: Array) -> Array:
        """See `Steps.reset`."""
        joints = len(self._mjcf.positions)
        mujoco.mj_resetData(self._mjcf.model, self._data)
        self._data.qpos[self._mjcf.positions] = start[:joints]
        self._data.qvel[self._mjcf.velocities] = start[joints:]
        mujoco.mj_forward(self._mjcf.model, self._data)
        return self.state

    def step(self, action: Array) -> Array:
        """See `Steps.step`; a state that is not finite comes back as it is."""
        self._data.ctrl[self._mjcf.actuators] = self._mjcf.control(action * self._scale)
        for _ in range(self._mjcf.steps_per_control):
            mujoco.mj_step(self._mjcf.model, self._data)
        return self.state


class _FromStart:
    """A backend of `run_trial` that begins in a given state, and in which nothing that is no number goes on."""

    def __init__(self, simulation: Steps, start: Array) -> None:
        self._simulation = simulation
        self._start = start

    def reset(self, start: np.random.Generator) -> Array:
        return self._simulation.reset(self._start)

    def step(self, action: Array) -> Array:
        try:
            state = self._simulation.step(action)
        except RuntimeError as error:
            raise RolloutError(f"simulation: {error}") from None
        if not np.isfinite(state).all():
            raise RolloutError(f"simulation: got state {state.tolist()} after action {action.tolist()}")
        return state
