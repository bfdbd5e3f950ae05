# SPDX-License-Identifier: Apache-2.0
"""Weights and optimisers as arrays, so that training goes on where a checkpoint was written."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from mbrl_core.checkpoint import CheckpointError

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what Adam keeps of each parameter


def module_arrays(name: str, module: nn.Module) -> dict[str, np.ndarray]:
    """Weights and buffers of a module, copied, each name beginning with NAME/."""
    return {f"{name}/{key}": value.detach().cpu().numpy().copy() for key, value in module.state_dict().items()}


def restore_module(name: str, module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Takes up `module_arrays`. Raises CheckpointError when one is missing, of another shape or not finite."""
    state = {key: _checked(f"{name}/{key}", arrays, tuple(value.shape)) for key, value in module.state_dict().items()}
    module.load_state_dict(state)


def optimiser_arrays(name: str, optimiser: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """Moments of Adam or AdamW for each parameter that it has stepped, by number."""
    return {
        # Safetensors has no arrays without dimensions, which the number of steps is.
        f"{name}/{index}/{key}": np.atleast_1d(optimiser.state[value][key].detach().cpu().numpy().copy())
        for index, value in enumerate(_parameters(optimiser))
        for key in MOMENTS
        if value in optimiser.state
    }


def restore_optimiser(name: str, optimiser: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """Takes up `optimiser_arrays`; one that had not stepped yet is as new. Raises CheckpointError as
    `restore_module` does.
    """
    optimiser.state.clear()
    for index, value in enumerate(_parameters(optimiser)):
        if f"{name}/{index}/{MOMENTS[0]}" in arrays:
            moments = {
                key: _checked(f"{name}/{index}/{key}", arrays, (1,) if key == "step" else tuple(value.shape))
                for key in MOMENTS
            }
            optimiser.state[value] = {**moments, "step": moments["step"].squeeze(0)}


def _parameters(optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [value for group in optimiser.param_groups for value in group["params"]]


def _checked(name: str, arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> torch.Tensor:
    if name not in arrays:
        raise CheckpointError(f"array {name!r} is missing")
    array = arrays[name]
    if array.shape != shape or not np.isfinite(array).all():
        raise CheckpointError(f"array {name!r}: got shape {list(array.shape)}, expected {list(shape)}, all finite")
    return torch.from_numpy(array.copy())
