# SPDX-License-Identifier: Apache-2.0
"""What a learner learned from, as its checkpoint in a run directory holds it."""

from pathlib import Path

from mbrl_core.dataset import Transitions
from mbrl_dynamics.checkpoints import CheckpointFolder

CHECKPOINTS = "checkpoints"
PREFIX = "data/"


def read_learned_transitions(directory: str | Path) -> Transitions:
    """The replay buffer in a run's newest checkpoint. Raises FileNotFoundError or CheckpointError."""
    folder = Path(directory) / CHECKPOINTS
    checkpoint = CheckpointFolder(folder).newest()
    if checkpoint is None:
        raise FileNotFoundError(f"{folder}: expected a checkpoint of the learner, got none")
    _, arrays, _ = checkpoint
    return Transitions(**{name[len(PREFIX) :]: value for name, value in arrays.items() if name.startswith(PREFIX)})
