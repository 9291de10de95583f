"""Train a model of trajectories: the predictor, then the first and the second stage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subgrid.ingest.training_set import Dataset

from ..learning.learned_closure import Progress
from ..learning.optimisation import torch_threads
from ..learning.parallel import Share, share
from ..learning.training import StagedTraining, no_progress
from .losses import Batch, displacement, distances, frame_means, mean, reconstruction, turns
from .model import TrajectoryModel, draw_identifiers
from .options import TrainingOptions
from .predictor import centre
from .transformer import TransformerPredictor

BLOCK = 512  # trajectories evaluated at a time
FIRST = 10000  # purposes of random numbers above it are not spans
SAMPLES = 5  # per validation trajectory, in the scores


def fit(
    dataset: Dataset,
    options: TrainingOptions,
    directory: Path,
    progress: Progress = no_progress,
    device: str = "cpu",
) -> tuple[TrajectoryModel, dict[str, Any]]:
    """(model, header) of the trajectories of a training set of particles; resumes from `directory`.

    Batches are functions of the seed and the step, so that an interrupted training ends with the same weights bit for
    bit, on the same machine and number of threads. device: of torch, on which the networks are trained.

    Raises ValueError for options that the data do not fit, or a directory that holds another training;
    FloatingPointError if the loss is no longer finite.
    """
    with torch_threads(options.threads):
        return Training(dataset, options, directory, progress, device).run()


class Training:
    """One training: its trajectories, its model and its losses."""

    def __init__(
        self,
        dataset: Dataset,
        options: TrainingOptions,
        directory: Path,
        progress: Progress = no_progress,
        device: str = "cpu",
    ) -> None:
        self.dataset, self.options, self.device = dataset, options, device
        self.states, self.valid = (torch.from_numpy(np.asarray(s, dtype=np.float32)) for s in dataset.sequences)
        self.count = options.past + options.future
        self._require()
        interval = dataset.model.sampling * dataset.model.step
        self.masks = [None, None] if dataset.masks is None else [torch.from_numpy(m) for m in dataset.masks]
        couplings = self.states[:, 0, 6]
        classes = sorted(set((couplings if self.masks[0] is None else couplings[self.masks[0]]).flatten().tolist()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.model = TrajectoryModel(options.model_dump(mode="json"), interval, classes).to(device)
        self.entities = self.states.shape[-1]
        identity = {
            "options": options.model_dump(mode="json", exclude={"threads"}),
            "data": hashlib.sha256(self.states.numpy().tobytes()).hexdigest(),
        }
        if self.masks[0] is not None:
            identity["masks"] = hashlib.sha256(self.masks[0].numpy().tobytes()).hexdigest()
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
        predictors = {
            "pairs": {f"span {s}": n for s, n in zip(o.spans, o.span_steps, strict=True)},
            "transformer": {"transformer": o.transformer_steps},
        }
        stages = {"first stage": o.steps, "second stage": o.flow_steps, "joint": o.joint_steps}
        return predictors.get(o.predictor, {}) | stages

    def run(self) -> tuple[TrajectoryModel, dict[str, Any]]:
        """Train all stages."""
        model, training, o = self.model, self.training, self.options
        if isinstance(model.predictor, TransformerPredictor):
            if not training.started("transformer"):
                self.measure(model.predictor)
            rate, network = o.transformer_learning_rate, model.predictor
            training.run("transformer", network.parameters(), rate, lambda step: self.transformer_loss(step, network))
        elif model.predictor is not None:
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
        header = self.header()
        return model.cpu(), header

    # -- batches --------------------------------------------------------------------------------------------

    def batch(self, step: int, purpose: int) -> tuple[Batch, np.random.Generator, Share]:
        """Trajectories, from any frame on, turned at random, the generator that drew them, and which share they are.

        The draws are made on the host, so that they are the same on every device.

        `predicted` is empty for the purpose of training the predictor.
        """
        generator = np.random.Generator(np.random.Philox(key=[self.options.seed, (purpose << 32) + step]))
        size = min(self.options.batch, len(self.states))
        chosen = torch.from_numpy(generator.choice(len(self.states), size, replace=False))
        begin = generator.integers(self.states.shape[1] - self.count + 1, size=size)
        frames = torch.from_numpy(begin[:, None] + np.arange(self.count))
        found = self.states[chosen[:, None], frames].transpose(2, 3)
        found = found.to(self.device)
        turned = torch.from_numpy(turns(generator, size, self.options.orientations)).to(self.device)[:, None]
        x, v = (found[..., part] @ turned for part in (slice(0, 3), slice(3, 6)))
        mask = None if self.masks[0] is None else self.masks[0][chosen].to(self.device)
        mine = self.model.autoencoder.share = share(size)
        if purpose < FIRST:
            return Batch(x, v, found[:, 0, :, 6], (x[:, :0], v[:, :0]), mask).part(mine), generator, mine
        a, b = (self.predicted[chosen, torch.from_numpy(begin)].to(self.device) @ turned[:, None]).unbind(1)
        return Batch(x, v, found[:, 0, :, 6], (a, b), mask).part(mine), generator, mine

    @cached_property
    @torch.no_grad()
    def predicted(self) -> Tensor:
        """Answers of the predictor from every frame of all trajectories, (trajectory, frame, 2, frame, entity, 3)."""
        past, found = self.options.past, []
        for begin in range(self.states.shape[1] - self.count + 1):
            parts = self.blocks(self.states[:, begin : begin + past], self.masks[0])
            found.append(torch.cat([torch.stack(self.model.predict(x, c, mask=m), 1).cpu() for x, _, c, m in parts]))
        return torch.stack(found, 1)

    def blocks(self, states: Tensor, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Positions, velocities, couplings and mask of blocks of states (trajectory, frame, field, entity)."""
        for begin in range(0, len(states), BLOCK):
            u = states[begin : begin + BLOCK].transpose(2, 3).to(self.device)
            real = None if mask is None else mask[begin : begin + BLOCK].to(self.device)
            yield u[..., :3], u[..., 3:6], u[:, 0, :, 6], real

    def identifiers(self, generator: np.random.Generator, size: int) -> Tensor:
        """An assignment for each of `size` trajectories, (batch, entity, dimension)."""
        pool = len(self.model.pool)
        drawn = np.stack([draw_identifiers(generator, pool, self.entities) for _ in range(size)])
        return self.model.pool[torch.from_numpy(drawn).to(self.device)]

    @torch.no_grad()
    def measure(self, network: TransformerPredictor) -> None:
        """Set the units of the transformer: mean norms of positions, of steps, and of residuals about the baseline."""
        past, found = self.options.past, []
        for x, v, _, mask in self.blocks(self.states[:, : self.count], self.masks[0]):
            given, base = x[:, :past], network.baseline(x[:, :past], self.options.future)
            off = [b - a[:, past:] for a, b in zip((x, v), base, strict=True)]
            parts = (given - centre(given[:, -1:], mask), given.diff(dim=1), *off)
            found.append(torch.stack([mean(p.norm(dim=-1), mask) for p in parts]))
        norms = torch.stack(found).mean(0).clamp_min(1e-6)
        network.length.copy_(norms[0])
        network.pace.copy_(norms[1])
        network.unit.copy_(norms[2:])

    @torch.no_grad()
    def normalise(self) -> None:
        """Set the scales: the mean norms of the residuals, at least a tenth of the largest of the frames."""
        past = self.options.past
        if self.model.heading:
            parts = self.blocks(self.states[:, past - 2 : past], self.masks[0])
            steps = [mean((x[:, 1:] - x[:, :1])[..., :2].norm(dim=-1), m) for x, _, _, m in parts]
            self.model.pace.copy_(torch.stack(steps).mean())
        off: list[Tensor] = []
        lengths = []
        parts = self.blocks(self.states[:, : self.count], self.masks[0])
        for (x, v, _, mask), predicted in zip(parts, self.predicted[:, 0].split(BLOCK), strict=True):
            base = self.model.base(x[:, :past], (predicted[:, 0].to(x), predicted[:, 1].to(x)))
            errors = [self.model.to_own_axes(a - b, base[0]).norm(dim=-1) for a, b in zip((x, v), base, strict=True)]
            off.append(torch.stack([frame_means(e, mask).mean(0) for e in errors]))
            lengths.append(float(mean(self.model.centred(x, mask).norm(dim=-1), mask)))
        norms = torch.stack(off).mean(0)
        for frames in (slice(0, past), slice(past, None)):
            least = 0.1 * norms[:, frames].amax(1, keepdim=True)
            norms[:, frames] = norms[:, frames].maximum(least.clamp_min(1e-6))
        self.model.scale.copy_(norms)
        self.model.length.copy_(torch.tensor(np.mean(lengths)))

    # -- losses ---------------------------------------------------------------------------------------------

    def predictor_loss(self, step: int, span: int) -> Tensor:
        """Errors of roll-outs of `span` frames: |e| below one and 1 + log |e| above, for encounters are chaotic."""
        batch, _, _ = self.batch(step, span)
        past = self.options.past
        found = self.model.predict(batch.x[:, :past], batch.c, span, batch.mask)
        off = [(a - b[:, past : past + span]).norm(dim=-1) for a, b in zip(found, (batch.x, batch.v), strict=True)]
        errors = [mean(torch.where(e < 1, e, 1 + e.clamp_min(1).log()), batch.mask) for e in off]
        return batch.entities * (errors[0] + self.options.velocity_weight * errors[1])

    def transformer_loss(self, step: int, network: TransformerPredictor) -> Tensor:
        """Mean norms of the errors of all frames, in units of those of the baseline."""
        batch, _, _ = self.batch(step, 0)
        past, o = self.options.past, self.options
        found = network(batch.x[:, :past], batch.c, o.future, batch.mask)
        off = [(a - b[:, past:]).norm(dim=-1) for a, b in zip(found, (batch.x, batch.v), strict=True)]
        errors = [mean(e, batch.mask) / u for e, u in zip(off, network.unit, strict=True)]
        return batch.entities * (errors[0] + o.velocity_weight * errors[1])

    def first_loss(self, step: int) -> Tensor:
        """Reconstruction of all windows from their own latents."""
        batch, generator, mine = self.batch(step, FIRST + 1)
        identifiers = mine.of(self.identifiers(generator, mine.count))
        base, features, _ = self.prepared(batch)
        z = self.model.autoencoder.encode(features, identifiers, 0, batch.mask)
        return reconstruction(self.model, self.options, z, identifiers, batch, base, 0)

    def second_loss(self, step: int) -> Tensor:
        """The loss of the flow on frozen latents, and of the positions that it decodes."""
        return self.flow_loss(step, FIRST + 2)[0]

    def joint_loss(self, step: int) -> Tensor:
        """The same with the decoder trained, which still has to reconstruct from true latents."""
        loss, z, identifiers, batch, base = self.flow_loss(step, FIRST + 3)
        return loss + reconstruction(self.model, self.options, z, identifiers, batch, base, self.model.known)

    def flow_loss(self, step: int, purpose: int) -> tuple[Tensor, Tensor, Tensor, Batch, tuple[Tensor, Tensor]]:
        """The flow's loss on a batch, with the latents of the unknown windows, identifiers, batch and base."""
        batch, generator, mine = self.batch(step, purpose)
        size, model, o = mine.count, self.model, self.options
        identifiers = mine.of(self.identifiers(generator, size))
        base, features, condition = self.prepared(batch)
        with torch.no_grad():
            z = model.autoencoder.encode(features[:, model.known :], identifiers, model.known, batch.mask)
            given = model.autoencoder.encode(condition, identifiers, 0, batch.mask)
        drawn = generator.standard_normal((size, *z.shape[1:]), dtype=np.float32)
        xi = torch.from_numpy(mine.of(drawn)).to(self.device)
        uniform = torch.from_numpy(generator.random(size, dtype=np.float32)).to(self.device)
        angle = model.denoiser.angles(uniform)
        angle[: round(o.pure * size)] = model.denoiser.first_angle
        angle = mine.of(angle)
        cos, sin = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
        v = cos * z + sin * xi
        f = model.denoiser.raw(v, angle, model.denoiser.prepare(given))
        found, _, _ = model.residuals(cos * v - sin * f, identifiers, model.known, base[0])
        past = o.past
        true = batch.x[:, past:] - base[0][:, past:]
        unit = model.scale[0, past:].mean()
        loss = batch.trajectories * (f - (cos * xi - sin * z)).square().mean()
        loss = loss + batch.entities * o.position_weight * mean((found - true).norm(dim=-1), batch.mask) / unit
        where = base[0][:, past:]
        off = distances(where + found, where + true, batch.mask)
        loss = loss + batch.pairs * o.distance_weight * o.position_weight * off / unit
        return loss, z, identifiers, batch, base

    def prepared(self, batch: Batch) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Base, features of the whole trajectory, and features of what is known of it."""
        past, model = batch.x[:, : self.options.past], self.model
        with torch.no_grad():
            base = model.base(past, batch.predicted)
            velocity = torch.cat([model.known_velocity(past), batch.v[:, self.options.past :]], 1)
            features = model.features(base[0], (batch.x - base[0], velocity - base[1]), batch.c, batch.mask)
            return base, features, model.condition(past, base, batch.c, batch.mask)

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
        for x, v, c, mask in self.blocks(self.valid[:, : self.count], self.masks[1]):
            batch = Batch(x, v, c, model.predict(x[:, :past], c, mask=mask), mask)
            identifiers = self.identifiers(generator, len(x))
            base, features, _ = self.prepared(batch)
            z = model.autoencoder.encode(features, identifiers, 0, mask)
            future, true = base[0][:, past:], x[:, past:]
            rebuilt = future + model.residuals(z, identifiers, 0, base[0])[0][:, past:]
            errors["reconstruction"].append(displacement(rebuilt, true, mask))
            errors["predictor"].append(displacement(future, true, mask))
            for _ in range(SAMPLES):
                drawn = generator.standard_normal((len(x), *model.latent_shape()), dtype=np.float32)
                white = torch.from_numpy(drawn).to(self.device)
                for name, evaluations in (("one", 1), ("ten", 10)):
                    found = model.sampled(x[:, :past], c, identifiers, white, evaluations, mask)
                    errors[name].append(displacement(found[0], true, mask))
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
