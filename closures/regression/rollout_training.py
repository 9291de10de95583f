"""Training through the solver: the network is judged by the states it leads the model to, not by its term."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from subgrid.ingest.training_set import Dataset
from subgrid.solver.simulation.rollout import rollout

from ..learning.optimisation import Progress, torch_threads
from .training import FitResult, Training, TrainingOptions, checked_pairs


def fit_through_solver(
    dataset: Dataset,
    weights: dict[str, np.ndarray],
    options: TrainingOptions,
    directory: Path,
    progress: Progress | None = None,
) -> FitResult:
    """Train on from `weights`, minimising the loss of `RolloutOptions`; resumes as `fit` does.

    Gradients through the solver are exact: `rollout` is the model's own stepper as array code. The score that selects
    the weights is the root of the loss on the validation windows; 1 is the uncorrected model.

    Raises ValueError for a model with noise or adaptive steps, and for a window that is not a whole number of
    sampling intervals, beside what `fit` raises.
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
            f"unroll = {chosen.unroll} calls, {chosen.every} steps apart, are {window} steps, not a multiple of the "
            f"{model.sampling} steps between samples. Remedy: another --unroll, or another training.every"
        )
    if window // model.sampling >= dataset.sequences[0].shape[1]:
        raise ValueError(f"unroll = {chosen.unroll} is longer than a training trajectory. Remedy: a smaller --unroll")
    directory.mkdir(parents=True, exist_ok=True)
    with torch_threads(options.threads):
        return RolloutTraining(dataset, weights, options, directory).run(progress)


class RolloutTraining(Training):
    """The state of one training through the solver."""

    def __init__(
        self, dataset: Dataset, weights: dict[str, np.ndarray], options: TrainingOptions, directory: Path
    ) -> None:
        chosen = options.rollout
        assert chosen is not None
        self.chosen, self.dataset = chosen, dataset
        train = checked_pairs(*dataset.train, "training")
        valid = checked_pairs(*dataset.validation, "validation")
        shared = {k: getattr(chosen, k) for k in ("steps", "batch", "learning_rate", "validate_every")}
        grid = dataset.model.grid
        super().__init__(train, valid, grid.length, options.model_copy(update=shared), directory, grid.origin)
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
        """<|u_model - u_reference|^2> over windows (trajectory, time) of the training (0) or validation (1) part."""
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
        return self.term(state.to(torch.float32)).to(torch.float64)

    def loss(self, step: int) -> torch.Tensor:
        generator = np.random.Generator(np.random.Philox(key=[self.options.seed, step]))
        trajectories, times = self.dataset.sequences[0].shape[:2]
        chosen = generator.integers((trajectories, times - self.samples), size=(self.options.batch, 2))
        return self.errors(0, chosen) / self.scale**2

    def validation_error(self) -> float:
        with torch.no_grad():
            parts = np.array_split(self.windows, max(1, len(self.windows) // self.options.batch))
            total = sum(len(part) * self.errors(1, part).item() for part in parts) / len(self.windows)
        return float(np.sqrt(total) / self.scale.item())

    def result(self) -> FitResult:
        found = super().result()
        scores: dict[str, Any] = {**found.scores, "rollout_error": min(entry["valid_error"] for entry in self.log)}
        return FitResult(found.term, scores, found.residual_spectrum, found.log)
