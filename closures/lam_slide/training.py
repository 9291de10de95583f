"""Train a model of trajectories: the predictor by growing roll-outs, then the first and the second stage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from subgrid.ingest.training_set import Dataset

from ..learning.learned_closure import Progress
from ..learning.optimisation import torch_threads
from ..learning.training import StagedTraining, no_progress
from .model import TrajectoryModel, draw_identifiers
from .options import TrainingOptions

BLOCK = 512  # trajectories evaluated at a time
FIRST = 10000  # purposes of random numbers above it are not spans
SAMPLES = 5  # per validation trajectory, in the scores


@dataclass
class Batch:
    """Positions and velocities (batch, frame, entity, 3), couplings (batch, entity), and what the predictor answers."""

    x: Tensor
    v: Tensor
    c: Tensor
    predicted: tuple[Tensor, Tensor]


def fit(
    dataset: Dataset, options: TrainingOptions, directory: Path, progress: Progress = no_progress
) -> tuple[TrajectoryModel, dict[str, Any]]:
    """(model, header) of the trajectories of a training set of particles; resumes from `directory`.

    Batches are functions of the seed and the step, so that an interrupted training ends with the same weights bit for
    bit, on the same machine and number of threads. Raises ValueError for options that the data do not fit, or a
    directory that holds another training; FloatingPointError if the loss is no longer finite.
    """
    with torch_threads(options.threads):
        return Training(dataset, options, directory, progress).run()


class Training:
    """One training: its trajectories, its model and its losses."""

    def __init__(
        self, dataset: Dataset, options: TrainingOptions, directory: Path, progress: Progress = no_progress
    ) -> None:
        self.dataset, self.options = dataset, options
        self.states, self.valid = (torch.from_numpy(np.asarray(s, dtype=np.float32)) for s in dataset.sequences)
        self.count = options.past + options.future
        self._require()
        interval = dataset.model.sampling * dataset.model.step
        classes = sorted(set(self.states[:, 0, 6].flatten().tolist()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.model = TrajectoryModel(options.model_dump(mode="json"), interval, classes)
        self.entities = self.states.shape[-1]
        identity = {
            "options": options.model_dump(mode="json", exclude={"threads"}),
            "data": hashlib.sha256(self.states.numpy().tobytes()).hexdigest(),
        }
        self.training = StagedTraining(
            self.model, self.stages(), directory, identity, every=options.checkpoint_every, progress=progress
        )

    def _require(self) -> None:
        if self.dataset.about["equation"]["name"] != "charged-particles":
            raise ValueError(
                f"train.lam-slide: learns from particles, found {self.dataset.about['equation']['name']}. "
                "Remedy: a case with the equation charged-particles"
            )
        if self.states.shape[1] < self.count:
            raise ValueError(
                f"train.lam-slide: {self.options.past} frames given and {self.options.future} predicted need "
                f"{self.count} states of each trajectory, found {self.states.shape[1]}. Remedy: a later training.end"
            )
        if self.states.shape[-1] > self.options.identifiers:
            raise ValueError(
                f"train.lam-slide.identifiers: a pool of {self.options.identifiers} identifiers for "
                f"{self.states.shape[-1]} entities. Remedy: identifiers = {self.states.shape[-1]}, or more"
            )

    def stages(self) -> dict[str, int]:
        """Steps of each stage, in order."""
        o = self.options
        spans = {f"span {s}": n for s, n in zip(o.spans, o.span_steps, strict=True)} if o.predictor == "pairs" else {}
        return spans | {"first stage": o.steps, "second stage": o.flow_steps, "joint": o.joint_steps}

    def run(self) -> tuple[TrajectoryModel, dict[str, Any]]:
        """Train all stages."""
        model, training, o = self.model, self.training, self.options
        if model.predictor is not None:
            for span in o.spans:
                training.run(
                    f"span {span}",
                    model.predictor.parameters(),
                    o.span_learning_rate,
                    lambda step, span=span: self.predictor_loss(step, span),  # type: ignore[misc]
                )
        if not training.started("first stage"):
            self.normalise()
        training.run("first stage", model.autoencoder.parameters(), o.learning_rate, seeded(self.first_loss))
        rate = o.flow_learning_rate
        training.run("second stage", model.denoiser.parameters(), rate, seeded(self.second_loss))
        if o.joint_steps:
            decoder = [p for n, p in model.autoencoder.named_parameters() if not n.startswith(ENCODER)]
            both = [*model.denoiser.parameters(), *decoder]
            training.run("joint", both, 0.5 * rate, seeded(self.joint_loss))
        model.eval().requires_grad_(False)
        return model, self.header()

    # -- batches --------------------------------------------------------------------------------------------

    def batch(self, step: int, purpose: int) -> tuple[Batch, np.random.Generator]:
        """Trajectories, from any frame on, turned or reflected at random, and the generator that drew them.

        `predicted` is empty for the purpose of training the predictor.
        """
        generator = np.random.Generator(np.random.Philox(key=[self.options.seed, (purpose << 32) + step]))
        size = min(self.options.batch, len(self.states))
        chosen = torch.from_numpy(generator.choice(len(self.states), size, replace=False))
        begin = generator.integers(self.states.shape[1] - self.count + 1, size=size)
        frames = torch.from_numpy(begin[:, None] + np.arange(self.count))
        found = self.states[chosen[:, None], frames].transpose(2, 3)
        turns = np.linalg.qr(generator.standard_normal((size, 3, 3)))[0].astype(np.float32)
        turned = torch.from_numpy(turns)[:, None]
        x, v = (found[..., part] @ turned for part in (slice(0, 3), slice(3, 6)))
        if purpose < FIRST:
            return Batch(x, v, found[:, 0, :, 6], (x[:, :0], v[:, :0])), generator
        a, b = (self.predicted[chosen, torch.from_numpy(begin)] @ turned[:, None]).unbind(1)
        return Batch(x, v, found[:, 0, :, 6], (a, b)), generator

    @cached_property
    @torch.no_grad()
    def predicted(self) -> Tensor:
        """Answers of the predictor from every frame of all trajectories, (trajectory, frame, 2, frame, entity, 3)."""
        past, found = self.options.past, []
        for begin in range(self.states.shape[1] - self.count + 1):
            parts = [_positions(part) for part in self.states[:, begin : begin + past].split(BLOCK)]
            found.append(torch.cat([torch.stack(self.model.predict(x, c), 1) for x, _, c in parts]))
        return torch.stack(found, 1)

    def identifiers(self, generator: np.random.Generator, size: int) -> Tensor:
        """An assignment for each of `size` trajectories, (batch, entity, dimension)."""
        pool = len(self.model.pool)
        drawn = np.stack([draw_identifiers(generator, pool, self.entities) for _ in range(size)])
        return self.model.pool[torch.from_numpy(drawn)]

    @torch.no_grad()
    def normalise(self) -> None:
        """Set the scales: the mean norms of the residuals, at least a tenth of the largest of the frames."""
        past = self.options.past
        off: list[Tensor] = []
        lengths = []
        for part, predicted in zip(
            self.states[:, : self.count].split(BLOCK), self.predicted[:, 0].split(BLOCK), strict=True
        ):
            x, v, _ = _positions(part)
            base = self.model.base(x[:, :past], (predicted[:, 0], predicted[:, 1]))
            off.append(torch.stack([(a - b).norm(dim=-1).mean((0, 2)) for a, b in zip((x, v), base, strict=True)]))
            lengths.append(float(self.model.centred(x).norm(dim=-1).mean()))
        mean = torch.stack(off).mean(0)
        for frames in (slice(0, past), slice(past, None)):
            least = 0.1 * mean[:, frames].amax(1, keepdim=True)
            mean[:, frames] = mean[:, frames].maximum(least.clamp_min(1e-6))
        self.model.scale.copy_(mean)
        self.model.length.copy_(torch.tensor(np.mean(lengths)))

    # -- losses ---------------------------------------------------------------------------------------------

    def predictor_loss(self, step: int, span: int) -> Tensor:
        """Errors of roll-outs of `span` frames: |e| below one and 1 + log |e| above, for encounters are chaotic."""
        batch, _ = self.batch(step, span)
        past = self.options.past
        found = self.model.predict(batch.x[:, :past], batch.c, span)
        off = [(a - b[:, past : past + span]).norm(dim=-1) for a, b in zip(found, (batch.x, batch.v), strict=True)]
        errors = [torch.where(e < 1, e, 1 + e.clamp_min(1).log()).mean() for e in off]
        return errors[0] + self.options.velocity_weight * errors[1]

    def first_loss(self, step: int) -> Tensor:
        """Reconstruction of all windows from their own latents."""
        batch, generator = self.batch(step, FIRST + 1)
        identifiers = self.identifiers(generator, len(batch.x))
        base, features, _ = self.prepared(batch)
        z = self.model.autoencoder.encode(features, identifiers)
        return self.reconstruction(z, identifiers, batch, base, 0)

    def second_loss(self, step: int) -> Tensor:
        """The loss of the flow on frozen latents, and of the positions that it decodes."""
        return self.flow_loss(step, FIRST + 2)[0]

    def joint_loss(self, step: int) -> Tensor:
        """The same with the decoder trained, which still has to reconstruct from true latents."""
        loss, z, identifiers, batch, base = self.flow_loss(step, FIRST + 3)
        return loss + self.reconstruction(z, identifiers, batch, base, self.model.known)

    def flow_loss(self, step: int, purpose: int) -> tuple[Tensor, Tensor, Tensor, Batch, tuple[Tensor, Tensor]]:
        """The flow's loss on a batch, with the latents of the unknown windows, identifiers, batch and base."""
        batch, generator = self.batch(step, purpose)
        size, model, o = len(batch.x), self.model, self.options
        identifiers = self.identifiers(generator, size)
        base, features, condition = self.prepared(batch)
        with torch.no_grad():
            z = model.autoencoder.encode(features[:, model.known :], identifiers, model.known)
            given = model.autoencoder.encode(condition, identifiers)
        xi = torch.from_numpy(generator.standard_normal(z.shape, dtype=np.float32))
        uniform = torch.from_numpy(generator.random(size, dtype=np.float32))
        angle = model.denoiser.angles(uniform)
        angle[: round(o.pure * size)] = model.denoiser.first_angle
        cos, sin = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
        v = cos * z + sin * xi
        f = model.denoiser.raw(v, angle, model.denoiser.prepare(given))
        found, _, _ = model.residuals(cos * v - sin * f, identifiers, model.known)
        past = o.past
        true = batch.x[:, past:] - base[0][:, past:]
        unit = model.scale[0, past:].mean()
        loss = (f - (cos * xi - sin * z)).square().mean()
        loss = loss + o.position_weight * (found - true).norm(dim=-1).mean() / unit
        where = base[0][:, past:]
        loss = loss + o.distance_weight * o.position_weight * self.distances(where + found, where + true) / unit
        return loss, z, identifiers, batch, base

    def prepared(self, batch: Batch) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Base, features of the whole trajectory, and features of what is known of it."""
        past, model = batch.x[:, : self.options.past], self.model
        with torch.no_grad():
            base = model.base(past, batch.predicted)
            velocity = torch.cat([model.known_velocity(past), batch.v[:, self.options.past :]], 1)
            features = model.features(base[0], (batch.x - base[0], velocity - base[1]), batch.c)
            return base, features, model.condition(past, base, batch.c)

    def reconstruction(
        self, z: Tensor, identifiers: Tensor, batch: Batch, base: tuple[Tensor, Tensor], begin: int
    ) -> Tensor:
        """Errors of positions, pair distances and velocities in units of the residuals, of the base, of the species."""
        model, o = self.model, self.options
        frames = slice(begin * o.window, None)
        x, v, c = batch.x, batch.v, batch.c
        velocity = torch.cat([model.known_velocity(x[:, : o.past]), v[:, o.past :]], 1)
        found, speed, out = model.residuals(z, identifiers, begin)
        true, rate = x[:, frames] - base[0][:, frames], velocity[:, frames] - base[1][:, frames]
        unit, fast = model.scale[:, frames].mean(1)
        loss = (found - true).norm(dim=-1).mean() / unit
        where = base[0][:, frames]
        loss = loss + o.distance_weight * self.distances(where + found, where + true) / unit
        loss = loss + o.velocity_weight * (speed - rate).norm(dim=-1).mean() / fast
        loss = loss + 0.1 * (model.frames(out["base"]) - model.centred(base[0])[:, frames]).norm(dim=-1).mean()
        classes = torch.tensor(model.classes)
        target = (c[..., None] - classes).abs().argmin(-1)[:, None].expand(out["species"].shape[:3])
        return loss + o.species_weight * functional.cross_entropy(out["species"].flatten(0, 2), target.flatten())

    @staticmethod
    def distances(x: Tensor, y: Tensor) -> Tensor:
        """Mean difference of pair distances."""
        i, j = torch.triu_indices(x.shape[2], x.shape[2], 1)
        if not len(i):
            return x.new_zeros(())
        r, s = ((a[:, :, i] - a[:, :, j]).square().sum(-1).add(1e-12).sqrt() for a in (x, y))
        return (r - s).abs().mean()

    # -- what is written --------------------------------------------------------------------------------------

    def header(self) -> dict[str, Any]:
        """The header of the weights."""
        about = self.dataset.about
        return {
            **about,
            "version": version("subgrid"),
            "seeds": {**about["seeds"], "training": self.options.seed},
            "scores": self.scores(),
        }

    @torch.inference_mode()
    def scores(self) -> dict[str, float]:
        """Displacement errors over the validation trajectories: reconstruction, predictor, mean over samples."""
        past, model = self.options.past, self.model
        generator = np.random.Generator(np.random.Philox(key=[self.options.seed, (FIRST + 4) << 32]))
        errors: dict[str, list[Tensor]] = {"reconstruction": [], "predictor": [], "one": [], "ten": []}
        for part in self.valid[:, : self.count].split(BLOCK):
            x, v, c = _positions(part)
            batch = Batch(x, v, c, model.predict(x[:, :past], c))
            identifiers = self.identifiers(generator, len(x))
            base, features, _ = self.prepared(batch)
            z = model.autoencoder.encode(features, identifiers)
            future, true = base[0][:, past:], x[:, past:]
            errors["reconstruction"].append(_error(future + model.residuals(z, identifiers, 0)[0][:, past:], true))
            errors["predictor"].append(_error(future, true))
            for _ in range(SAMPLES):
                white = generator.standard_normal((len(x), *model.latent_shape()), dtype=np.float32)
                for name, evaluations in (("one", 1), ("ten", 10)):
                    found = model.sampled(x[:, :past], c, identifiers, torch.from_numpy(white), evaluations)
                    errors[name].append(_error(found[0], true))
        joined = {name: torch.cat(parts) for name, parts in errors.items()}
        scores = {f"{name}_ade": float(e.mean()) for name, e in joined.items()}
        return scores | {f"{name}_fde": float(e[:, -1].mean()) for name, e in joined.items()}


def seeded(loss: Callable[[int], Tensor]) -> Callable[[int], Tensor]:
    """The loss with a dropout that is a function of the step."""

    def value(step: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step)
            return loss(step)

    return value


ENCODER = ("embed", "queries", "gather", "mix", "to_latent", "frames.0", "slots", "beta")


def _positions(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, velocities and couplings of states (batch, frame, field, entity)."""
    u = states.transpose(2, 3)
    return u[..., :3], u[..., 3:6], u[:, 0, :, 6]


def _error(found: Tensor, true: Tensor) -> Tensor:
    """Displacement errors (trajectory, frame), means over entities."""
    return (found - true).norm(dim=-1).mean(-1)
