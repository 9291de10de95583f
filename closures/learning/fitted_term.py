"""Closures whose term is linear in a few coefficients, which are fitted to the training pairs in closed form."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from subgrid.solver.backend import Backend
from subgrid.solver.closure import Problem
from subgrid.solver.random import SpectralNoise
from subgrid.solver.spectral import Operators

from . import weights_file
from .learned_closure import LearnedClosure, TrainingJob
from .noise import SPECTRUM, residual_noise
from .options import RolloutWindows, read_options
from .scores import relative_error, root_mean_squares, shell_spectrum

if TYPE_CHECKING:
    from subgrid.ingest.training_set import Dataset

Array = Any
COEFFICIENTS = "coefficients"  # name of their tensor in weights
BATCH = 128  # samples evaluated at a time


class FitOptions(BaseModel):
    """The table [train.NAME]: nothing is needed, because the fit has a closed form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, description="of the windows of training through the solver")
    threads: int | None = Field(None, ge=1, description="of torch; by default unchanged")
    rollout: RolloutWindows = Field(
        default_factory=lambda: RolloutWindows.model_validate({"learning_rate": 0.01}),
        description="options of training through the solver",
    )


# term(coefficients, operators, state): the term (sample, field, *grid), as array code in a namespace
Evaluate = Callable[[Array, Operators, Array], Array]


@dataclass(frozen=True)
class Fit:
    """Fitted coefficients, the term that they multiply, and the unit of each coefficient in further training.

    header: what the weights file says beside what all of them do.
    """

    coefficients: NDArray[np.float64]
    unit: NDArray[np.float64]
    evaluate: Evaluate
    header: dict[str, Any] = field(default_factory=dict)


def batches(*arrays: NDArray) -> Iterator[tuple[NDArray, ...]]:
    """The arrays (sample, ...) in double precision, some samples at a time."""
    for first in range(0, len(arrays[0]), BATCH):
        yield tuple(np.asarray(a[first : first + BATCH], dtype=np.float64) for a in arrays)


class FittedTerm(LearnedClosure):
    """du/dt += sum_j c_j g_j(u), with coefficients c_j from the training pairs, or trained on through the solver.

    noise = "residual" adds noise with the isotropic spectrum of the validation residuals, white in time, as for
    `regression`. noise_time: the correlation time T of the residuals; the noise then has the intensity of residuals
    with the correlation exp(-t / T), which is 2 T times their variance. By default it is the step of the reference
    times their variance, as of residuals that are drawn anew at every step.
    """

    noise: Literal["none", "residual"] = "none"
    noise_time: float | None = Field(None, gt=0)
    options: ClassVar[type[FitOptions]] = FitOptions
    _noise: SpectralNoise | None = PrivateAttr(None)

    @classmethod
    @abstractmethod
    def fit(cls, dataset: Dataset, options: Any) -> Fit:
        """The coefficients of least square error over the training pairs."""

    @classmethod
    def describe(cls, fit: Fit, coefficients: NDArray, equation: str) -> dict[str, str]:
        """What the header says of the final coefficients; `formula` is printed at the end of `subgrid train`."""
        return {}

    @classmethod
    def training_options(cls) -> type[BaseModel]:
        return cls.options

    @classmethod
    def train(cls, job: TrainingJob) -> dict[str, float]:
        """Fit the coefficients and write the weights; returns the scores on the validation pairs.

        With options["objective"] = "rollout" they are then trained through the solver, see `rollout_loss.refine`.
        Raises ValueError for options that training does not have, and as `fit` and `refine` do.
        """
        dataset = cast("Dataset", job.data)
        options = read_options(cls.method, cls.options, {k: v for k, v in job.options.items() if k != "objective"})
        grid = dataset.model.grid
        fit = cls.fit(dataset, options)
        coefficients = fit.coefficients
        scores: dict[str, float] = {}
        if job.options.get("objective") == "rollout":
            coefficients, scores = _through_solver(dataset, fit, options, job)
        job.progress(1, 1, {})
        operators, term = Operators(grid), dataset.validation[1]
        prediction = np.concatenate(
            [fit.evaluate(coefficients, operators, states) for (states,) in batches(dataset.validation[0])]
        )
        scores = _scores(prediction, term) | scores
        about = dict(dataset.about)
        about["seeds"] = {**about["seeds"], "training": options.seed}
        scales = {"state": dataset.train[0], "term": dataset.train[1]}
        header = {
            "closure": cls.method,
            "version": version("subgrid"),
            **about,
            **job.origin,
            **fit.header,
            **cls.describe(fit, coefficients, dataset.model.equation.name),
            "normalisation": {name: root_mean_squares(pairs) for name, pairs in scales.items()},
            "training_options": options.model_dump(mode="json"),
            "scores": scores,
        }
        tensors = {COEFFICIENTS: coefficients, SPECTRUM: shell_spectrum(term - prediction)}
        weights_file.save(job.target, tensors, header)
        return scores

    @contextmanager
    def reading(self, problem: Problem) -> Iterator[tuple[NDArray[np.float64], dict[str, Any]]]:
        """Coefficients and header of the weights for a problem, and `_noise` from them; errors inside name the file."""
        path = self.find_weights(problem)
        tensors, header = weights_file.load(path, self.method)
        with weights_file.using(path):
            self._noise = None
            if self.noise == "residual":
                span = header["step"] if self.noise_time is None else 2 * self.noise_time
                laws = [residual_noise(problem.grid, power, span) for power in tensors[SPECTRUM]]
                self._noise = SpectralNoise(problem.grid, np.stack([law.amplitude for law in laws]))
            yield tensors[COEFFICIENTS], header


def _scores(prediction: NDArray, term: NDArray) -> dict[str, float]:
    """relative_error ||prediction - term|| / ||term|| and correlation (Pearson), over all values."""
    scale = np.reshape(root_mean_squares(term), (-1, *[1] * (term.ndim - 2)))
    scale[scale == 0] = 1.0
    found, true = prediction / scale, term / scale
    spread = float(found.std() * true.std())
    correlation = float(np.mean((found - found.mean()) * (true - true.mean()))) / spread if spread else 0.0
    return {"relative_error": relative_error(found, true), "correlation": correlation}


def _through_solver(
    dataset: Dataset, fit: Fit, options: FitOptions, job: TrainingJob
) -> tuple[NDArray[np.float64], dict[str, float]]:
    from .optimisation import torch_threads
    from .rollout_loss import refine

    operators = Operators(dataset.model.grid, backend=Backend("torch", job.device))

    def term(coefficients: Array, state: Array) -> Array:
        return fit.evaluate(coefficients, operators, state)

    with torch_threads(options.threads):
        return refine(
            dataset, fit.coefficients, fit.unit, term, options.rollout, options.seed, job.work, job.progress, job.device
        )
