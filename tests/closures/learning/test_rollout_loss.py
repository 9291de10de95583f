"""Coefficients that are trained through the solver: those of the best validation are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from subgrid.closures.learning import rollout_loss
from subgrid.closures.learning.options import RolloutWindows
from subgrid.closures.learning.rollout_loss import RolloutLoss, refine
from subgrid.ingest.training_set import Dataset, Model
from subgrid.solver.equations import LinearAdvection
from subgrid.solver.equations.forcing import FormulaForcing
from subgrid.solver.grid import Grid


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


def test_windows_of_a_model_that_depends_on_time_start_at_their_times():
    """u = sin(9 t) + trajectory solves u_t + u_x = 9 cos(9 t): the model makes no error of its own."""
    forcing = FormulaForcing(value="9*cos(9*t) + 0*x")
    equation, grid = LinearAdvection(speed=1.0, forcing=forcing), Grid((8,), (1.0,))
    times = 0.3 + 0.1 * np.arange(9)
    states = np.sin(9 * times)[None, :, None, None] + np.arange(3)[:, None, None, None] + np.zeros((3, 9, 1, 8))
    pairs = (states.reshape(-1, 1, 8), states.reshape(-1, 1, 8))
    model = Model(equation, grid, "etdrk4", 0.02, 5, None, start=0.3)
    dataset = Dataset(pairs, pairs, {}, (states, states), model)
    chosen = RolloutWindows.model_validate({"unroll": 2, "every": 5, "steps": 1, "batch": 4, "windows": 8})
    loss = RolloutLoss(dataset, chosen, 0, torch.zeros_like)
    assert loss.scale < 1e-5
