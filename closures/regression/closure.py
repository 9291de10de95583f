"""The closure `regression`: a trained network in the loop, and its training."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import PrivateAttr

from subgrid.ingest.training_set import Dataset
from subgrid.solver.closure import Closure, Memory, Problem, Tendency, View
from subgrid.solver.random import SpectralNoise

from ..learning import weights_file
from ..learning.compatibility import fitting, locate, mismatch, training_options
from ..learning.noise import SPECTRUM, residual_noise

if TYPE_CHECKING:
    import torch


class Regression(Closure):
    """E[H | u] by a network: the quadratic spectral network, a Fourier neural operator or a periodic CNN.

    weights: a .safetensors file (relative to the case file) or the name of one that ships; without it, the
    first shipped file that fits, the equation's parameters included. noise = "residual" adds white noise with the
    spectrum of the validation residuals, isotropic, in law per sqrt(time): right where what the network cannot know is
    white in time, as where the model omits its noise. members are evaluated `batch` at a time.

    Raises ClosureError if the weights are for another closure, equation, discretisation, boundary, omitted terms,
    fields, shape or length. The quadratic network, and a CNN with `points`, run on other shapes of the same length:
    their weights do not depend on the grid.
    """

    kind: ClassVar[str] = "regression"
    weights: str | None = None
    noise: Literal["none", "residual"] = "none"
    batch: int = 16
    _term: torch.nn.Module = PrivateAttr()
    _noise: SpectralNoise | None = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        import torch

        from ..learning.learned_term import LearnedTerm

        tensors, header = self._find(problem)
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
        residual = tensors.pop(SPECTRUM)
        term.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        self._term = term.eval().to(problem.device)
        self._noise = residual_noise(problem.grid, residual[0], header["step"]) if self.noise == "residual" else None
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        import torch

        state = view.torch().to(torch.float32)
        with torch.inference_mode():
            parts = [self._term(part) for part in state.split(self.batch)]
        return Tendency(torch.cat(parts).to(torch.float64), noise=self._noise), memory

    def _find(self, problem: Problem) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return fitting(
            "regression",
            self.weights,
            problem,
            weights_file.load,
            lambda found, strict: _mismatch(found[1], problem, strict),
        )

    @staticmethod
    def train(
        options: dict[str, Any],
        dataset: Dataset,
        target: Path,
        work: Path,
        folder: Path,
        origin: dict[str, str],
        progress: Callable[[int, int, dict[str, float]], None],
    ) -> dict[str, float]:
        """Fit E[H | u] to the pairs and write the weights; returns the validation scores. See `training.fit`.

        With options["objective"] = "rollout" weights are trained on through the solver: `fit_through_solver`. Files
        named in the options are relative to `folder`. Raises ValueError for options that training does not have.
        """
        from .rollout_training import fit_through_solver
        from .training import TrainingOptions, fit

        through_solver = options.get("objective") == "rollout"
        options = {k: v for k, v in options.items() if k != "objective"}
        chosen = training_options("regression", TrainingOptions, options)
        about = dict(dataset.about)
        if through_solver:
            if chosen.rollout is None:
                raise ValueError("train.regression.rollout: missing; it says which weights to begin with")
            begin, begun = weights_file.load(locate(chosen.rollout.start, folder))
            made = {"kind": chosen.network, "options": chosen.network_options, "features": chosen.features}
            if begun["network"] != made or begun["equation"] != about["equation"]:
                raise ValueError(f"train.regression.rollout.start: {chosen.rollout.start}: another network or equation")
            begin.pop(SPECTRUM)
            result = fit_through_solver(dataset, begin, chosen, work, progress)
        else:
            places = tuple(about["length"]), tuple(about["origin"])
            result = fit(*dataset.train, *dataset.validation, places[0], chosen, work, progress, places[1])
        about["seeds"] = {**about["seeds"], "training": chosen.seed}
        header = {
            "closure": "regression",
            "version": version("subgrid"),
            **about,
            **origin,
            "normalisation": result.term.normalisation,
            "network": {
                "kind": chosen.network,
                "options": chosen.network_options,
                "features": chosen.features,
            },
            "training_options": chosen.model_dump(mode="json"),
            "scores": result.scores,
        }
        weights_file.save(target, {**result.tensors, SPECTRUM: result.residual_spectrum.astype(np.float64)}, header)
        return result.scores


def _mismatch(header: dict[str, Any], problem: Problem, strict: bool = False) -> str | None:
    """How the weights and the problem differ, by name; with `strict` parameters must be equal too."""
    if header["closure"] != "regression":
        return f"is for the closure {header['closure']}"
    free = header["network"]["kind"] == "quadratic" or "points" in header["network"]["options"]
    return mismatch(header, problem, free=free, strict=strict)
