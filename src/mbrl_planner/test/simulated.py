# SPDX-License-Identifier: Apache-2.0
"""Planning through the simulator itself: the true dynamics of the real robots."""

from pathlib import Path

import mujoco
import mujoco.rollout
import numpy as np
import torch

from mbrl_core.config import load_preset
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import Array
from mbrl_core.tasks import Task, make_task
from mbrl_planner.planner import Objective, Planner
from mbrl_robot.simulation import MujocoSimulation

CONFIG = Path(__file__).resolve().parents[3] / "config"
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


class SimulatedObjective(Objective):
    """Returns and states of action sequences in MuJoCo."""

    def __init__(self, robot: Robot, task: Task) -> None:
        self.robot = robot
        self.task = task
        self._simulation = MujocoSimulation(robot)
        self._repeat = robot.simulation.steps_per_control
        self._simulation.set_command(np.array(robot.spec.action.scale))
        self._control_per_action = self._simulation.data.ctrl.copy()
        self._states = torch.zeros(0)

    def __call__(self, state: Array, actions: torch.Tensor) -> torch.Tensor:
        model, data = self._simulation.model, self._simulation.data
        self._simulation.reset(state)
        start = np.empty(mujoco.mj_stateSize(model, FULL))
        mujoco.mj_getState(model, data, start, FULL)
        control = np.repeat(actions.numpy().astype(np.float64) * self._control_per_action, self._repeat, axis=1)
        full, _ = mujoco.rollout.rollout(model, data, np.tile(start, (len(actions), 1)), control)
        later = full[:, self._repeat - 1 :: self._repeat, 1 : 1 + len(state)]
        states = np.concatenate([np.broadcast_to(state, (len(actions), 1, len(state))), later], axis=1)
        self._states = torch.from_numpy(states)
        rewards: torch.Tensor = self.task.reward(self._states[:, :-1], actions, self._states[:, 1:])
        return rewards.sum(dim=-1).float()

    def with_gradient(self, state: Array, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Central differences: slow and sufficient."""
        count, entries = len(actions), actions[0].numel()
        shift = 1e-3 * torch.eye(entries).view(1, entries, *actions.shape[1:])
        both = torch.cat([actions[:, None] + shift, actions[:, None] - shift]).flatten(0, 1)
        ahead, behind = self(state, both).double().view(2, count, entries)
        returns = self(state, actions)
        return returns, ((ahead - behind) / 2e-3).float().view_as(actions)

    def prediction(self, index: int) -> tuple[Array, Array]:
        mean = self._states[index].numpy().copy()
        return mean, np.zeros_like(mean)

    def predict(self, state: Array, actions: Array) -> tuple[Array, Array]:
        self(state, torch.as_tensor(actions, dtype=torch.float32)[None])
        return self.prediction(0)


def robot_and_task(name: str, goal: tuple[float, ...] | None = None) -> tuple[Robot, Task]:
    """A robot of config/robots and the task that its file names."""
    robot = load_robot(CONFIG / "robots" / f"{name}.yaml")
    preset = load_preset(CONFIG / "tasks" / f"{robot.task}.yaml", "task")
    chosen = goal if goal is not None else tuple(preset["goal"])
    return robot, make_task(preset["kind"], chosen, preset.get("parameters"), preset.get("weights"))


def run_episode(robot: Robot, task: Task, planner: Planner, steps: int, seed: int = 0) -> tuple[float, Array]:
    """Return and states [steps + 1, state_size] of an episode of model predictive control."""
    simulation = MujocoSimulation(robot)
    state = simulation.reset(generator(seed, 0, 0, "start"))
    states, total = [state], 0.0
    for step in range(steps):
        action = planner.plan(state, step_key=(seed + 1, step)).actions[0]
        following = simulation.step(action)
        total += float(task.reward(state, action, following))
        state = following
        states.append(state)
    return total, np.array(states)
