"""Fit a network to pairs (state, term): resumable, and bit for bit reproducible."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..learning.batches import draw_batch
from ..learning.learned_closure import Progress
from ..learning.learned_term import FEATURES, LearnedTerm, Lengths
from ..learning.optimisation import torch_threads
from ..learning.scores import relative_error, root_mean_squares, shell_spectrum
from ..learning.training import StagedTraining, no_progress
from .options import TrainingOptions

STAGE = "term"  # the only one

Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FitResult:
    """A trained term with the weights of the best validation, and its scores on the validation pairs.

    `scores` holds relative_error ||prediction - term|| / ||term|| and correlation (Pearson), both over all values in
    normalised units, and best_step. `residual_spectrum` (field, shell) is the mean of |r_hat(k)|^2 of
    r = term - prediction, in physical units squared, over the samples and the complex modes of each shell round(|k|),
    with k integer and ``norm="forward"``. `log` holds stage, step, loss and valid_error of every validation.
    """

    term: LearnedTerm
    scores: dict[str, float]
    residual_spectrum: np.ndarray
    log: list[dict[str, Any]]

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The weights by name, as `LearnedTerm.load_state_dict` takes them."""
        return {name: value.cpu().numpy().copy(order="C") for name, value in self.term.state_dict().items()}


def fit(
    train_state: np.ndarray,
    train_term: np.ndarray,
    valid_state: np.ndarray,
    valid_term: np.ndarray,
    length: Lengths,
    options: TrainingOptions,
    directory: str | Path,
    progress: Progress = no_progress,
    origin: Lengths = 0.0,
    device: str = "cpu",
) -> FitResult:
    """Minimise the loss of `TrainingOptions` over pairs of arrays (sample, field, *grid), in 1D or 2D.

    States and terms are divided by their root mean squares over the training pairs, one per field. Batch n is a
    function of (seed, n) alone, so a training that is interrupted resumes from `directory`, where it is saved at every
    validation, and ends with the same weights bit for bit on the same machine and number of threads.
    progress(step, steps, metrics) is called after each step; metrics are loss and, once known, valid_error. device: of
    torch; the initial weights and the batches are the same on every device.

    Raises ValueError for arrays that do not fit together or are not finite, a field that is zero everywhere, options
    that the network rejects, or a `directory` that holds another training; FloatingPointError if the loss is no longer
    finite.
    """
    train = checked_pairs(train_state, train_term, "training")
    valid = checked_pairs(valid_state, valid_term, "validation")
    if train[0].shape[1:] != valid[0].shape[1:]:
        raise ValueError(f"training pairs are {train[0].shape[1:]}, validation pairs {valid[0].shape[1:]}")
    with torch_threads(options.threads):
        return Training(train, valid, length, options, origin, device).run(Path(directory), progress)


class Training:
    """One training: its pairs, its network, its loss and its validation error."""

    def __init__(
        self,
        train: Pairs,
        valid: Pairs,
        length: Lengths,
        options: TrainingOptions,
        origin: Lengths = 0.0,
        device: str = "cpu",
    ) -> None:
        self.options, self.device = options, device
        dimensions = train[0].ndim - 2
        normalisation = {"state": _scales(train[0], "state"), "term": _scales(train[1], "term")}
        state_scale, term_scale = (
            np.asarray(normalisation[name], np.float32).reshape(-1, *[1] * dimensions) for name in ("state", "term")
        )
        self.train = train  # as they are, perhaps in a file
        self.scales = torch.from_numpy(state_scale), torch.from_numpy(term_scale)
        self.valid = (valid[0] / state_scale, valid[1] / term_scale)
        self.term_scale = term_scale
        if options.features != "state":
            features = FEATURES[options.features]
            parts = torch.from_numpy(train[0]).split(256)
            inputs = [features(part / self.scales[0], length, origin).numpy() for part in parts]
            normalisation["features"] = _scales(np.concatenate(inputs), "features")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.term = LearnedTerm(
                options.network, options.network_options, options.features, dimensions, length, normalisation, origin
            )
        self.term.to(device)
        self.identity = {
            "options": options.model_dump(mode="json", exclude={"threads"}),
            "length": np.broadcast_to(length, dimensions).tolist(),
            "normalisation": normalisation,
            "shapes": [list(array.shape) for array in (*train, *valid)],
            "valid_term": _scales(valid[1], "term"),
        }

    def run(self, directory: Path, progress: Progress) -> FitResult:
        options = self.options
        training = StagedTraining(
            self.term,
            {STAGE: options.steps},
            directory,
            self.identity,
            every=options.validate_every,
            progress=progress,
            clip=None,
            weight_decay=options.weight_decay,
            validate=self.validation_error,
        )
        training.run(STAGE, self.term.parameters(), options.learning_rate, self.loss)
        self.term.load_state_dict(training.best)
        return self.result(training.log)

    def loss(self, step: int) -> torch.Tensor:
        """The loss on batch number `step`: the part of this process."""
        options = self.options
        state, term, share = draw_batch(*self.train, options, step)
        state, term = (part.div_(s).to(self.device) for part, s in zip((state, term), self.scales, strict=True))
        prediction = self.term.normalised(state)
        loss = (prediction - term).square().mean()
        if options.transfer_weight:
            error = _transfer(state, prediction) - _transfer(state, term)
            loss = loss + options.transfer_weight * error.square().mean()
        return share.weight * loss

    def validation_error(self) -> float:
        """The error that selects the best weights."""
        return relative_error(self.predict(), self.valid[1])

    def predict(self) -> np.ndarray:
        """The normalised terms of the validation states."""
        with torch.inference_mode():
            parts = torch.from_numpy(self.valid[0]).split(self.options.batch)
            return torch.cat([self.term.normalised(part.to(self.device)).cpu() for part in parts]).numpy()

    def result(self, log: list[dict[str, Any]]) -> FitResult:
        """The result with the present weights, which are the best of the log."""
        prediction, term = self.predict(), self.valid[1]
        scores = {
            "relative_error": relative_error(prediction, term),
            "correlation": float(np.corrcoef(prediction.ravel(), term.ravel())[0, 1]),
            "best_step": log[int(np.argmin([entry["valid_error"] for entry in log]))]["step"],
        }
        spectrum = shell_spectrum((term - prediction) * self.term_scale)
        return FitResult(self.term, scores, spectrum, log)


def _transfer(state: torch.Tensor, term: torch.Tensor) -> torch.Tensor:
    """<u.term> of each sample: the mean over its grid and fields."""
    return (state * term).flatten(1).mean(1)


def checked_pairs(state: np.ndarray, term: np.ndarray, what: str) -> Pairs:
    """The pairs in single precision. Raises ValueError if the arrays do not fit together or are not finite."""
    state, term = (np.ascontiguousarray(array, dtype=np.float32) for array in (state, term))
    if state.shape != term.shape or state.ndim not in (3, 4) or len(state) == 0:
        raise ValueError(
            f"{what} states {state.shape} and terms {term.shape} must share one shape (sample, field, "
            "*grid), with one or more samples in 1D or 2D"
        )
    if not np.isfinite([state.min(), state.max(), term.min(), term.max()]).all():
        raise ValueError(f"the {what} pairs hold values that are not finite. Remedy: remove those snapshots")
    return state, term


def _scales(array: np.ndarray, name: str) -> list[float]:
    """The root mean square of each field of (sample, field, *grid). Raises ValueError for a field of zeros."""
    scales = root_mean_squares(array)
    if not all(scales):
        raise ValueError(f"a field of the {name} is zero in every pair, so it has no scale and cannot be learned")
    return scales
