"""The trained model: predictor, autoencoder and latent flow; samples of trajectories, and its storage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..learning import weights_file
from ..learning.denoiser import Denoiser
from ..learning.samplers import sample
from .networks import Autoencoder, LatentFlow
from .options import METHOD
from .predictor import PairNetwork, baseline, centre
from .transformer import TransformerPredictor


class TrajectoryModel(nn.Module):
    """x(t) = base(t) + s(t) D(z)(t), z ~ p(z | base, past): base by a deterministic predictor, z of all entities.

    The latents of a window of frames hold the base and the residual about it, in positions and in velocities, and the
    couplings. In frames given the base is motion at constant velocity, or rest at the last of them if that is what the
    predictor starts from, and the residual is known; for the condition it is zero in frames that are not.

    options: those of `TrainingOptions`. classes: the couplings that occur. Positions are (batch, frame, entity, 3),
    couplings (batch, entity), identifiers (batch, entity, dimension), frames `interval` apart in time. mask: which
    entities are real, (batch, entity), None where all are; what is returned of the others has no meaning.

    scale: of the residuals of positions and velocities, (2, frame), and of positions about their centre, in `length`.
    With residual_axes = "heading", residuals are along and across the last step given, in the plane of x and y, and in
    units of that step: (|step| + a) / (pace + a), where pace is the mean of |step| and a = pace / 5.
    """

    scale: Tensor
    length: Tensor
    pace: Tensor
    pool: Tensor

    def __init__(self, options: Mapping[str, Any], interval: float, classes: list[float]) -> None:
        super().__init__()
        self.options, self.interval, self.classes = dict(options), interval, list(classes)
        o = self.options
        self.past, self.future, self.window = o["past"], o["future"], o["window"]
        self.register_buffer("pool", orthogonal(o["identifiers"], o["dimension"]))
        self.register_buffer("scale", torch.ones(2, self.past + self.future))
        self.register_buffer("length", torch.ones(()))
        self.heading = o.get("residual_axes", "space") == "heading"
        if self.heading:
            self.register_buffer("pace", torch.ones(()))
        self.at_rest = "rest" in (o["predictor"], o.get("baseline"))
        self.predictor: nn.Module | None = None
        if o["predictor"] == "pairs":
            self.predictor = PairNetwork(interval, self.past, o["hidden"], o["substeps"])
        elif o["predictor"] == "transformer":
            sizes = (o["transformer_width"], o["transformer_depth"], o["heads"])
            self.predictor = TransformerPredictor(interval, self.past, self.future, self.at_rest, *sizes)
        w = self.window
        outputs = {"position": 3 * w, "velocity": 3 * w, "base": 3 * w, "species": len(self.classes)}
        windows = (self.past + self.future) // w
        self.autoencoder = Autoencoder(
            9 * w + 1, outputs, windows, self.pool, o["latents"], o["channels"], o["width"], o["heads"], o["binding"],
            o["dropout"],
        )  # fmt: skip
        flow = LatentFlow(o["latents"], o["channels"], o["flow_width"], o["depth"], o["heads"])
        self.denoiser = Denoiser("data", flow)

    @property
    def known(self) -> int:
        """Number of windows that are given."""
        return self.past // self.window

    # -- positions and their residuals ------------------------------------------------------------------------

    def predict(
        self, past: Tensor, coupling: Tensor, count: int | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Positions and velocities of the next `count` frames by the predictor alone."""
        count = count or self.future
        if self.predictor is None:
            return baseline(past, count, self.interval, self.at_rest)
        found: tuple[Tensor, Tensor] = self.predictor(past, coupling, count, mask)
        return found

    def base(self, past: Tensor, predicted: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Base positions and velocities of all frames: constant velocity or rest in those given, then `predicted`."""
        x, v = predicted
        if self.at_rest:
            rest = past[:, -1:].expand_as(past)
            return torch.cat([rest, x], 1), torch.cat([torch.zeros_like(rest), v], 1)
        back = torch.arange(1 - self.past, 1, dtype=past.dtype, device=past.device)[:, None, None]
        step = past[:, -1:] - past[:, -2:-1]
        before = past[:, -1:] + back * step
        return torch.cat([before, x], 1), torch.cat([(step / self.interval).expand_as(before), v], 1)

    def known_velocity(self, past: Tensor) -> Tensor:
        """Velocities of the frames given, by differences from one frame to the next."""
        steps = past.diff(dim=1) / self.interval
        return torch.cat([steps[:, :1], steps], 1)

    def features(
        self, base: Tensor, off: tuple[Tensor, Tensor], coupling: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """(batch, window, entity, feature) of base positions and of the residuals of positions and velocities."""
        scaled = [self.to_own_axes(r, base) / s[:, None, None] for r, s in zip(off, self.scale, strict=True)]
        parts = [self._windows(p) for p in (self.centred(base, mask), *scaled)]
        c = coupling[:, None, :, None].expand(-1, parts[0].shape[1], -1, -1)
        return torch.cat([*parts, c], -1)

    def centred(self, base: Tensor, mask: Tensor | None = None) -> Tensor:
        """Positions about the centre of the last frame given, in units of `length`."""
        last = self.past - 1
        return (base - centre(base[:, last : last + 1], mask)) / self.length

    def to_own_axes(self, x: Tensor, base: Tensor) -> Tensor:
        """Residuals (batch, frame, entity, 3) along the axes of each entity and in its units; base: positions."""
        if not self.heading:
            return x
        axes, unit = self._own_axes(base)
        return (axes @ x[..., None]).squeeze(-1) / unit

    def from_own_axes(self, x: Tensor, base: Tensor) -> Tensor:
        """The inverse of `to_own_axes`."""
        if not self.heading:
            return x
        axes, unit = self._own_axes(base)
        return (axes.mT @ x[..., None]).squeeze(-1) * unit

    def _own_axes(self, base: Tensor) -> tuple[Tensor, Tensor]:
        """The axes of each entity (batch, 1, entity, 3, 3), and its unit (batch, 1, entity, 1)."""
        step = base[:, 1:2, :, :2] - base[:, :1, :, :2]
        size = step.norm(dim=-1, keepdim=True)
        rest = size < 1e-6 * self.pace
        along, across = torch.where(rest, step.new_tensor([1.0, 0.0]), step / size.clamp_min(1e-12)).unbind(-1)
        zero, one = torch.zeros_like(along), torch.ones_like(along)
        rows = [along, across, zero, -across, along, zero, zero, zero, one]
        axes = torch.stack(rows, -1).unflatten(-1, (3, 3))
        return axes, (size + 0.2 * self.pace) / (1.2 * self.pace)

    def _windows(self, x: Tensor) -> Tensor:
        """(batch, window, entity, frame and coordinate) of (batch, frame, entity, 3)."""
        return x.unflatten(1, (-1, self.window)).transpose(2, 3).flatten(3)

    def frames(self, x: Tensor) -> Tensor:
        """The inverse of the order of `features`, for one property."""
        return x.unflatten(3, (self.window, 3)).transpose(2, 3).flatten(1, 2)

    def condition(
        self, past: Tensor, base: tuple[Tensor, Tensor], coupling: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """The features of what is known: residuals in the frames given, and zero after them."""
        zero = torch.zeros_like(base[0][:, self.past :])
        x = torch.cat([past - base[0][:, : self.past], zero], 1)
        v = torch.cat([self.known_velocity(past) - base[1][:, : self.past], zero], 1)
        return self.features(base[0], (x, v), coupling, mask)

    def residuals(
        self, z: Tensor, identifiers: Tensor, begin: int, base: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Residuals of positions and velocities, and all outputs, of latents of the windows from `begin` on.

        base: positions in all frames.
        """
        out = self.autoencoder.decode(z, identifiers, begin)
        scale = self.scale[:, begin * self.window :, None, None]
        x, v = (
            self.from_own_axes(self.frames(out[name]) * s, base)
            for name, s in zip(("position", "velocity"), scale, strict=True)
        )
        return x, v, out

    # -- samples ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def sampled(
        self,
        past: Tensor,
        coupling: Tensor,
        identifiers: Tensor,
        white: Tensor,
        evaluations: int,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Positions and velocities of the next `future` frames for white noise (batch, window, slot, channel)."""
        base = self.base(past, self.predict(past, coupling, mask=mask))
        condition = self.autoencoder.encode(self.condition(past, base, coupling, mask), identifiers, 0, mask)
        z = sample(self.denoiser, white, condition, "euler", evaluations, lambda: white, 1.0)
        x, v, _ = self.residuals(z, identifiers, self.known, base[0])
        return base[0][:, self.past :] + x, base[1][:, self.past :] + v

    def latent_shape(self) -> tuple[int, int, int]:
        """(window, slot, channel) of the noise of one sample."""
        return self.future // self.window, self.options["latents"], self.options["channels"]

    # -- storage ----------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        """Write the weights; equal models give equal bytes."""
        arrays = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        own = {"closure": METHOD, "options": self.options, "interval": self.interval, "classes": self.classes}
        weights_file.save(path, arrays, {**header, **own, "normalisation": {"length": float(self.length)}})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> tuple[TrajectoryModel, dict[str, Any]]:
        """(model, header) of a file of `save`. Raises FileNotFoundError, and ValueError for files of other kinds."""
        arrays, header = weights_file.load(path, METHOD)
        with weights_file.using(path):
            if not float(header["interval"]) > 0:
                raise ValueError(f"the header has interval = {header['interval']}")
            model = cls(header["options"], header["interval"], header["classes"])
            model.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
            return model.eval().requires_grad_(False), header


def orthogonal(count: int, dimension: int) -> Tensor:
    """`count` orthogonal unit vectors (count, dimension), the same for all models of this size."""
    generator = np.random.Generator(np.random.Philox(key=[count, dimension]))
    found, _ = np.linalg.qr(generator.standard_normal((dimension, count)))
    return torch.from_numpy(found.T.astype(np.float32).copy())


def draw_identifiers(generator: np.random.Generator, pool: int, entities: int) -> np.ndarray:
    """An injective assignment: numbers of identifiers, one for each entity. Raises ValueError for too many entities."""
    if entities > pool:
        raise ValueError(f"{entities} entities, but a pool of {pool} identifiers")
    return generator.permutation(pool)[:entities]
