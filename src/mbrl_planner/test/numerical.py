# SPDX-License-Identifier: Apache-2.0
"""Derivatives by central differences, and the one check of derivatives against them."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mbrl_core.specs import Array

Function = Callable[[Array], Array]
"""Points [N, d] -> values [N, ...]."""


def differences(function: Function, points: Array, width: float) -> Array:
    """[N, ..., d]: derivative of `function` at points [N, d] by each entry."""
    columns = []
    for index in range(points.shape[1]):
        shift = np.zeros(points.shape[1])
        shift[index] = width
        columns.append((function(points + shift) - function(points - shift)) / (2.0 * width))
    return np.stack(columns, axis=-1)


def check_derivatives(
    value: Function, slope: Function, curvature: Function, points: Array, width: float, tolerance: float
) -> None:
    """`slope` [N, ..., d] and `curvature` [N, ..., d, d] of `value` against central differences of `width` at points
    [N, d]; the tolerance is relative to the largest entry.
    """
    for name, below, above in (("slope", value, slope), ("curvature", slope, curvature)):
        expected, found = differences(below, points, width), above(points)
        assert found.shape == expected.shape
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found, expected, atol=tolerance * scale, rtol=0.0, err_msg=name)


def in_double_precision(model: Any) -> Any:
    """A copy of a model with every single-precision tensor in it as a double."""
    return _doubled(copy.deepcopy(model), set())


def _doubled(value: Any, seen: set[int]) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.dtype == torch.float32 else value
    if isinstance(value, dict):
        return {key: _doubled(item, seen) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_doubled(item, seen) for item in value)
    frozen = dataclasses.is_dataclass(value) and getattr(value, "__dataclass_params__").frozen  # noqa: B009
    ours = type(value).__module__.startswith("mbrl_") and hasattr(value, "__dict__") and not frozen
    if ours and id(value) not in seen:
        seen.add(id(value))
        for name, item in list(vars(value).items()):
            setattr(value, name, _doubled(item, seen))
    return value
