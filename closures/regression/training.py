"""Fit a network to pairs (state, term) of snapshots: resumable, and the same bits every time."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from ..learning.batches import draw_batch
from ..learning.learned_term import FEATURES, Features, LearnedTerm, Lengths
from ..learning.optimisation import Progress, one_cycle, torch_threads
from ..learning.scores import relative_error, shell_spectrum
from ..learning.weights_file import read_checkpoint, write_tensors


class RolloutOptions(BaseModel):
    """How trained weights are trained on through the solver: what differs from the one-step training they come from.

    loss = <|u_model(t) - u_reference(t)|^2> over the sampling times of a window, which the model steps through from the
    reference's state, calling the network `unroll` times, once every `every` steps; in units of the uncorrected model's
    error over the validation windows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: str = Field(description="weights to begin with: a file, or the name of one that ships")
    unroll: int = Field(5, ge=1, description="calls of the network in a window")
    every: int = Field(5, ge=1, description="steps of the model between calls")
    steps: int = Field(200, ge=1)
    batch: int = Field(8, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    validate_every: int = Field(25, ge=1)
    windows: int = Field(16, ge=1, description="windows of the validation trajectories, evenly spread")


class TrainingOptions(BaseModel):
    """How a regression is trained: Adam on the mean square error, under a one-cycle learning rate.

    loss = <|prediction - term|^2> + transfer_weight <(<u.prediction> - <u.term>)^2>, in units of the root
    mean squares of u and term; <u.term> is the mean over a sample's grid and fields, so the second part holds
    the energy (of a vorticity: the enstrophy) that the term gives to each state.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["quadratic", "fno", "cnn"] = "quadratic"
    network_options: dict[str, Any] = {}
    features: Features = "state"
    steps: int = Field(2000, ge=1)
    batch: int = Field(32, ge=1)
    learning_rate: float = Field(0.01, gt=0, description="the peak of the one-cycle schedule")
    weight_decay: float = Field(0.0, ge=0, description="decoupled, as in AdamW")
    transfer_weight: float = Field(0.0, ge=0)
    shift: Literal["all", "x", "none"] = Field(
        "all", description="axes along which every sample is rolled by a random number of points"
    )
    reflections: bool = Field(
        False,
        description="reverse each axis at random, state and term changing sign with each reversal, as a vorticity does",
    )
    validate_every: int = Field(100, ge=1, description="steps between validations, from which it resumes")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1, description="of torch; by default as many as it is set to")
    rollout: RolloutOptions | None = Field(None, description="for training through the solver")


@dataclass(frozen=True)
class FitResult:
    """A trained term: the weights of the best validation, and how good they are on the validation pairs.

    `scores` holds relative_error ||prediction - term|| / ||term||, correlation (Pearson), both over all
    values in normalised units, and best_step. `residual_spectrum` (field, shell) is the mean of |r_hat(k)|^2
    of r = term - prediction, in physical units squared, over the samples and the complex modes of each shell
    round(|k|), with k integer and ``norm="forward"``. `log` holds step, train_loss and valid_error.
    """

    term: LearnedTerm
    scores: dict[str, float]
    residual_spectrum: np.ndarray
    log: list[dict[str, float]]

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The weights by name, as `LearnedTerm.load_state_dict` takes them."""
        return {name: value.numpy().copy(order="C") for name, value in self.term.state_dict().items()}


def fit(
    train_state: np.ndarray,
    train_term: np.ndarray,
    valid_state: np.ndarray,
    valid_term: np.ndarray,
    length: Lengths,
    options: TrainingOptions,
    directory: str | Path,
    progress: Progress | None = None,
    origin: Lengths = 0.0,
) -> FitResult:
    """Minimise the loss of `TrainingOptions` over pairs of arrays (sample, field, *grid), in 1D or 2D.

    States and terms are divided by their root mean squares over the training pairs, one per field. Batch n is
    drawn by a counter-based generator keyed by (seed, n), so a run that is cut off continues from
    `directory`/last.safetensors, written at every validation, and ends with the same weights bit for bit, on
    the same machine and thread count. `directory`/training.jsonl holds the log. `progress` is called after
    each step with (step, steps, metrics), metrics being train_loss and, once known, valid_error.

    Raises ValueError for arrays that do not fit together or are not finite, a field that is zero throughout,
    options the network refuses, or a `directory` that holds another training; FloatingPointError if the loss
    is no longer finite.
    """
    train = checked_pairs(train_state, train_term, "training")
    valid = checked_pairs(valid_state, valid_term, "validation")
    if train[0].shape[1:] != valid[0].shape[1:]:
        raise ValueError(f"training pairs are {train[0].shape[1:]}, validation pairs {valid[0].shape[1:]}")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with torch_threads(options.threads):
        return Training(train, valid, length, options, directory, origin).run(progress)


class Training:
    """The state of one training: weights, moments, log and best weights, and its place on disk."""

    def __init__(
        self,
        train: tuple[np.ndarray, np.ndarray],
        valid: tuple[np.ndarray, np.ndarray],
        length: Lengths,
        options: TrainingOptions,
        directory: Path,
        origin: Lengths = 0.0,
    ) -> None:
        self.options, self.directory = options, directory
        dimensions = train[0].ndim - 2
        normalisation = {"state": _scales(train[0], "state"), "term": _scales(train[1], "term")}
        state_scale, term_scale = (
            np.asarray(normalisation[name], np.float32).reshape(-1, *[1] * dimensions) for name in ("state", "term")
        )
        self.train = (train[0] / state_scale, train[1] / term_scale)
        self.valid = (valid[0] / state_scale, valid[1] / term_scale)
        self.term_scale = term_scale
        if options.features != "state":
            make = FEATURES[options.features]
            inputs = [make(part, length, origin).numpy() for part in torch.from_numpy(self.train[0]).split(256)]
            normalisation["features"] = _scales(np.concatenate(inputs), "features")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.term = LearnedTerm(
                options.network, options.network_options, options.features, dimensions, length, normalisation, origin
            )
        self.optimizer = torch.optim.AdamW(
            self.term.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.identity = {
            "options": options.model_dump(mode="json", exclude={"threads"}),
            "length": np.broadcast_to(length, dimensions).tolist(),
            "normalisation": normalisation,
            "shapes": [list(array.shape) for array in (*train, *valid)],
            "valid_term": _scales(valid[1], "term"),
        }
        self.log: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}

    @property
    def checkpoint(self) -> Path:
        return self.directory / "last.safetensors"

    def run(self, progress: Progress | None) -> FitResult:
        options = self.options
        if self.checkpoint.exists():
            self.resume()
        first = int(self.log[-1]["step"]) if self.log else 0
        losses: list[float] = []
        for step in range(first, options.steps):
            losses.append(self.advance(step))
            if (step + 1) % options.validate_every == 0 or step + 1 == options.steps:
                self.validate(step + 1, float(np.mean(losses)))
                losses.clear()
            if progress is not None:
                metrics = {"train_loss": losses[-1] if losses else self.log[-1]["train_loss"]}
                if self.log:
                    metrics["valid_error"] = self.log[-1]["valid_error"]
                progress(step + 1, options.steps, metrics)
        return self.result()

    def advance(self, step: int) -> float:
        """One step of Adam on batch number `step`; returns its loss."""
        options = self.options
        rate, momentum = one_cycle(step, options.steps, options.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = rate, (momentum, 0.999)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(step)
        loss.backward()
        self.optimizer.step()
        return self.finite(loss.item(), step + 1)

    def loss(self, step: int) -> torch.Tensor:
        """The loss on batch number `step`."""
        options = self.options
        state, term = draw_batch(*self.train, options, step)
        prediction = self.term.normalised(state)
        loss = (prediction - term).square().mean()
        if options.transfer_weight:
            error = _transfer(state, prediction) - _transfer(state, term)
            loss = loss + options.transfer_weight * error.square().mean()
        return loss

    def validate(self, step: int, train_loss: float) -> None:
        """Log the validation error, keep the weights if they are the best so far, and write it all down."""
        error = self.finite(self.validation_error(), step)
        if all(error < entry["valid_error"] for entry in self.log):
            self.best = {name: value.clone() for name, value in self.term.state_dict().items()}
        self.log.append({"step": step, "train_loss": train_loss, "valid_error": error})
        self.save()

    def validation_error(self) -> float:
        """What the best weights are chosen by."""
        return relative_error(self.predict(), self.valid[1])

    def finite(self, value: float, step: int) -> float:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the error is {value} at step {step}: lower learning_rate ({self.options.learning_rate})"
            )
        return value

    def predict(self) -> np.ndarray:
        """The normalised terms of the validation states."""
        with torch.inference_mode():
            parts = torch.from_numpy(self.valid[0]).split(self.options.batch)
            return torch.cat([self.term.normalised(part) for part in parts]).numpy()

    def result(self) -> FitResult:
        self.term.load_state_dict(self.best)
        prediction, term = self.predict(), self.valid[1]
        errors = [entry["valid_error"] for entry in self.log]
        scores = {
            "relative_error": relative_error(prediction, term),
            "correlation": float(np.corrcoef(prediction.ravel(), term.ravel())[0, 1]),
            "best_step": self.log[int(np.argmin(errors))]["step"],
        }
        spectrum = shell_spectrum((term - prediction) * self.term_scale)
        return FitResult(self.term, scores, spectrum, self.log)

    def save(self) -> None:
        moments = {
            f"{key}.{name}": self.optimizer.state[parameter][key]
            for name, parameter in self.term.named_parameters()
            for key in ("exp_avg", "exp_avg_sq")
        }
        weights = {f"last.{name}": value for name, value in self.term.state_dict().items()}
        best = {f"best.{name}": value for name, value in self.best.items()}
        tensors = {name: value.detach().numpy() for name, value in (moments | weights | best).items()}
        write_tensors(self.checkpoint, tensors, {"identity": self.identity, "log": self.log})
        lines = "".join(json.dumps(entry) + "\n" for entry in self.log)
        (self.directory / "training.jsonl").write_text(lines, encoding="utf-8")

    def resume(self) -> None:
        arrays, header = read_checkpoint(self.checkpoint, self.identity)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for name, value in self.term.state_dict().items():
            self.best[name] = tensors[f"best.{name}"]
            value.copy_(tensors[f"last.{name}"])
        self.log = header["log"]
        for name, parameter in self.term.named_parameters():
            state = {
                key: torch.zeros_like(parameter).copy_(tensors[f"{key}.{name}"]) for key in ("exp_avg", "exp_avg_sq")
            }
            self.optimizer.state[parameter] = {"step": torch.tensor(float(self.log[-1]["step"])), **state}


def _transfer(state: torch.Tensor, term: torch.Tensor) -> torch.Tensor:
    """<u.term> of each sample: the mean over its grid and fields."""
    return (state * term).flatten(1).mean(1)


def checked_pairs(state: np.ndarray, term: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    state, term = (np.ascontiguousarray(array, dtype=np.float32) for array in (state, term))
    if state.shape != term.shape or state.ndim not in (3, 4) or len(state) == 0:
        raise ValueError(
            f"{what} states {state.shape} and terms {term.shape} must share one shape (sample, field, "
            "*grid), with one or more samples in 1D or 2D"
        )
    if not (np.isfinite(state).all() and np.isfinite(term).all()):
        raise ValueError(f"the {what} pairs hold values that are not finite: leave those snapshots out")
    return state, term


def _scales(array: np.ndarray, name: str) -> list[float]:
    """The root mean square of each field of (sample, field, *grid)."""
    axes = (0, *range(2, array.ndim))
    scales = np.sqrt(np.mean(np.square(array, dtype=np.float64), axis=axes))
    if not scales.all():
        raise ValueError(f"a field of the {name} is zero in every pair: it has no scale, and is not learned")
    return scales.tolist()
