"""The parameters of a model that learned from runs of [sweep], as the header of its weights holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class SweptParameters:
    """Names and ranges of the parameters in training. about: the header of the weights."""

    about: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The names of the parameters, in order."""
        return [name for name, _ in self.about["parameters"]]

    @property
    def ranges(self) -> NDArray[np.float64]:
        """(low, high) of each parameter in training, (parameter, 2)."""
        return np.array([limits for _, limits in self.about["parameters"]])

    def scaled(self, parameters: NDArray) -> Tensor:
        """Parameters (run, parameter) scaled to (-1, 1) over their training ranges."""
        low, high = self.ranges.T
        return torch.from_numpy(2 * (np.asarray(parameters, dtype=np.float64) - low) / (high - low) - 1)
