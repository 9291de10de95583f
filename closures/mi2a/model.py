"""The trained wave model: compression and latent evolution."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..learning import weights_file
from ..learning.basis import Basis
from ..learning.perceptrons import StageDecoder
from ..learning.swept_parameters import SweptParameters
from .compression import Compression, untrained
from .multistep import Multistep
from .networks import Recurrent
from .options import METHOD
from .registered import Registered

Evolution = Multistep | Recurrent
BLOCK = 1024  # snapshots decoded at a time


@dataclass
class WaveModel(SweptParameters):
    """z = E(u), z(n+1) = G(z(n), ..., z(n-w+1); mu), u ~ D(z).

    States are (..., point), with fields and grid flattened to one axis, latents (..., latent) and normalised,
    parameters (run, parameter) in the units of the case. low, high: range of the latents of the training runs. about:
    the problem of the model and its options, as in the header of its weights.
    """

    compression: Compression | Registered
    evolution: Evolution
    low: Tensor
    high: Tensor
    about: dict[str, Any]

    @property
    def window(self) -> int:
        """Number of past states that a prediction needs."""
        return int(self.about["options"]["window"])

    @torch.inference_mode()
    def encode(self, states: Tensor) -> Tensor:
        """Latents (..., latent) of states (..., point)."""
        return self.compression.encode(states)

    @torch.inference_mode()
    def decode(self, z: Tensor) -> Tensor:
        """States (..., point) of latents (..., latent), in blocks of snapshots."""
        flat = z.reshape(-1, z.shape[-1])
        found = torch.cat([self.compression.decode(part) for part in flat.split(BLOCK)])
        return found.reshape(*z.shape[:-1], found.shape[-1])

    @torch.inference_mode()
    def evolve(self, window: Tensor, parameters: NDArray, count: int) -> Tensor:
        """The next `count` latents (run, time, latent) after windows (run, time, latent)."""
        return rollout(self.evolution, window, self.scaled(parameters), count)

    def predict(self, states: Tensor, parameters: NDArray, count: int) -> Tensor:
        """The next `count` states (run, time, point) after windows of states (run, time, point)."""
        return self.decode(self.evolve(self.encode(states), parameters, count))

    def escape(self, z: Tensor) -> float:
        """Largest distance of latents from the range of the training runs, in units of its width; inf if not finite."""
        if not torch.isfinite(z).all():
            return float("inf")
        inner = slice(self.compression.positions, None)  # positions may move on
        low, high, z = self.low[inner], self.high[inner], z[..., inner]
        return float(torch.maximum(z - high, low - z).div(high - low).amax().clamp_min(0)) if len(low) else 0.0

    def distance(self, states: Tensor) -> float:
        """The largest reconstruction error |D(E(u)) - u| / |u| of states (..., point)."""
        return float(((self.decode(self.encode(states)) - states).norm(dim=-1) / states.norm(dim=-1)).max())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights; equal models give equal bytes."""
        compression, basis = self.compression, self.compression.basis
        tensors = {"basis.mean": basis.mean, "latent.low": self.low, "latent.high": self.high}
        tensors |= {} if basis.modes is None else {"basis.modes": basis.modes}
        tensors |= {f"compression.{name}": value for name, value in compression.state_dict().items()}
        evolution = self.evolution
        parts = evolution.tensors() if isinstance(evolution, Multistep) else evolution.state_dict()
        tensors |= {f"evolution.{name}": value for name, value in parts.items()}
        normalisation: dict[str, Any] = {"scale": basis.scale, "refinement": None}
        if isinstance(compression, Compression) and compression.refinement is not None:
            normalisation["refinement"] = [compression.scale, compression.refinement.kappa]
        place = {}
        if isinstance(evolution, Multistep):
            place = {"unknown": evolution.unknown, "products": evolution.products}
        if isinstance(compression, Registered) and compression.pattern is not None:
            modes = compression.modes
            shortest = next(k for k in (torch.half, torch.float, torch.double) if modes.to(k).double().equal(modes))
            tensors["compression.modes"] = modes.to(shortest)
        arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
        weights_file.save(path, arrays, self.about | place | {"closure": METHOD, "normalisation": normalisation})

    @torch.inference_mode()
    def check_shapes(self, points: int) -> None:
        """Predict one step. Raises ValueError or RuntimeError if tensors do not fit together or the grid."""
        mean = self.compression.basis.mean
        states = self.predict(mean.expand(1, self.window, -1), self.ranges.mean(axis=1)[None], 1)
        if states.shape != (1, 1, points) or {tuple(t.shape) for t in (self.low, self.high)} != {
            (self.compression.latent,)
        }:
            raise ValueError("the tensors have shapes that do not fit together")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> WaveModel:
        """Read a file of `save`. Raises FileNotFoundError, and ValueError for files of other kinds."""
        arrays, header = weights_file.load(path, METHOD)
        with weights_file.using(path):
            tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}

            def part(prefix: str) -> dict[str, Tensor]:
                return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}

            options, normalisation = header["options"], header.pop("normalisation")
            for name in ("interval", "span"):
                if not float(header[name]) > 0:
                    raise ValueError(f"the header has {name} = {header[name]}")
            np.asarray(header["points"], dtype=np.float64).reshape(-1, len(header["parameters"]))
            basis = Basis(tensors["basis.mean"], tensors.get("basis.modes"), normalisation["scale"])
            compression: Compression | Registered
            if options["compression"] == "registered":
                compression = Registered(options, basis, header)
            else:
                compression = untrained(options, basis, header, 0)
            if normalisation["refinement"] is not None:
                assert isinstance(compression, Compression)
                compression.scale, kappa = normalisation["refinement"]
                widths = (options["latent"], options["features"], basis.size)
                compression.refinement = StageDecoder(widths, "sine", kappa, random=True)
            compression.load_state_dict(part("compression."))
            known = len(header["parameters"]) if options["parameters"] else 0
            evolution: Evolution
            if options["evolution"] == "multistep":
                evolution = Multistep.of_tensors(
                    part("evolution."),
                    options["window"],
                    known,
                    header.pop("unknown"),
                    header.pop("products", 0),
                )
            else:
                evolution = network(options, known)
                evolution.load_state_dict(part("evolution."))
            frozen(compression, evolution)
            model = cls(compression, evolution, tensors["latent.low"], tensors["latent.high"], header)
            model.check_shapes(math.prod(header["shape"]) * len(header["fields"]))
            return model


def rollout(evolution: Evolution, window: Tensor, scaled: Tensor, count: int) -> Tensor:
    """The next `count` latents (run, time, latent); networks work in single precision."""
    return evolution.rollout(window if isinstance(evolution, Multistep) else window.float(), scaled, count)


def network(options: dict[str, Any], parameters: int) -> Recurrent:
    """The untrained network of these options, with so many known parameters."""
    return Recurrent(
        options["evolution"],
        options["latent"],
        parameters,
        options["hidden"],
        options["window"],
        options["derivative"],
    )


def frozen(*parts: Compression | Registered | Evolution) -> None:
    """Exclude the parameters of networks from differentiation."""
    for part in parts:
        if isinstance(part, nn.Module):
            part.requires_grad_(False).eval()
