"""The loss of training through the solver: the error of the states that the corrected model reaches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from subgrid.ingest.training_set import Dataset
from subgrid.solver.simulation.rollout import rollout

from .learned_closure import Progress
from .options import RolloutWindows
from .parallel import share
from .training import StagedTraining, no_progress


def require_rollouts(dataset: Dataset, chosen: RolloutWindows) -> None:
    """Raise ValueError for a model with noise or adaptive steps, and for windows that the trajectories do not have."""
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
    if chosen.segment is not None and chosen.segment % chosen.every:
        raise ValueError(
            f"rollout.segment = {chosen.segment} is not a multiple of every = {chosen.every} steps between calls. "
            f"Remedy: {window} steps, the whole window, or none"
        )
    if window // model.sampling >= dataset.sequences[0].shape[1]:
        raise ValueError(f"unroll = {chosen.unroll} is longer than a training trajectory. Remedy: a smaller --unroll")


class RolloutLoss:
    """The loss of `RolloutWindows` for a model whose right-hand side gains tendency(state), in double precision.

    Gradients through the solver are exact: `rollout` is the stepper of the model as differentiable array code.
    added: eigenvalues of closures beside the trained one, which join the linear operator of the corrected model.
    """

    def __init__(
        self,
        dataset: Dataset,
        chosen: RolloutWindows,
        seed: int,
        tendency: Callable[[Tensor], Tensor],
        device: str = "cpu",
        added: np.ndarray | None = None,
    ) -> None:
        self.device, self.added = device, added
        self.dataset, self.chosen, self.seed, self.tendency = dataset, chosen, seed, tendency
        self.samples = samples = chosen.unroll * chosen.every // dataset.model.sampling
        trajectories, times = dataset.sequences[1].shape[:2]
        flat = np.linspace(0, trajectories * (times - samples) - 1, chosen.windows).round().astype(int)
        self.windows = np.stack(np.divmod(flat, times - samples), axis=1)
        with torch.no_grad():
            self.scale = self.errors(1, self.windows, corrected=False).sqrt()

    def errors(self, part: int, windows: np.ndarray, corrected: bool = True) -> Tensor:
        """<|u_model - u_reference|^2> over windows (window, 2), each given by trajectory and time, of part 0 (training)
        or 1 (validation). Of a model that depends on time, windows that start together are rolled out together."""
        model, span = self.dataset.model, range(self.samples + 1)
        truth = np.stack([[self.dataset.sequences[part][i, n + k] for i, n in windows] for k in span])
        states = torch.from_numpy(truth.astype(np.float64)).to(self.device)
        times = np.zeros(len(windows), dtype=int) if model.equation.autonomous else windows[:, 1]
        squares = []
        for n in np.unique(times):
            together = torch.from_numpy(np.flatnonzero(times == n)).to(self.device)
            found = rollout(
                model.equation,
                model.grid,
                model.stepper,
                model.step,
                states[0][together],
                self.samples * model.sampling,
                start=model.start + float(n) * model.sampling * model.step,
                tendency=self.tendency if corrected else None,
                every=self.chosen.every,
                hold=self.chosen.hold,
                keep=model.sampling,
                segment=self.chosen.segment,
                added=self.added if corrected else None,
            )
            squares.append((found - states[1:, together]).square())
        return torch.cat(squares, dim=1).mean()

    def __call__(self, step: int) -> Tensor:
        """The loss on windows drawn at random as a function of the step: the part of this process."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        trajectories, times = self.dataset.sequences[0].shape[:2]
        chosen = generator.integers((trajectories, times - self.samples), size=(self.chosen.batch, 2))
        mine = share(len(chosen))
        return mine.weight * self.errors(0, mine.of(chosen)) / self.scale**2

    def validation_error(self) -> float:
        """The square root of the loss on the validation windows: 1 for the uncorrected model."""
        with torch.no_grad():
            parts = np.array_split(self.windows, max(1, len(self.windows) // self.chosen.batch))
            total = sum(len(part) * self.errors(1, part).item() for part in parts) / len(self.windows)
        return float(np.sqrt(total) / self.scale.item())


class Coefficients(nn.Module):
    """fitted + scale shift: coefficients whose shifts, initially 0, are trained in units of `scale`."""

    fitted: Tensor
    scale: Tensor

    def __init__(self, fitted: np.ndarray, scale: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.from_numpy(fitted), persistent=False)
        self.register_buffer("scale", torch.from_numpy(scale), persistent=False)
        self.shift = nn.Parameter(torch.zeros_like(self.fitted))

    def forward(self) -> Tensor:
        return self.fitted + self.scale * self.shift


def refine(
    dataset: Dataset,
    fitted: np.ndarray,
    scale: np.ndarray,
    term: Callable[[Tensor, Tensor], Tensor],
    chosen: RolloutWindows,
    seed: int,
    directory: Path,
    progress: Progress = no_progress,
    device: str = "cpu",
) -> tuple[np.ndarray, dict[str, Any]]:
    """Coefficients c that minimise the loss of the model with term(c, state), from `fitted` on, and their scores.

    scale: unit of each coefficient in the descent. device: of torch. Resumes from `directory` as `StagedTraining` does.
    The scores are rollout_error, that of the validation windows, and best_step. Raises ValueError as `require_rollouts`
    does.
    """
    require_rollouts(dataset, chosen)
    coefficients = Coefficients(fitted, scale).to(device)
    loss = RolloutLoss(dataset, chosen, seed, lambda state: term(coefficients(), state), device)
    identity = {
        "options": chosen.model_dump(mode="json") | {"seed": seed},
        "fitted": fitted.ravel().tolist(),
        "scale": loss.scale.item(),
    }
    training = StagedTraining(
        coefficients,
        {"rollout": chosen.steps},
        directory,
        identity,
        every=chosen.validate_every,
        progress=progress,
        clip=None,
        validate=loss.validation_error,
    )
    training.run("rollout", coefficients.parameters(), chosen.learning_rate, loss)
    coefficients.load_state_dict(training.best)
    best = min(training.log, key=lambda entry: entry["valid_error"])
    return coefficients().detach().cpu().numpy(), {"rollout_error": best["valid_error"], "best_step": best["step"]}
