"""The closure `latent-diffusion`: a sampled missing term, coupled so that its noise is right whatever `every` is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from subgrid.ingest.training_set import Dataset
from subgrid.solver.closure import Closure, ClosureError, Memory, Problem, Tendency, View
from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise

from ..learning.compatibility import fitting, mismatch, training_options
from ..learning.noise import residual_noise
from .energy_transfer import without_transfer
from .samplers import Sampler

if TYPE_CHECKING:
    import torch

    from .model import GenerativeTerm


class LatentDiffusion(Closure):
    """H ~ p(H | u): the missing term, sampled in a latent space by a few evaluations of a network.

    coupling "split": the predictable part M(u) + E[H - M | u] is held for the `every` steps, and the solver draws the
    noise afresh each step, in law per sqrt(time), with the spectrum that the model's samples have: right where what is
    left is white in time, as where the model omits its noise. "sample": a draw of H is held until the next call, as in
    arXiv 2506.20771; its noise is white from call to call, or, with a correlation time T, the white noise that it is
    made of goes on as xi <- rho xi + sqrt(1 - rho^2) xi', rho = exp(-every h / T), so that draws follow each other as
    the term does. "auto": "sample" where the training set says that the rest is correlated in time, else "split".

    correlation_time: T; by default the one measured in training; 0 draws afresh at each call. sampler and evaluations
    (of the score network, per draw); distilled: use the student, made for one evaluation ("exponential"). tau_max:
    where "euler-maruyama" begins. transfer: what <u H> is held to, "free", "zero", or "mean", that of the predictable
    part, or "shells", that of the predictable part shell by shell of wavenumbers, over the time until the next call:
    what is left of the term given the state is uncorrelated with it, but a model that is stirred by noise which lives
    on answers to it, and would gain energy. members are evaluated `batch` at a time.

    Raises ClosureError if the weights are for another closure, equation, discretisation, boundary, omitted terms,
    fields, length or, but for Fourier latents, shape.
    """

    kind: ClassVar[str] = "other"
    weights: str | None = None
    coupling: Literal["auto", "split", "sample"] = "auto"
    sampler: Sampler = "exponential"
    evaluations: int = Field(1, ge=1, le=1000)
    distilled: bool | None = None
    correlation_time: float | None = Field(None, ge=0)
    tau_max: float = Field(1.0, gt=0, le=1)
    transfer: Literal["free", "zero", "mean", "shells"] = "free"
    batch: int = Field(16, ge=1)
    _model: GenerativeTerm = PrivateAttr()
    _noise: SpectralNoise | None = PrivateAttr()
    _rho: float = PrivateAttr()
    _shape: tuple[int, ...] = PrivateAttr()
    _student: bool = PrivateAttr()
    _grid: Grid = PrivateAttr()
    _span: float = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        model, header, spectrum = self._find(problem)
        try:
            self._shape = model.latent_shape(problem.grid.shape)
        except ValueError as error:
            raise ClosureError(f"latent-diffusion: {error}. Remedy: a finer grid, or other weights") from None
        if self.sampler == "heun" and self.evaluations % 2 == 0:
            raise ClosureError("latent-diffusion: heun takes an odd number of evaluations. Remedy: evaluations + 1")
        one = self.sampler == "exponential" and self.evaluations == 1
        self._student = model.student is not None and one if self.distilled is None else self.distilled
        if self._student and model.student is None:
            raise ClosureError("latent-diffusion: these weights hold no student. Remedy: distil_steps in training")
        if self._student and not one:
            raise ClosureError(
                'latent-diffusion: the student makes one evaluation. Remedy: sampler = "exponential", evaluations = 1'
            )
        time = header["correlation_time"] if self.correlation_time is None else self.correlation_time
        split = self.coupling == "split" or (self.coupling == "auto" and header["correlation_time"] == 0)
        self._noise = residual_noise(problem.grid, spectrum[0], header["step"]) if split else None
        self._rho = math.exp(-problem.every * problem.step / time) if time else 0.0
        self._grid, self._span = problem.grid, problem.every * problem.step
        self._model = model.to(problem.device)
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        import torch

        state = view.torch().to(torch.float32)
        with torch.inference_mode():
            if self._noise is not None:
                parts = [self._predictable(part) for part in state.split(self.batch)]
            else:
                white = view.random.normal(self._shape).astype(np.float32)
                if self._rho:
                    if "white" in memory:
                        white = self._rho * memory["white"] + math.sqrt(1 - self._rho**2) * white
                    memory = {"white": white.astype(np.float32)}
                drawn = torch.from_numpy(white.astype(np.float32)).to(state.device)
                parts = []
                for begin in range(0, len(state), self.batch):
                    part = slice(begin, begin + self.batch)
                    parts.append(self._draw(state[part], drawn[part], self._further(view, part, state.device)))
        return Tendency(torch.cat(parts).to(torch.float64), noise=self._noise), memory

    def _predictable(self, state: torch.Tensor) -> torch.Tensor:
        mean = self._model.predictable(state)
        return self._held(state, mean + self._model.expected(state, mean), mean)

    def _draw(self, state: torch.Tensor, white: torch.Tensor, fresh: Callable[[], torch.Tensor]) -> torch.Tensor:
        mean = self._model.predictable(state)
        rest = self._model.sampled(
            state, mean, white, self.sampler, self.evaluations, fresh, self.tau_max, self._student
        )
        return self._held(state, mean + rest, mean)

    def _further(self, view: View, part: slice, device: torch.device) -> Callable[[], torch.Tensor]:
        """More white noise for some members, other at each call, each from its own stream."""
        import torch

        generators = [view.random.generator(member) for member in view.random.members[part]]
        for generator in generators:
            generator.bit_generator.advance(2**64)  # type: ignore[attr-defined]

        def fresh() -> torch.Tensor:
            drawn = np.stack([g.standard_normal(self._shape, dtype=np.float32) for g in generators])
            return torch.from_numpy(drawn).to(device)

        return fresh

    def _held(self, state: torch.Tensor, term: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """The term with as much along u as brings <u H> to its target."""
        if self.transfer == "free":
            return term
        if self.transfer == "shells":
            return mean + without_transfer(term - mean, state, self._span, self._grid)
        axes = tuple(range(1, state.ndim))
        off = (state * (term - mean if self.transfer == "mean" else term)).sum(axes, keepdim=True)
        return term - off / state.square().sum(axes, keepdim=True) * state

    def _find(self, problem: Problem) -> tuple[GenerativeTerm, dict[str, Any], np.ndarray]:
        from .model import GenerativeTerm

        return fitting(
            "latent-diffusion",
            self.weights,
            problem,
            GenerativeTerm.load,
            lambda found, strict: mismatch(found[1], problem, free=found[0].latent.free, strict=strict),
            "*-latent-diffusion.safetensors",
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
        """Fit the model to the pairs and write its weights; returns the validation scores. See `training.train`.

        Raises ValueError for options that training does not have.
        """
        from .options import TrainingOptions
        from .training import train

        chosen = training_options("latent-diffusion", TrainingOptions, options)
        model, header, spectrum = train(dataset, chosen, work, folder, progress)
        model.save(target, {**header, **origin}, spectrum)
        return header["scores"]
