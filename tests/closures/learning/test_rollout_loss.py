"""Coefficients that are trained through the solver: those of the best validation are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from subgrid.closures.learning import rollout_loss
from subgrid.closures.learning.options import RolloutWindows
from subgrid.closures.learning.rollout_loss import refine


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_coefficients_of_the_best_validation_are_returned_and_not_the_last(best, tmp_path, monkeypatch):
    """The loss pulls the coefficient from 1 to 3; the validation errors are set here."""
    errors = [0.5, 0.5, 0.5]
    errors[best] = 0.2
    seen: list[float] = []

    class Loss:
        scale = torch.tensor(1.0)

        def __init__(self, dataset: Any, chosen: Any, seed: int, tendency: Any, device: str) -> None:
            self.coefficient = lambda: tendency(torch.zeros(()))

        def __call__(self, step: int) -> torch.Tensor:
            return (self.coefficient() - 3.0).square().sum()

        def validation_error(self) -> float:
            seen.append(self.coefficient().item())
            return errors[len(seen) - 1]

    monkeypatch.setattr(rollout_loss, "RolloutLoss", Loss)
    monkeypatch.setattr(rollout_loss, "require_rollouts", lambda dataset, chosen: None)
    options = {"unroll": 1, "steps": 12, "validate_every": 4, "batch": 1, "learning_rate": 0.1}
    for _ in range(2):  # the second time it is read from the checkpoint
        found, scores = refine(
            None,  # type: ignore[arg-type]
            np.array([1.0]),
            np.array([1.0]),
            lambda coefficients, state: coefficients + state,
            RolloutWindows.model_validate(options),
            0,
            tmp_path,
        )
        assert found[0] == seen[best] and len(set(seen)) == len(seen) == 3
        assert scores == {"rollout_error": 0.2, "best_step": 4 * (best + 1)}
