"""The closure `latent-diffusion`: a random missing term whose noise has the same law for any `every`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import BaseModel, Field, PrivateAttr

from subgrid.solver.closure import ClosureError, Memory, Problem, Tendency, View
from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise

from ..learning.compatibility import mismatch
from ..learning.learned_closure import LearnedClosure, TrainingJob
from ..learning.noise import residual_noise
from ..learning.options import Sampler, read_options
from ..learning.replay import Replayed
from ..learning.weights_file import using
from ..regression.options import TrainingOptions as MeanOptions
from .options import METHOD, TrainingOptions

if TYPE_CHECKING:
    import torch

    from subgrid.ingest.training_set import Dataset

    from .model import GenerativeTerm


class LatentDiffusion(LearnedClosure):
    """du/dt gains H ~ p(H | u): the missing term, sampled in a latent space by few evaluations of a network.

    coupling "split": the mean M(u) + E[H - M | u] is held for `every` steps, and the solver draws white noise at each
    step, per sqrt(time), with the spectrum of the samples of the model. This is correct where the residual of the mean
    is white in time, for example where the model omits its noise. "sample": a sample of H is held until the next call,
    as in arXiv 2506.20771. Its noise is white from call to call, or, with a correlation time T, the noise xi of the
    sampler is xi <- rho xi + sqrt(1 - rho^2) xi' with rho = exp(-every h / T), so that successive samples have the
    correlation of the term. "auto": "sample" if the training set has a residual that is correlated in time, else
    "split".

    correlation_time: T; by default the one measured in training; 0 draws independent noise at each call. sampler and
    evaluations: of the score network, per sample. distilled: use the student, which is trained for one evaluation of
    the sampler "exponential"; by default where that applies. tau_max: where "euler-maruyama" begins. Members are
    evaluated in batches of `batch`.

    transfer: constraint on the energy transfer <u H>. "free": none; "zero": zero; "mean": that of the conditional mean;
    "shells": that of the conditional mean in every shell of wavenumbers, over the time until the next call. The
    residual of the term given the state is uncorrelated with the state, but temporally correlated forcing does net work
    on the resolved flow, because the model responds to it.

    Raises ClosureError if the weights are for another closure, equation, discretisation, boundary, set of omitted
    terms, fields, length or, except for Fourier latents, shape.
    """

    method: ClassVar[str] = METHOD
    by_descent: ClassVar[bool] = True
    coupling: Literal["auto", "split", "sample"] = "auto"
    sampler: Sampler = "exponential"
    evaluations: int = Field(1, ge=1, le=1000)
    distilled: bool | None = None
    correlation_time: float | None = Field(None, ge=0)
    tau_max: float = Field(1.0, gt=0, le=1)
    transfer: Literal["free", "zero", "mean", "shells"] = "free"
    batch: int = Field(16, ge=1)
    _model: GenerativeTerm = PrivateAttr()
    _expected: Replayed = PrivateAttr()
    _noise: SpectralNoise | None = PrivateAttr()
    _rho: float = PrivateAttr()
    _shape: tuple[int, ...] = PrivateAttr()
    _student: bool = PrivateAttr()
    _grid: Grid = PrivateAttr()
    _span: float = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        from .model import GenerativeTerm

        path = self.find_weights(problem)
        model, header, spectrum = GenerativeTerm.load(path)
        try:
            self._shape = model.latent_shape(problem.grid.shape)
        except ValueError as error:
            raise ClosureError(f"latent-diffusion: {error}. Remedy: a finer grid, or other weights") from None
        if self.sampler == "heun" and self.evaluations % 2 == 0:
            raise ClosureError("latent-diffusion: heun makes an odd number of evaluations. Remedy: evaluations + 1")
        single = self.sampler == "exponential" and self.evaluations == 1
        self._student = model.student is not None and single if self.distilled is None else self.distilled
        if self._student and model.student is None:
            raise ClosureError("latent-diffusion: these weights hold no student. Remedy: distil_steps in training")
        if self._student and not single:
            raise ClosureError(
                'latent-diffusion: the student makes one evaluation. Remedy: sampler = "exponential", evaluations = 1'
            )
        with using(path):
            time = header["correlation_time"] if self.correlation_time is None else self.correlation_time
            split = self.coupling == "split" or (self.coupling == "auto" and header["correlation_time"] == 0)
            self._noise = residual_noise(problem.grid, spectrum[0], header["step"]) if split else None
            self._rho = math.exp(-problem.every * problem.step / time) if time else 0.0
        self._grid, self._span = problem.grid, problem.every * problem.step
        self._model = model.to(problem.device)
        self._expected = Replayed(self._mean, problem.device)
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        import torch

        with torch.inference_mode():
            if self._noise is not None:
                term = self._expected.in_parts(view.torch(), self.batch)
            else:
                state = view.torch().to(torch.float32)
                white = view.random.normal(self._shape).astype(np.float32)
                if self._rho:
                    if "white" in memory:
                        white = self._rho * memory["white"] + math.sqrt(1 - self._rho**2) * white
                    memory = {"white": white.astype(np.float32)}
                drawn = torch.from_numpy(white.astype(np.float32)).to(state.device)
                parts = []
                for begin in range(0, len(state), self.batch):
                    part = slice(begin, begin + self.batch)
                    parts.append(self._sample(state[part], drawn[part], self._draw_noise(view, part, state.device)))
                term = torch.cat(parts).to(torch.float64)
        return Tendency(term, noise=self._noise), memory

    def _mean(self, state: torch.Tensor) -> torch.Tensor:
        """M(u) + E[H - M | u], in double precision."""
        import torch

        state = state.to(torch.float32)
        mean = self._model.conditional_mean(state)
        return self._constrained(state, mean + self._model.expected(state, mean), mean).to(torch.float64)

    def _sample(self, state: torch.Tensor, white: torch.Tensor, draw_noise: Callable[[], torch.Tensor]) -> torch.Tensor:
        """A sample of H for white noise in the latent space."""
        mean = self._model.conditional_mean(state)
        residual = self._model.sampled(
            state, mean, white, self.sampler, self.evaluations, draw_noise, self.tau_max, self._student
        )
        return self._constrained(state, mean + residual, mean)

    def _draw_noise(self, view: View, part: slice, device: torch.device) -> Callable[[], torch.Tensor]:
        """A function that draws more white noise for these members at each call, from the stream of each member."""
        import torch

        generators = [view.random.generator(member) for member in view.random.members[part]]
        for generator in generators:
            generator.bit_generator.advance(2**64)  # type: ignore[attr-defined]

        def draw_noise() -> torch.Tensor:
            drawn = np.stack([g.standard_normal(self._shape, dtype=np.float32) for g in generators])
            return torch.from_numpy(drawn).to(device)

        return draw_noise

    def _constrained(self, state: torch.Tensor, term: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """The term plus the multiple of u that gives <u H> its prescribed value."""
        if self.transfer == "free":
            return term
        if self.transfer == "shells":
            from .energy_transfer import without_transfer

            return mean + without_transfer(term - mean, state, self._span, self._grid)
        axes = tuple(range(1, state.ndim))
        off = (state * (term - mean if self.transfer == "mean" else term)).sum(axes, keepdim=True)
        return term - off / state.square().sum(axes, keepdim=True) * state

    @classmethod
    def mismatch(cls, header: dict[str, Any], problem: Problem, strict: bool) -> str | None:
        from .latent_spaces import LATENTS

        latent = LATENTS[header["structure"]["latent"]["kind"]]
        return mismatch(header, problem, grid_independent=latent.grid_independent, strict=strict)

    @classmethod
    def training_options(cls) -> type[BaseModel]:
        return TrainingOptions

    @classmethod
    def all_options(cls, table: dict[str, Any]) -> dict[str, Any]:
        found = super().all_options(table)
        if found["mean"] is not None and "start" not in found["mean"]:
            mean = read_options(f"{cls.method}.mean", MeanOptions, found["mean"])
            found["mean"] = mean.model_dump()
        return found

    @classmethod
    def train(cls, job: TrainingJob) -> dict[str, float]:
        """Fit the model to the pairs and write its weights; returns the validation scores. See `training.train`.

        Raises ValueError for options that training does not have.
        """
        from .training import train

        options = read_options(cls.method, TrainingOptions, job.options)
        model, header, spectrum = train(
            cast("Dataset", job.data), options, job.work, job.folder, job.progress, job.device
        )
        model.save(job.target, {**header, **job.origin}, spectrum)
        return header["scores"]
