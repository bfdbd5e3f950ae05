# SPDX-License-Identifier: Apache-2.0
"""What a trainer keeps in its run directory, and takes up when it is started again."""

from collections.abc import Callable
from pathlib import Path

from mbrl_core.checkpoint import CheckpointError
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.checkpoints import CheckpointFolder
from mbrl_policy.nodes.training_job import NODE, Checkpoint, Product, best_of, newest_whole
from mbrl_policy.training_data import TrainingData, load_training_data

HEARD = "heard.safetensors"  # among the checkpoints: the episodes that the training under way began with


class TrainerStore:
    """Checkpoints, and what was heard. `refuse` hears of what cannot be read or written."""

    def __init__(self, run_directory: str, spec: RobotSpec, refuse: Callable[[str], object]) -> None:
        """An empty `run_directory` keeps nothing."""
        self._spec, self._refuse = spec, refuse
        folder = Path(run_directory).expanduser() / "checkpoints"
        self.folder = CheckpointFolder(folder, role="trainer") if run_directory else None
        self.checkpoint: Checkpoint | None = None

    @property
    def number(self) -> int:
        """Of the checkpoint in force; 0 = none."""
        return 0 if self.checkpoint is None else int(self.checkpoint[1][NODE]["number"])

    def take_up(self) -> tuple[Product, int, float] | None:
        """Reads the newest whole checkpoint. Returns its best policy or reward, version and mean return, where it has
        one.
        """
        if self.folder is None:
            return None
        checkpoint = newest_whole(self.folder, self._refuse)
        if checkpoint is None:
            return None
        try:
            best = best_of(checkpoint, self._spec)
        except CheckpointError as error:
            self._refuse(f"parameter 'run_directory': {error}")
            return None
        self.checkpoint = checkpoint
        return None if best is None else (best[0], int(checkpoint[1][NODE]["version"]), best[1])

    def load_heard(self) -> TrainingData:
        """What `save_heard` wrote; nothing where there is nothing that can be read."""
        try:
            if self.folder is not None and (self.folder.folder / HEARD).is_file():
                return load_training_data(self.folder.folder / HEARD, self._spec)
        except (CheckpointError, OSError) as error:
            self._refuse(str(error))
        return TrainingData(self._spec)

    def save_heard(self, data: TrainingData) -> None:
        """Whoever is killed and started again has heard nothing of what came before. Raises OSError."""
        if self.folder is not None:
            data.save(self.folder.folder / HEARD)
