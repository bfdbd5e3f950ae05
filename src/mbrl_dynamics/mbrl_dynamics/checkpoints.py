# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a learner or a trainer in a folder: whole or not there, newest first, a few kept."""

from pathlib import Path
from typing import Any

import numpy as np

from mbrl_core.checkpoint import load_checkpoint, save_checkpoint


class CheckpointFolder:
    """Checkpoints of one producer, `ROLE_VERSION.safetensors`, in a run. Saving drops all but the `keep` newest."""

    def __init__(self, folder: str | Path, keep: int = 3, role: str = "learner") -> None:
        self.folder = Path(folder)
        self.keep = keep
        self.role = role

    def paths(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted(self.folder.glob(f"{self.role}_*.safetensors"))

    def save(self, version: int, arrays: dict[str, np.ndarray], information: dict[str, Any]) -> Path:
        """Writes a checkpoint atomically, then drops old ones. Raises OSError; what was there is then still whole."""
        path = self.folder / f"{self.role}_{version:08d}.safetensors"
        save_checkpoint(path, arrays, information)
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> tuple[Path, dict[str, np.ndarray], dict[str, Any]] | None:
        """The newest checkpoint, or None. Raises CheckpointError when it is damaged."""
        paths = self.paths()
        return (paths[-1], *load_checkpoint(paths[-1])) if paths else None
