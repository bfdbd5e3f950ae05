# SPDX-License-Identifier: Apache-2.0
"""mbrl-lib's side of the rollout benchmark: its ensemble, its model environment and its optimiser, as its paper preset
of the PETS cart-pole puts them together. Runs in the baselines' environment."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gymnasium
import mbrl.models
import mbrl.planning
import numpy as np
import torch
from _baselines import serve

PENDULUM_LENGTH = 0.6


def preprocess(state: Any) -> torch.Tensor:
    """The preset's: the angle as sine and cosine."""
    state = torch.as_tensor(state)
    angle = state[..., 1:2]
    return torch.cat([torch.sin(angle), torch.cos(angle), state[..., :1], state[..., 2:]], dim=-1)


def reward(actions: torch.Tensor, next_states: torch.Tensor) -> torch.Tensor:
    """The preset's reward of the PETS cart-pole."""
    position, angle = next_states[..., 0], next_states[..., 1]
    across = position - PENDULUM_LENGTH * torch.sin(angle)
    above = -PENDULUM_LENGTH * torch.cos(angle) - PENDULUM_LENGTH
    near = torch.exp(-(across**2 + above**2) / PENDULUM_LENGTH**2)
    return (near - 0.01 * (actions**2).sum(dim=-1)).unsqueeze(-1)


class Step:
    """One step of PETS as mbrl-lib takes it: CEM of `iterations` over the model, from a fixed state."""

    def __init__(self, question: dict[str, Any]) -> None:
        torch.manual_seed(question["seed"])
        network = mbrl.models.GaussianMLP(
            in_size=6,
            out_size=4,
            device="cpu",
            num_layers=question["hidden_layers"],
            ensemble_size=question["members"],
            hid_size=question["hidden_size"],
            propagation_method=question["propagation"],
            activation_fn_cfg={"_target_": "torch.nn.SiLU"},
        )
        model = mbrl.models.OneDTransitionRewardModel(
            network,
            normalize=True,
            normalize_double_precision=True,
            learned_rewards=False,
            obs_process_fn=preprocess,
        )
        spaces = SimpleNamespace(
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (4,)),
            action_space=gymnasium.spaces.Box(-1.0, 1.0, (1,)),
        )
        self._environment = mbrl.models.ModelEnv(
            spaces, model, lambda actions, states: torch.zeros(len(states), 1, dtype=torch.bool), reward
        )
        horizon = question["horizon"]
        self._optimiser = mbrl.planning.CEMOptimizer(
            num_iterations=question["iterations"],
            elite_ratio=0.1,
            population_size=question["candidates"],
            lower_bound=[[-1.0]] * horizon,
            upper_bound=[[1.0]] * horizon,
            alpha=0.1,
            device=torch.device("cpu"),
            return_mean_elites=True,
        )
        self._horizon, self._particles = horizon, question["particles"]

    def seconds(self) -> dict[str, float]:
        """Wall time of one step, and the part of it that evaluating action sequences took."""
        evaluating = 0.0

        def objective(actions: torch.Tensor) -> torch.Tensor:
            nonlocal evaluating
            begin = time.perf_counter()
            returns = self._environment.evaluate_action_sequences(actions, np.zeros(4), self._particles)
            evaluating += time.perf_counter() - begin
            return returns

        begin = time.perf_counter()
        self._optimiser.optimize(objective, x0=torch.zeros(self._horizon, 1))
        return {"seconds": time.perf_counter() - begin, "evaluating": evaluating}


steps: dict[str, Step] = {}


def answer(question: dict[str, Any]) -> dict[str, float]:
    """One timed step; its model is made at the first question of a propagation."""
    torch.set_num_threads(question["threads"])
    if question["propagation"] not in steps:
        steps[question["propagation"]] = Step(question)
    return steps[question["propagation"]].seconds()


serve(answer)
