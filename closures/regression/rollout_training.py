"""Training through the solver: the loss is the error of the states that the corrected model reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from subgrid.ingest.training_set import Dataset

from ..learning.learned_closure import Progress
from ..learning.optimisation import torch_threads
from ..learning.rollout_loss import RolloutLoss, require_rollouts
from ..learning.training import no_progress
from .options import TrainingOptions
from .training import FitResult, Training, checked_pairs


def fit_through_solver(
    dataset: Dataset,
    weights: dict[str, np.ndarray] | None,
    options: TrainingOptions,
    directory: Path,
    progress: Progress = no_progress,
    device: str = "cpu",
    added: np.ndarray | None = None,
) -> FitResult:
    """Start from `weights`, or from the uncorrected model, and minimise the loss of `RolloutOptions`; resumes as `fit`.

    Gradients through the solver are exact: `rollout` is the stepper of the model as differentiable array code. The
    score that selects the weights is the square root of the loss on the validation windows: 1 for the uncorrected
    model. added: eigenvalues of the closures beside the network; the pairs of `dataset` are what these leave.

    Raises ValueError for a model with noise or adaptive steps, for a window that is not a whole number of sampling
    intervals, and as `fit` does.
    """
    chosen = options.rollout
    assert chosen is not None
    require_rollouts(dataset, chosen)
    with torch_threads(options.threads):
        return RolloutTraining(dataset, weights, options, device, added).run(directory, progress)


class RolloutTraining(Training):
    """One training through the solver."""

    def __init__(
        self,
        dataset: Dataset,
        weights: dict[str, np.ndarray] | None,
        options: TrainingOptions,
        device: str = "cpu",
        added: np.ndarray | None = None,
    ) -> None:
        chosen = options.rollout
        assert chosen is not None
        train = checked_pairs(*dataset.train, "training")
        valid = checked_pairs(*dataset.validation, "validation")
        shared = {k: getattr(chosen, k) for k in ("steps", "batch", "learning_rate", "validate_every")}
        grid = dataset.model.grid
        super().__init__(train, valid, grid.length, options.model_copy(update=shared), grid.origin, device)
        if weights is None:
            with torch.no_grad():
                outermost: list[torch.nn.Parameter] = self.term.network.outermost()  # type: ignore[operator]
                for parameter in outermost:
                    parameter.zero_()
        else:
            self.term.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
            self.identity["start"] = float(sum(np.abs(value).sum(dtype=np.float64) for value in weights.values()))
        self.rollouts = RolloutLoss(dataset, chosen, options.seed, self.tendency, device, added)

    def tendency(self, state: torch.Tensor) -> torch.Tensor:
        """The term of the network, for a state in double precision."""
        return self.term(state.to(torch.float32)).to(torch.float64)

    def loss(self, step: int) -> torch.Tensor:
        """The loss on windows drawn at random as a function of the step."""
        return self.rollouts(step)

    def validation_error(self) -> float:
        """The square root of the loss on the validation windows."""
        return self.rollouts.validation_error()

    def result(self, log: list[dict[str, Any]]) -> FitResult:
        found = super().result(log)
        scores: dict[str, Any] = {**found.scores, "rollout_error": min(entry["valid_error"] for entry in log)}
        return FitResult(found.term, scores, found.residual_spectrum, found.log)
