# SPDX-License-Identifier: Apache-2.0
"""Formulas that are written once and work on numpy arrays and torch tensors."""

import sys
from typing import Any

import numpy as np

Batch = Any  # numpy array or torch tensor


def array_library(values: Batch) -> Any:
    """numpy, or torch when `values` is a tensor. Does not import torch."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(values, torch.Tensor) else np
