# SPDX-License-Identifier: Apache-2.0
"""Exponential weighting of candidates by their returns, shared by MPPI and PDDM."""

import numpy as np
from numpy.typing import NDArray

from mbrl_core.specs import Array


def exponential_weights(values: Array, temperature: float) -> Array:
    """Weights [N] proportional to exp(value / temperature), which sum to one; values [N] that are -inf get none.

    At least one value has to be finite. The largest is subtracted first, so that nothing overflows.
    """
    weights = np.exp((values - values[np.isfinite(values)].max()) / temperature)
    return np.asarray(weights / weights.sum())


def scaled_temperature(temperature: float, relative: bool, returns: NDArray[np.float32]) -> float:
    """`temperature`, in units of the standard deviation of the finite returns [N] when `relative`."""
    if not relative:
        return temperature
    # Equal returns leave the weights equal: any positive temperature does.
    return max(temperature * float(returns[np.isfinite(returns)].std()), 1e-12)
