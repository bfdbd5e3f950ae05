# SPDX-License-Identifier: Apache-2.0
"""What the planners of POPLIN share: a policy that is distilled from what they plan."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mbrl_core.config import parameter
from mbrl_core.messages import Plan
from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import Array, RobotSpec
from mbrl_planner.cem import CemConfig
from mbrl_planner.planner import Objective, Planner
from mbrl_planner.poplin_policy import PolicyNetwork


@dataclass(frozen=True)
class PoplinConfig(CemConfig):
    """Parameters of the policy and its distillation, beyond those of CEM."""

    policy_layers: int = parameter(1, "hidden layers of the policy; 0 is a linear policy", minimum=0, maximum=10)
    policy_units: int = parameter(16, "units of each hidden layer", minimum=1, maximum=1024)
    distil_steps: int = parameter(
        500, "gradient steps of behaviour cloning after an episode; 0 never trains", minimum=0, maximum=100_000
    )
    learning_rate: float = parameter(0.003, "step of Adam in behaviour cloning", minimum=1e-6, maximum=1.0)
    memory: int = parameter(
        10_000, "planned states, the newest of ended episodes, that are learned from", minimum=1, maximum=10_000_000
    )


class PolicyPlanner(Planner):
    """A planner with a policy of its own, trained on the states and first actions of its plans.

    It learns when an episode ends (`end_episode`) and at no other time, so that the plans of an episode depend on that
    episode alone and what was learned before. `reset` forgets the warm start and what was noted of the episode under
    way; the policy and what ended episodes taught it stay. Neither is stored: a planner that is built anew starts with
    a neutral policy.
    """

    config: PoplinConfig

    def __init__(
        self, config: PoplinConfig, spec: RobotSpec, objective: Objective, seed: int, clock: Callable[[], float]
    ) -> None:
        self.policy = PolicyNetwork(config.policy_layers, config.policy_units, spec, seed)
        self.episodes_learned = 0
        self._states = torch.empty(0, spec.state.size)
        self._actions = torch.empty(0, spec.action.size)
        super().__init__(config, spec, objective, seed, clock)

    def reset(self) -> None:
        super().reset()
        self._noted: list[tuple[Array, Array]] = []

    def plan(self, state: Array, deadline: float | None = None, step_key: tuple[int, int] = (0, 0)) -> Plan:
        plan = super().plan(state, deadline, step_key)
        if plan.iterations > 0:
            self._note(np.asarray(state, dtype=np.float32), plan.actions[0].astype(np.float32))
        return plan

    def end_episode(self) -> None:
        """Distils what was planned since the last reset into the policy, then resets."""
        if self._noted:
            states, actions = (torch.from_numpy(np.array(values)) for values in zip(*self._noted, strict=True))
            self._states = torch.cat([self._states, states])[-self.config.memory :]
            self._actions = torch.cat([self._actions, actions])[-self.config.memory :]
            self._distil(stream_seed(self.seed, self.episodes_learned, 0, "poplin_distillation"))
            self.episodes_learned += 1
        self.reset()

    def _note(self, state: Array, action: Array) -> None:
        """Keeps what a plan did: state [state_size], first action [action_size]."""
        self._noted.append((state, action))

    def _distil(self, seed: int) -> None:
        """Behaviour cloning of Wang and Ba 2019, section 4.4: min over theta of E |pi_theta(s) - a|^2 over (s, a)."""
        config = self.config
        if config.distil_steps == 0:
            return
        if not self.policy.trained:
            self.policy.scale_observations(self._states)
        self.policy.clone_behaviour(self._states, self._actions, config.distil_steps, config.learning_rate, seed)
