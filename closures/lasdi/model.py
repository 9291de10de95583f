"""The trained reduced-order model: encoder, latent dynamics and decoders."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..learning import weights_file
from ..learning.autoencoder import ConvolutionalDecoder, ConvolutionalEncoder, autoencoder
from ..learning.basis import Basis
from ..learning.perceptrons import Perceptron, StageDecoder, stage_decoders
from ..learning.swept_parameters import SweptParameters
from . import dynamics
from .options import METHOD

BLOCK = 512  # snapshots decoded at a time


@dataclass
class Stage:
    """A further decoder: u gains scale * decoder((z - centre) / deviation), in coefficients of the basis."""

    decoder: StageDecoder
    scale: float


@dataclass
class LatentModel(SweptParameters):
    """u(t; mu) ~ mean + scale modes [D_1(z) + s_2 D_2(z) + ...],  dz/dt = [1, z, ...] Xi(mu),  z(0) = E(u(0)).

    States are (..., point), with fields and grid flattened to one axis; parameters are (run, parameter) in the units of
    the case. operator: the Xi_k of Xi(mu) = sum_k p_k(mu) Xi_k, (term, entry, latent). low, high, centre, deviation:
    range, mean and standard deviation of the latents of the training runs. about: the problem of the model and its
    options, as in the header of its weights.
    """

    basis: Basis
    encoder: Perceptron | ConvolutionalEncoder
    decoder: Perceptron | ConvolutionalDecoder
    stages: list[Stage]
    operator: Tensor
    low: Tensor
    high: Tensor
    centre: Tensor
    deviation: Tensor
    spread: dynamics.Spread | None
    about: dict[str, Any]
    autonomous: ClassVar[bool] = True  # the dynamics does not depend on time

    def to(self, device: str | torch.device) -> LatentModel:
        """The model with its tensors on a device; networks are moved in place."""
        basis, spread = self.basis.to(device), self.spread
        if spread is not None:
            spread = dynamics.Spread(*(x.to(device) for x in (spread.scaled, spread.residual, spread.kernel)))
        tensors = {name: getattr(self, name).to(device) for name in ("operator", "low", "high", "centre", "deviation")}
        stages = [Stage(stage.decoder.to(device), stage.scale) for stage in self.stages]
        encoder, decoder = self.encoder.to(device), self.decoder.to(device)
        return replace(self, basis=basis, encoder=encoder, decoder=decoder, stages=stages, spread=spread, **tensors)

    def coefficients(self, parameters: NDArray) -> Tensor:
        """Xi(mu), (run, entry, latent)."""
        scaled = self.scaled(parameters).to(self.operator.device)
        return dynamics.at(self.operator, dynamics.monomials(scaled, self.about["options"]["degree"]))

    @torch.inference_mode()
    def encode(self, states: Tensor) -> Tensor:
        """Latents (..., latent) of states (..., point)."""
        return self.encoder(self.basis.coefficients(states.float()))

    @torch.inference_mode()
    def decode(self, z: Tensor, stages: int | None = None, out: Tensor | None = None) -> Tensor:
        """States (..., point) of latents (..., latent), from the first `stages` decoders, or from all.

        Works in blocks of snapshots whose activations stay in cache, so the product with the basis dominates the cost.
        `out` (snapshot, point) is a buffer for the result; it avoids the zeroing of new memory by the system.
        """
        flat = z.reshape(-1, z.shape[-1])
        found = torch.empty(len(flat), len(self.basis.mean), device=z.device) if out is None else out
        for part, states in zip(flat.split(BLOCK), found.split(BLOCK), strict=True):
            self.basis.fill(self.decoded(part, stages), states)
        return found.reshape(*z.shape[:-1], found.shape[1])

    def decoded(self, z: Tensor, stages: int | None = None) -> Tensor:
        """The same as `decode`, in coefficients of the basis."""
        found = self.decoder(z.float())
        further = self.stages if stages is None else self.stages[: max(0, stages - 1)]
        scaled = self.normalised(z) if further else z
        for stage in further:
            found = found + stage.scale * stage.decoder(scaled)
        return found

    def normalised(self, z: Tensor) -> Tensor:
        """(z - centre) / deviation, the input of the decoders of further stages."""
        return ((z - self.centre) / self.deviation).float()

    @torch.inference_mode()
    def latents(self, states: Tensor, parameters: NDArray, step: float, count: int, start: float = 0.0) -> Tensor:
        """z at 0, step, ..., (count - 1) step from states (run, point): (run, time, latent); at any time `start`."""
        return dynamics.trajectories(self.encode(states), self.coefficients(parameters), step, count)

    @torch.no_grad()
    def with_rate(self, z: Tensor, parameters: NDArray, stages: int | None = None) -> tuple[Tensor, Tensor]:
        """D(z) and D'(z) dz/dt of latents (run, latent): states and their rates of change along the latent dynamics."""
        coefficients = self.coefficients(parameters)
        rate = (dynamics.library(z.double(), dynamics.kind_of(coefficients))[:, None] @ coefficients)[:, 0]

        def states(latents: Tensor) -> Tensor:
            return self.basis.states(self.decoded(latents, stages))

        found, tangent, *_ = torch.func.jvp(states, (z.double(),), (rate,))
        return found, tangent

    def predict(
        self, states: Tensor, parameters: NDArray, step: float, count: int, stages: int | None = None
    ) -> Tensor:
        """States (run, time, point) at 0, step, ..., (count - 1) step."""
        return self.decode(self.latents(states, parameters, step, count), stages)

    @torch.inference_mode()
    def predict_std(
        self, states: Tensor, parameters: NDArray, step: float, count: int, samples: int = 20, seed: int = 0
    ) -> Tensor:
        """Standard deviation (run, time, point) of states decoded from `samples` samples of the latent dynamics.

        A sample of the coefficients is Xi(mu) plus a draw of the Gaussian processes for the residual coefficients.
        Latents are limited to the range of the training runs, extended by its width on each side.
        """
        return self._deviation(states, parameters, step, count, samples, seed, self.decode)

    @torch.inference_mode()
    def relative_spread(
        self,
        states: Tensor,
        parameters: NDArray,
        step: float,
        count: int,
        samples: int = 20,
        seed: int = 0,
        start: float = 0.0,
    ) -> Tensor:
        """|predict_std| / |prediction| (run, time), with norms over the points, computed in the orthonormal basis."""
        deviation = self._deviation(states, parameters, step, count, samples, seed, self.decoded)
        predicted = self.decoded(self.latents(states, parameters, step, count))
        return self.basis.scale * deviation.norm(dim=-1) / self.basis.norm(predicted)

    def _deviation(
        self,
        states: Tensor,
        parameters: NDArray,
        step: float,
        count: int,
        samples: int,
        seed: int,
        decode: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Standard deviation of the samples of the latent dynamics, mapped by `decode`."""
        first = second = torch.zeros(())
        for z in self._drawn(states, parameters, step, count, samples, seed):
            found = decode(z)
            first, second = first + found, second + found.square()
        return (second / samples - (first / samples).square()).clamp_min(0).sqrt() * (samples / (samples - 1)) ** 0.5

    @torch.inference_mode()
    def sample(
        self, states: Tensor, parameters: NDArray, step: float, count: int, samples: int = 20, seed: int = 0
    ) -> Tensor:
        """The samples (sample, run, time, point) of which `predict_std` gives the standard deviation."""
        return torch.stack([self.decode(z) for z in self._drawn(states, parameters, step, count, samples, seed)])

    def _drawn(
        self, states: Tensor, parameters: NDArray, step: float, count: int, samples: int, seed: int
    ) -> Iterator[Tensor]:
        """Latents (run, time, latent) of one sample of the dynamics after the other."""
        if self.spread is None:
            raise ValueError(
                "this model has no Gaussian processes. Remedy: train with spread = true under [train.lasdi]"
            )
        mean, deviation = self.spread.at(self.scaled(parameters).to(self.operator.device))
        generator = torch.Generator().manual_seed(seed)
        start, known = self.encode(states), self.coefficients(parameters)
        width = self.high - self.low
        for _ in range(samples):
            noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
            drawn = known + (mean + deviation * noise).reshape(known.shape)
            z = dynamics.trajectories(start, drawn, step, count)
            yield torch.clamp(torch.nan_to_num(z), self.low - width, self.high + width)

    def escape(self, z: Tensor) -> float:
        """Largest distance of latents from the range of the training runs, in units of its width; inf if not finite."""
        if not torch.isfinite(z).all():
            return float("inf")
        width = self.high - self.low
        return float(torch.maximum((z - self.high) / width, (self.low - z) / width).amax().clamp_min(0))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights; equal models give equal bytes."""
        tensors = {
            "basis.mean": self.basis.mean,
            **({} if self.basis.modes is None else {"basis.modes": self.basis.modes}),
            "dynamics.xi": self.operator,
            "latent.low": self.low,
            "latent.high": self.high,
            "latent.centre": self.centre,
            "latent.deviation": self.deviation,
        }
        networks: dict[str, nn.Module] = {"encoder": self.encoder, "decoder": self.decoder}
        networks |= {f"stage.{i}": stage.decoder for i, stage in enumerate(self.stages)}
        for prefix, network in networks.items():
            tensors |= {f"{prefix}.{name}": value for name, value in network.state_dict().items()}
        if self.spread is not None:
            tensors |= {f"spread.{name}": getattr(self.spread, name) for name in ("scaled", "residual", "kernel")}
        normalisation = {"scale": self.basis.scale, "stages": [stage.scale for stage in self.stages]}
        arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
        weights_file.save(path, arrays, self.about | {"closure": METHOD, "normalisation": normalisation})

    @torch.inference_mode()
    def check_shapes(self, points: int) -> None:
        """Predict one step. Raises ValueError or RuntimeError if tensors do not fit together or the grid."""
        z = self.latents(self.basis.mean[None], self.ranges.mean(axis=1)[None], self.about["interval"], 2)
        ranges = {tuple(t.shape) for t in (self.low, self.high, self.centre, self.deviation)}
        if self.decode(z).shape != (1, 2, points) or ranges != {(z.shape[-1],)}:
            raise ValueError("the tensors have shapes that do not fit together")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LatentModel:
        """Read a file of `save`. Raises FileNotFoundError, and ValueError for files of other kinds."""
        arrays, header = weights_file.load(path, METHOD)
        with weights_file.using(path):
            tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
            options = header["options"]
            normalisation = header.pop("normalisation")
            basis = Basis(tensors["basis.mean"], tensors.get("basis.modes"), normalisation["scale"])
            encoder, decoder = autoencoder(options, basis.size, header)
            decoders = stage_decoders(options, basis.size)
            stages = [Stage(d, scale) for d, scale in zip(decoders, normalisation["stages"], strict=False)]
            networks: dict[str, nn.Module] = {"encoder": encoder, "decoder": decoder}
            networks |= {f"stage.{i}": stage.decoder for i, stage in enumerate(stages)}
            for prefix, network in networks.items():
                network.load_state_dict(
                    {n.removeprefix(f"{prefix}."): v for n, v in tensors.items() if n.startswith(f"{prefix}.")}
                )
            spread = None
            if "spread.kernel" in tensors:
                spread = dynamics.Spread(*(tensors[f"spread.{name}"] for name in ("scaled", "residual", "kernel")))
            model = cls(
                basis,
                encoder,
                decoder,
                stages,
                tensors["dynamics.xi"],
                tensors["latent.low"],
                tensors["latent.high"],
                tensors["latent.centre"],
                tensors["latent.deviation"],
                spread,
                header,
            )
            model.check_shapes(math.prod(header["shape"]) * len(header["fields"]))
            return model
