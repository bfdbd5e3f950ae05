# SPDX-License-Identifier: Apache-2.0
"""POPLIN in parameter space: CEM over what is added to a policy's weights."""

from dataclasses import dataclass

import numpy as np
import torch

from mbrl_core.config import parameter
from mbrl_core.specs import Array
from mbrl_dynamics.closed_loop import BatchPolicy
from mbrl_planner.planner import Actions
from mbrl_planner.poplin import PoplinConfig
from mbrl_planner.poplin_closed_loop import ClosedLoopCem
from mbrl_planner.registry import PLANNERS


@dataclass(frozen=True)
class PoplinPConfig(PoplinConfig):
    """Parameters of POPLIN-P; `initial_std` is that of the weights, times sqrt(inputs of the layer)."""

    noise: str = parameter(
        "uniform",
        "uniform perturbs the weights alike at all steps of a plan, separate at each step on its own",
        choices=("uniform", "separate"),
    )
    distillation: str = parameter(
        "behaviour_cloning",
        "how the policy learns from plans: behaviour_cloning of their first actions, or the average of the"
        " perturbations that were executed, added to the weights",
        choices=("behaviour_cloning", "average"),
    )


@PLANNERS.register("poplin_p", PoplinPConfig)
class PoplinP(ClosedLoopCem):
    """POPLIN-P of Wang and Ba 2019, "Exploring Model-based Planning with Policy Networks" (arXiv:1906.08649,
    section 4.2): CEM over perturbations w of the weights theta of a policy that is rolled out,

        max over w of E sum_t r(s_t, a_t),    a_t = pi_(theta + w_t)(s_t),    s_(t+1) = f(s_t, a_t)

    with `noise` separate (w_t for each step) or uniform (one w). The first starts from noise of the weights whose
    standard deviation is initial_std / sqrt(inputs of the layer). The search is among feedback laws, where the return
    is smoother than among action sequences, and with uniform noise in as many dimensions as the policy has weights
    whatever the horizon.

    Distillation (section 4.4): behaviour cloning as in the other kinds, or theta <- theta + the mean of the w_0 that
    were executed. The paper's third way, adversarial training, is not offered.
    """

    kind = "poplin_p"
    config: PoplinPConfig

    def reset(self) -> None:
        super().reset()
        self._executed: list[Actions] = []

    def _note(self, state: Array, action: Array) -> None:
        super()._note(state, action)
        self._executed.append(self._best_perturbation[0])

    def _distil(self, seed: int) -> None:
        if self.config.distillation == "average":
            self.policy.add(torch.from_numpy(np.mean(self._executed, axis=0)))
        else:
            super()._distil(seed)

    def _shape(self) -> tuple[int, ...]:
        return (self.config.horizon if self.config.noise == "separate" else 1, self.policy.weight_count)

    def _std(self) -> Actions:
        values: Actions = np.float32(self.config.initial_std) * self.policy.weight_scales().numpy()
        return values

    def _moved(self, values: Actions, passed: int) -> Actions:
        return self._shifted(values, passed, 0.0) if self.config.noise == "separate" else values

    def _policy(self, candidates: torch.Tensor) -> BatchPolicy:
        return self.policy.perturbed(candidates)
