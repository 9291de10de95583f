"""Latent dynamics whose coefficients depend on time: Gaussian processes over the parameters, one per time and mode.

    dc/dt = q'(t; mu),    c(t) = E(u(t_0)) + q(t; mu) - q(t_0; mu),    u = mean + scale modes c,

c the coefficients of the basis, which here are the latents themselves. q(t; mu) = sum_r w_r(mu) q_r(t) is the mean of
Gaussian processes for the trajectories q_r of the training runs r, with one kernel for all modes and times. So it is a
weighted sum of the training runs, and its error is that of their interpolation, not of a network.

A state at a time of training is decoded in the basis of its window of time, which has fewer modes than the basis of all
times for the same error: the cost of a state is the product with these modes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..learning import weights_file
from ..learning.basis import Basis
from ..learning.swept_parameters import SweptParameters
from .model import LatentModel
from .options import METHOD, Kernel
from .packed import packed, unpacked

LEADING = 5  # coefficients that are shown as latent trajectories


def correlation(a: Tensor, b: Tensor, logarithms: Tensor, kernel: Kernel) -> Tensor:
    """Correlation (a, b) of scaled parameters; logarithms: of the length of each parameter, then of the noise.

    gaussian: exp(-r^2 / 2), r = |(a - b) / lengths|. matern: that of Matern with nu = 9/2, for functions with four
    derivatives.
    """
    squared = ((a[:, None] - b) / logarithms[:-1].exp()).square().sum(-1)
    if kernel == "gaussian":
        return (-0.5 * squared).exp()
    x = 3 * (squared + 1e-300).sqrt()  # its slope at 0 is finite
    return (1 + x + 3 * x**2 / 7 + 2 * x**3 / 21 + x**4 / 105) * (-x).exp()


def inverse(known: Tensor, logarithms: Tensor, kernel: Kernel) -> Tensor:
    """The inverse of the correlation of the training runs, noise included."""
    eye = torch.eye(len(known), dtype=known.dtype, device=known.device)
    return torch.linalg.inv(correlation(known, known, logarithms, kernel) + logarithms[-1].exp() * eye)


@dataclass
class Window:
    """Modes for the times up to `last`: c ~ centre + rotation y.

    states: the same in units of the state, (1 + y, point); the first row is the state of the centre.
    """

    last: float
    centre: Tensor
    rotation: Tensor
    states: Tensor

    @classmethod
    def of(cls, basis: Basis, last: float, centre: Tensor, rotation: Tensor) -> Window:
        assert basis.modes is not None
        rows = torch.cat([basis.states(centre[None]), basis.scale * (basis.modes @ rotation).T])
        return cls(last, centre, rotation, rows.contiguous())


@dataclass
class InterpolatedModel(SweptParameters):
    """u(t; mu) of the module. States are (..., point), parameters (run, parameter) in the units of the case.

    Latents z are (run, time, mode + 1): the coefficients, and last the time since the start of the training runs.
    known (run, parameter): scaled parameters of the training runs. logarithms (parameter + 1,): see `correlation`.
    times (time, factor) and runs (factor, run, mode): q_r(t) = times runs, a low-rank form.
    """

    basis: Basis
    known: Tensor
    logarithms: Tensor
    times: Tensor
    runs: Tensor
    windows: list[Window]
    about: dict[str, Any]
    stages: ClassVar[list[Any]] = []
    spread: ClassVar[bool] = True
    autonomous: ClassVar[bool] = False

    @property
    def kernel(self) -> Kernel:
        return self.about["options"]["kernel"]

    @cached_property
    def precision(self) -> Tensor:
        """The inverse of the correlation of the training runs."""
        return inverse(self.known, self.logarithms, self.kernel)

    @property
    def operator(self) -> Tensor:
        """A tensor on the device of the model."""
        return self.runs

    def to(self, device: str | torch.device) -> InterpolatedModel:
        """The model with its tensors on a device: itself, with its inverted kernel, if they are there."""
        if self.runs.device == torch.device(device):
            return self
        basis = self.basis
        assert basis.modes is not None
        basis = Basis(basis.mean.to(device), basis.modes.to(device), basis.scale)
        windows = [
            Window(w.last, w.centre.to(device), w.rotation.to(device), w.states.to(device)) for w in self.windows
        ]
        tensors = {name: getattr(self, name).to(device) for name in ("known", "logarithms", "times", "runs")}
        return replace(self, basis=basis, windows=windows, **tensors)

    def weights(self, parameters: NDArray) -> tuple[Tensor, Tensor]:
        """w_r(mu) (point, run), which sum to 1, and the standard deviation relative to that of the process (point,)."""
        across = correlation(self.scaled(parameters).to(self.known.device), self.known, self.logarithms, self.kernel)
        found = across @ self.precision
        variance = 1 - (found * across).sum(1)
        return found + (1 - found.sum(1, keepdim=True)) / len(self.known), variance.clamp_min(0).sqrt()

    def factors(self, times: Tensor, rate: bool = False) -> Tensor:
        """Rows of `times` at times since the start, or their derivatives, by cubic interpolation: (time, factor)."""
        count = len(self.times)
        position = times.double() / self.about["interval"]
        if not rate and bool(((position - position.round()).abs() < 1e-6).all()):
            return self.times[position.round().long().clamp(0, count - 1)]
        width = min(4, count)
        first = (position.floor().long() - (width - 1) // 2).clamp(0, count - width)
        x, nodes = position - first, range(width)
        found = torch.zeros(len(times), self.times.shape[1], device=times.device)
        for i in nodes:
            others = [j for j in nodes if j != i]
            scale = float(np.prod([i - j for j in others]))
            if rate:
                terms = [torch.stack([x - k for k in others if k != j] or [torch.ones_like(x)]).prod(0) for j in others]
                weight = torch.stack(terms).sum(0) / (scale * self.about["interval"])
            else:
                weight = torch.stack([x - j for j in others]).prod(0) / scale
            found += weight.float()[:, None] * self.times[first + i]
        return found

    def trajectories(self, weights: Tensor, factors: Tensor) -> Tensor:
        """sum_r w_r q_r at rows of `factors`: (point, time, mode)."""
        several = torch.matmul(weights.float(), self.runs)  # (factor, point, mode), without a copy of the runs
        found = factors @ several.flatten(1)
        return found.reshape(len(factors), len(weights), -1).transpose(0, 1)

    @torch.inference_mode()
    def encode(self, states: Tensor) -> Tensor:
        """Coefficients (..., mode) of states (..., point)."""
        return self.basis.coefficients(states.float())

    @torch.inference_mode()
    def latents(self, states: Tensor, parameters: NDArray, step: float, count: int, start: float = 0.0) -> Tensor:
        """z at start, start + step, ... from states (run, point) at time `start`: (run, time, mode + 1)."""
        times = start + step * torch.arange(count, dtype=torch.float64, device=self.runs.device)
        q = self.trajectories(self.weights(parameters)[0], self.factors(times))
        q += (self.encode(states) - q[:, 0])[:, None]
        return torch.cat([q, times.float()[None, :, None].expand(len(q), -1, 1)], dim=-1)

    def decoded(self, z: Tensor, stages: int | None = None) -> Tensor:
        """Coefficients (..., mode) of latents with or without their time."""
        return z[..., : self.basis.size]

    @torch.inference_mode()
    def decode(self, z: Tensor, stages: int | None = None, out: Tensor | None = None) -> Tensor:
        """States (..., point) of latents: of (run, time, mode + 1) in the bases of the windows, else in the basis.

        The result of the first form is a view of an array (time, run, point), which `out` (snapshot, point) may give.
        """
        if z.dim() != 3 or z.shape[-1] == self.basis.size or not self.windows:
            c = self.decoded(z).reshape(-1, self.basis.size)
            return self.basis.fill(c, out).reshape(*z.shape[:-1], -1)
        count, runs = z.shape[1], z.shape[0]
        found = torch.empty(count * runs, len(self.basis.mean), device=z.device) if out is None else out
        ends = torch.searchsorted(
            z[0, :, -1].contiguous(), torch.tensor([w.last for w in self.windows], device=z.device)
        ).tolist()
        ends[-1], begin = count, 0
        for window, end in zip(self.windows, ends, strict=True):
            if end > begin:
                rows = z[:, begin:end, :-1].transpose(0, 1).reshape(-1, self.basis.size)
                y = (rows - window.centre) @ window.rotation
                torch.addmm(window.states[0], y, window.states[1:], out=found[begin * runs : end * runs])
            begin = max(begin, end)
        return found.reshape(count, runs, -1).transpose(0, 1)

    @torch.inference_mode()
    def with_rate(self, z: Tensor, parameters: NDArray, stages: int | None = None) -> tuple[Tensor, Tensor]:
        """States of latents (run, mode + 1), and their rates of change."""
        assert self.basis.modes is not None
        rate = self.trajectories(self.weights(parameters)[0], self.factors(z[:1, -1], rate=True))[:, 0]
        return self.basis.states(self.decoded(z)), self.basis.scale * rate @ self.basis.modes.T

    def predict(
        self, states: Tensor, parameters: NDArray, step: float, count: int, stages: int | None = None
    ) -> Tensor:
        """States (run, time, point) at 0, step, ..., (count - 1) step."""
        return self.decode(self.latents(states, parameters, step, count), stages)

    def deviations(self, times: Tensor) -> Tensor:
        """Standard deviations (time, mode) of the processes: those of maximum likelihood, given the kernel."""
        known = torch.einsum("tk,krm->trm", self.factors(times).double(), self.runs.double())
        known -= known.mean(1, keepdim=True)
        return (known * (self.precision @ known)).sum(1).div(len(self.known)).clamp_min(0).sqrt()

    @torch.inference_mode()
    def predict_std(self, states: Tensor, parameters: NDArray, step: float, count: int) -> Tensor:
        """Posterior standard deviation (run, time, point), with modes taken as independent."""
        assert self.basis.modes is not None
        times = step * torch.arange(count, dtype=torch.float64, device=self.runs.device)
        variance = self.deviations(times).square() @ self.basis.modes.double().square().T
        return self.basis.scale * self.weights(parameters)[1][:, None, None] * variance.sqrt()[None]

    @torch.inference_mode()
    def relative_spread(
        self, states: Tensor, parameters: NDArray, step: float, count: int, start: float = 0.0
    ) -> Tensor:
        """|predict_std| / |prediction| (run, time), with norms over the points."""
        times = start + step * torch.arange(count, dtype=torch.float64, device=self.runs.device)
        deviation = self.weights(parameters)[1][:, None] * self.deviations(times).norm(dim=1)
        z = self.decoded(self.latents(states, parameters, step, count, start))
        return self.basis.scale * deviation / self.basis.norm(z)

    def escape(self, z: Tensor) -> float:
        """0: a weighted sum of the training runs cannot grow, so there is no unstable latent dynamics."""
        return 0.0

    @torch.inference_mode()
    def latent_trajectories(self, parameters: NDArray, states: Tensor, interval: float) -> dict[str, NDArray]:
        """See `latent_trajectories`, of the LEADING coefficients."""
        every = torch.einsum("tk,krm->rtm", self.times, self.runs[..., :LEADING]).flatten(0, 1)
        centre, scale = every.mean(0), every.std(0)
        times = interval * torch.arange(len(states), dtype=torch.float64, device=self.runs.device)
        z = self.latents(states[:1], parameters, interval, len(states))[0]
        deviation = self.weights(parameters)[1] * self.deviations(times)[:, :LEADING]
        found = {
            "encoded": (self.encode(states)[:, :LEADING] - centre) / scale,
            "predicted": (z[:, :LEADING] - centre) / scale,
            "deviation": deviation / scale,
        }
        return {name: value.cpu().numpy() for name, value in found.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights; equal models give equal bytes. Modes and runs are packed, see `packed`."""
        assert self.basis.modes is not None
        exact = self.about["options"]["exact_modes"]
        arrays: dict[str, NDArray] = {
            "basis.mean": self.basis.mean.cpu().numpy(),
            "times": self.times.cpu().numpy(),
            "runs.scaled": self.known.cpu().numpy(),
            "kernel": self.logarithms.cpu().numpy(),
            **packed("basis.modes", self.basis.modes.T.cpu().numpy(), exact),
            **packed("runs", self.runs.movedim(-1, 0).cpu().numpy(), exact),
        }
        for i, window in enumerate(self.windows):
            arrays |= packed(f"window.{i}", window.rotation.T.cpu().numpy(), exact // 2)
            arrays[f"window.{i}.centre"] = window.centre.cpu().numpy()
        normalisation = {"scale": self.basis.scale, "windows": [w.last for w in self.windows]}
        weights_file.save(path, arrays, self.about | {"closure": METHOD, "normalisation": normalisation})

    @classmethod
    def unpack(cls, arrays: dict[str, NDArray], header: dict[str, Any]) -> InterpolatedModel:
        """The model of the contents of a file of `save`. Raises LookupError and ValueError for others."""
        normalisation = header.pop("normalisation")
        tensor = torch.from_numpy
        modes = orthonormal(tensor(unpacked("basis.modes", arrays).T.copy()))
        basis = Basis(tensor(arrays["basis.mean"]), modes, normalisation["scale"])
        windows = [
            Window.of(
                basis,
                last,
                tensor(arrays[f"window.{i}.centre"]),
                orthonormal(tensor(unpacked(f"window.{i}", arrays).T.copy())),
            )
            for i, last in enumerate(normalisation["windows"])
        ]
        runs = tensor(np.ascontiguousarray(np.moveaxis(unpacked("runs", arrays), 0, -1)))
        known, logarithms, times = (tensor(arrays[name]) for name in ("runs.scaled", "kernel", "times"))
        model = cls(basis, known, logarithms, times, runs, windows, header)
        parameters = model.ranges.mean(axis=1)[None]
        if model.predict(basis.mean[None], parameters, header["interval"], 2).shape != (1, 2, len(basis.mean)):
            raise ValueError("the tensors have shapes that do not fit together")
        return model


def orthonormal(columns: Tensor) -> Tensor:
    """The orthonormal columns nearest to columns that are orthonormal but for the rounding of `packed`."""
    values, vectors = torch.linalg.eigh((columns.T @ columns).double())
    return columns @ (vectors @ (vectors / values.sqrt()).T).float()


def load(path: str | os.PathLike[str]) -> LatentModel | InterpolatedModel:
    """Read a file of either `save`. Raises FileNotFoundError, and ValueError for files of other kinds."""
    options = weights_file.load_header(path, METHOD).get("options")
    if not isinstance(options, dict) or options.get("library") != "time":
        return LatentModel.load(path)
    arrays, header = weights_file.load(path, METHOD)
    with weights_file.using(path):
        return InterpolatedModel.unpack(arrays, header)
