# SPDX-License-Identifier: Apache-2.0
"""What tasks of reaching have in common: a price of distance whose last part is worth something."""

from mbrl_core.libraries import Batch, array_library
from mbrl_core.task import Task


class Reaching(Task):
    """A task with a tip, a goal, the parameter `width` (m) and the weights `distance` and `close`."""

    def distance_cost(self, squared: Batch) -> Batch:
        """w_distance |tip - goal| + w_close (1 - exp(-|tip - goal|^2 / width^2)) [...] of |tip - goal|^2 in m^2.

        The narrow second term makes the last centimetres worth something.
        """
        library = array_library(squared)
        far = self.weights["distance"] * library.sqrt(squared + 1e-8)
        close = self.weights["close"] * (1.0 - library.exp(-squared / self.parameters["width"] ** 2))
        return far + close
