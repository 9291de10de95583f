"""Training through the solver: the loss is the error of the states that the corrected model reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from subgrid.ingest.training_set import Dataset
from subgrid.solver.simulation.rollout import rollout

from ..learning.learned_closure import Progress
from ..learning.optimisation import torch_threads
from ..learning.training import no_progress
from .options import TrainingOptions
from .training import FitResult, Training, checked_pairs


def fit_through_solver(
    dataset: Dataset,
    weights: dict[str, np.ndarray],
    options: TrainingOptions,
    directory: Path,
    progress: Progress = no_progress,
) -> FitResult:
    """Start from `weights` and minimise the loss of `RolloutOptions`; resumes as `fit` does.

    Gradients through the solver are exact: `rollout` is the stepper of the model as differentiable array code. The
    score that selects the weights is the square root of the loss on the validation windows: 1 for the uncorrected
    model.

    Raises ValueError for a model with noise or adaptive steps, for a window that is not a whole number of sampling
    intervals, and as `fit` does.
    """
    chosen = options.rollout
    assert chosen is not None
    model = dataset.model
    if model.equation.noise_law(model.grid) is not None or model.cfl is not None:
        raise ValueError(
            "training through the solver needs a model without noise and with a fixed step. "
            "Remedy: --objective one-step"
        )
    window = chosen.unroll * chosen.every
    if window % model.sampling:
        raise ValueError(
            f"unroll = {chosen.unroll} calls every {chosen.every} steps take {window} steps, not a multiple of the "
            f"{model.sampling} steps between samples. Remedy: another --unroll, or another training.every"
        )
    if window // model.sampling >= dataset.sequences[0].shape[1]:
        raise ValueError(f"unroll = {chosen.unroll} is longer than a training trajectory. Remedy: a smaller --unroll")
    with torch_threads(options.threads):
        return RolloutTraining(dataset, weights, options).run(directory, progress)


class RolloutTraining(Training):
    """One training through the solver."""

    def __init__(self, dataset: Dataset, weights: dict[str, np.ndarray], options: TrainingOptions) -> None:
        chosen = options.rollout
        assert chosen is not None
        self.chosen, self.dataset = chosen, dataset
        train = checked_pairs(*dataset.train, "training")
        valid = checked_pairs(*dataset.validation, "validation")
        shared = {k: getattr(chosen, k) for k in ("steps", "batch", "learning_rate", "validate_every")}
        grid = dataset.model.grid
        super().__init__(train, valid, grid.length, options.model_copy(update=shared), grid.origin)
        self.term.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self.identity["start"] = float(sum(np.abs(value).sum(dtype=np.float64) for value in weights.values()))
        samples = chosen.unroll * chosen.every // dataset.model.sampling
        self.samples = samples
        trajectories, times = dataset.sequences[1].shape[:2]
        flat = np.linspace(0, trajectories * (times - samples) - 1, chosen.windows).round().astype(int)
        self.windows = np.stack(np.divmod(flat, times - samples), axis=1)
        with torch.no_grad():
            self.scale = self.errors(1, self.windows, corrected=False).sqrt()

    def errors(self, part: int, windows: np.ndarray, corrected: bool = True) -> torch.Tensor:
        """<|u_model - u_reference|^2> over windows (window, 2), each given by trajectory and time, of part 0 (training)
        or 1 (validation)."""
        model, span = self.dataset.model, range(self.samples + 1)
        truth = np.stack([[self.dataset.sequences[part][i, n + k] for i, n in windows] for k in span])
        states = torch.from_numpy(truth.astype(np.float64))
        found = rollout(
            model.equation,
            model.grid,
            model.stepper,
            model.step,
            states[0],
            self.samples * model.sampling,
            tendency=self.tendency if corrected else None,
            every=self.chosen.every,
            keep=model.sampling,
        )
        return (found - states[1:]).square().mean()

    def tendency(self, state: torch.Tensor) -> torch.Tensor:
        """The term of the network, for a state in double precision."""
        return self.term(state.to(torch.float32)).to(torch.float64)

    def loss(self, step: int) -> torch.Tensor:
        """The loss on windows drawn at random as a function of the step."""
        generator = np.random.Generator(np.random.Philox(key=[self.options.seed, step]))
        trajectories, times = self.dataset.sequences[0].shape[:2]
        chosen = generator.integers((trajectories, times - self.samples), size=(self.options.batch, 2))
        return self.errors(0, chosen) / self.scale**2

    def validation_error(self) -> float:
        """The square root of the loss on the validation windows."""
        with torch.no_grad():
            parts = np.array_split(self.windows, max(1, len(self.windows) // self.options.batch))
            total = sum(len(part) * self.errors(1, part).item() for part in parts) / len(self.windows)
        return float(np.sqrt(total) / self.scale.item())

    def result(self, log: list[dict[str, Any]]) -> FitResult:
        found = super().result(log)
        scores: dict[str, Any] = {**found.scores, "rollout_error": min(entry["valid_error"] for entry in log)}
        return FitResult(found.term, scores, found.residual_spectrum, found.log)
