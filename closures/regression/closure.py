"""The closure `regression`: a trained network for the mean of the missing term, and its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, PrivateAttr

from subgrid.solver.closure import Memory, Problem, Tendency, View
from subgrid.solver.random import SpectralNoise

from ..learning import weights_file
from ..learning.compatibility import locate, mismatch
from ..learning.compiled_network import CompiledTerm, compilable
from ..learning.learned_closure import LearnedClosure, TrainingJob
from ..learning.noise import SPECTRUM, residual_noise
from ..learning.options import read_options
from ..learning.replay import Replayed
from .options import TrainingOptions

if TYPE_CHECKING:
    import torch

    from subgrid.ingest.training_set import Dataset

    from .training import FitResult


class Regression(LearnedClosure):
    """du/dt gains E[H | u], the mean of the missing term H given the state, from a network.

    The network is the quadratic spectral network, a Fourier neural operator or a periodic CNN.

    noise = "residual" adds noise with the isotropic spectrum of the validation residuals. It is white in time, so it is
    correct where the unpredictable part of the term is white in time, for example where the model omits its noise.
    Members are evaluated in batches of `batch`.

    Raises ClosureError if the weights are for another closure, equation, discretisation, boundary, set of omitted
    terms, fields, shape or length. The quadratic network, and a CNN with `points`, run on other shapes of the same
    length, because their weights do not depend on the grid.
    """

    method: ClassVar[str] = "regression"
    by_descent: ClassVar[bool] = True
    noise: Literal["none", "residual"] = "none"
    batch: int = 16
    _term: Callable[[View, int], Any] = PrivateAttr()
    _noise: SpectralNoise | None = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        path = self.find_weights(problem)
        tensors, header = weights_file.load(path)
        with weights_file.using(path):
            residual = tensors.pop(SPECTRUM)
            compiled = problem.backend == "numpy" and compilable(header["network"])
            self._term = (_compiled if compiled else _by_torch)(tensors, header, problem)
            self._noise = (
                residual_noise(problem.grid, residual[0], header["step"]) if self.noise == "residual" else None
            )
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        return Tendency(self._term(view, self.batch), noise=self._noise), memory

    @classmethod
    def mismatch(cls, header: dict[str, Any], problem: Problem, strict: bool) -> str | None:
        network = header["network"]
        grid_independent = network["kind"] == "quadratic" or "points" in network["options"]
        return mismatch(header, problem, grid_independent=grid_independent, strict=strict)

    @classmethod
    def training_options(cls) -> type[BaseModel]:
        return TrainingOptions

    @classmethod
    def train(cls, job: TrainingJob) -> dict[str, float]:
        """Fit E[H | u] to the pairs and write the weights; returns the validation scores. See `training.fit`.

        With options["objective"] = "rollout" the training starts from given weights and goes through the solver: see
        `fit_through_solver`. Raises ValueError for options that training does not have.
        """
        dataset = cast("Dataset", job.data)
        table = {k: v for k, v in job.options.items() if k != "objective"}
        options = read_options(cls.method, TrainingOptions, table)
        result = _fit(dataset, options, job, through_solver=job.options.get("objective") == "rollout")
        about = dict(dataset.about)
        about["seeds"] = {**about["seeds"], "training": options.seed}
        header = {
            "closure": cls.method,
            "version": version("subgrid"),
            **about,
            **job.origin,
            "normalisation": result.term.normalisation,
            "network": _network(options),
            "training_options": options.model_dump(mode="json"),
            "scores": result.scores,
        }
        weights_file.save(job.target, {**result.tensors, SPECTRUM: result.residual_spectrum.astype(np.float64)}, header)
        return result.scores


def _compiled(tensors: Mapping[str, NDArray], header: dict[str, Any], problem: Problem) -> Callable[[View, int], Any]:
    term = CompiledTerm(tensors, header, problem.grid, problem.precision)
    return lambda view, batch: term(view.array)


def _by_torch(tensors: Mapping[str, NDArray], header: dict[str, Any], problem: Problem) -> Callable[[View, int], Any]:
    import torch

    from ..learning.learned_term import LearnedTerm

    network = header["network"]
    term = LearnedTerm(
        network["kind"],
        network["options"],
        network["features"],
        len(header["shape"]),
        tuple(header["length"]),
        header["normalisation"],
        tuple(header.get("origin", problem.grid.origin)),
    )
    term.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    term.eval().to(problem.device)
    replayed = Replayed(lambda state: term(state.to(torch.float32)).to(torch.float64), problem.device)

    def evaluate(view: View, batch: int) -> torch.Tensor:
        with torch.inference_mode():
            return replayed.in_parts(view.torch(), batch)

    return evaluate


def _network(options: TrainingOptions) -> dict[str, Any]:
    return {"kind": options.network, "options": options.network_options, "features": options.features}


def _fit(dataset: Dataset, options: TrainingOptions, job: TrainingJob, through_solver: bool) -> FitResult:
    from .rollout_training import fit_through_solver
    from .training import fit

    about, added = dataset.about, None
    if options.beside:
        from ..learning.beside import linear_beside, remainder

        added = linear_beside(options.beside, dataset, job.folder, "train.regression.beside")
        if added is not None:
            dataset = remainder(dataset, added)
    if not through_solver:
        length, origin = tuple(about["length"]), tuple(about["origin"])
        return fit(*dataset.train, *dataset.validation, length, options, job.work, job.progress, origin, job.device)
    if options.rollout is None:
        raise ValueError("train.regression.rollout: missing; it holds the options of training through the solver")
    tensors = _initial(options, about, job) if options.rollout.start else None
    return fit_through_solver(dataset, tensors, options, job.work, job.progress, job.device, added)


def _initial(options: TrainingOptions, about: dict[str, Any], job: TrainingJob) -> dict[str, NDArray]:
    """The weights `rollout.start`. Raises ValueError unless they are of the same network and equation."""
    assert options.rollout is not None and options.rollout.start is not None
    path = locate(options.rollout.start, job.folder)
    tensors, header = weights_file.load(path, Regression.method)
    with weights_file.using(path):
        tensors.pop(SPECTRUM)
    if header.get("network") != _network(options) or header["equation"] != about["equation"]:
        raise ValueError(
            f"train.regression.rollout.start: {options.rollout.start} is for another network or equation. "
            "Remedy: weights that were trained for this case with the same network options"
        )
    return tensors
