"""Train the reduced-order model: basis, autoencoder with its latent dynamics, then stage after stage; resumable."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from subgrid.ingest.sweep import Sweep

from ..regression.training import one_cycle, torch_threads
from ..weights_file import read_tensors, write_tensors
from . import dynamics
from .basis import Basis
from .model import LatentModel, Stage
from .networks import First, Perceptron, StageDecoder

Progress = Callable[[int, int, dict[str, float]], None]


class TrainingOptions(BaseModel):
    """How a reduced-order model is trained: Adam under a one-cycle learning rate, stage by stage.

    The first stage minimises, in units of the snapshots' variance,

        <|c - D(E(c))|^2> + dynamics_weight <|dz/dt - [1, z] Xi|^2> / <|dz/dt|^2>
        + trajectory_weight <|c - D(z~)|^2> + coefficient_weight <|Xi|^2>

    over every `stride`-th snapshot of every run, with another offset at each step; z~ is the latent trajectory
    predicted from the run's first state, dz/dt the encoder's derivative along dc/dt, and Xi the joint fit to the batch.
    A further stage minimises the mean square of what the stages before it leave along z~.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    modes: int = Field(256, ge=1, description="the most modes of the basis")
    energy: float = Field(1e-6, gt=0, lt=1, description="share of the variance that the basis may leave out")
    snapshots: int = Field(1500, ge=2, description="that make the basis, evenly spread over the runs")
    latent: int = Field(5, ge=1)
    widths: tuple[int, ...] = (200, 100, 50)
    degree: int = Field(2, ge=0, description="of the polynomials of the parameters that are the coefficients")
    dynamics_weight: float = Field(0.1, ge=0)
    trajectory_weight: float = Field(1.0, ge=0)
    coefficient_weight: float = Field(0.0, ge=0)
    stride: int = Field(5, ge=1)
    steps: int = Field(4000, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    stages: int = Field(2, ge=1, description="decoders in all; 1 is LaSDI")
    stage_widths: tuple[int, ...] = (200, 400)
    stage_first: First = "sine"
    stage_kappa: float = Field(2.0, gt=0, description="frequency of the first layer: the higher, the finer")
    stage_steps: int = Field(1000, ge=1)
    stage_stride: int = Field(10, ge=1, description="a batch is one snapshot in so many, drawn at random")
    stage_learning_rate: float = Field(5e-3, gt=0)
    spread: bool = Field(True, description="whether Gaussian processes are fitted to the dynamics of single runs")
    checkpoint_every: int = Field(250, ge=1, description="steps between checkpoints, from which it resumes")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)


class Snapshots:
    """The training runs in coefficients of the basis, (run, time, mode), and what the basis leaves out of them."""

    def __init__(self, sweep: Sweep, options: TrainingOptions) -> None:
        runs, times = len(sweep), len(sweep.times)
        each = min(times, max(2, options.snapshots // runs))
        chosen = np.unique(np.rint(np.linspace(0, times - 1, each)).astype(int))
        states = [torch.from_numpy(sweep.state(i)).reshape(times, -1) for i in range(runs)]
        self.basis = Basis.fit(torch.cat([s[chosen] for s in states]), options.modes, options.energy)
        self.c = torch.stack([self.basis.coefficients(s) for s in states])
        self.norm = torch.stack([s.double().square().sum(-1) for s in states])
        lost = [(s - self.basis.states(c)).double().square().sum(-1) for s, c in zip(states, self.c, strict=True)]
        self.lost = torch.stack(lost)
        self.step = float(sweep.times[1] - sweep.times[0])
        self.rate = dynamics.derivative(self.c, self.step)
        self.digest = hashlib.sha256(self.c.numpy().tobytes()).hexdigest()

    def error(self, c: Tensor) -> Tensor:
        """|u - u_hat| / |u| of each snapshot (run, time) for predicted coefficients."""
        off = self.basis.scale**2 * (c - self.c).double().square().sum(-1)
        return ((off + self.lost) / self.norm).sqrt()


class Training:
    """The state of one training: what is finished, what is under way, and its place on disk."""

    def __init__(self, sweep: Sweep, options: TrainingOptions, directory: Path, progress: Progress) -> None:
        self.sweep, self.options, self.directory, self.progress = sweep, options, directory, progress
        self.data = data = Snapshots(sweep, options)
        terms = math.comb(options.degree + len(sweep.names), options.degree)
        if len(sweep) < terms:
            raise ValueError(
                f"train.lasdi.degree: {options.degree} needs {terms} runs or more, the sweep has {len(sweep)}. "
                "Remedy: a lower degree, or more runs"
            )
        low, high = sweep.ranges.T
        self.scaled = torch.from_numpy(2 * (sweep.parameters - low) / (high - low) - 1)
        self.terms = dynamics.monomials(self.scaled, options.degree)
        widths = (data.c.shape[-1], *options.widths, options.latent)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.encoder = Perceptron(widths, 1.0)
            self.decoder = Perceptron(widths[::-1], float(options.latent), 0.1)
            stage_widths = (options.latent, *options.stage_widths, widths[0])
            self.further = [
                StageDecoder(stage_widths, options.stage_first, options.stage_kappa) for _ in range(options.stages - 1)
            ]
        self.identity = {
            "options": options.model_dump(mode="json", exclude={"threads", "stages"}),
            "parameters": {"names": list(sweep.names), "values": sweep.parameters.tolist()},
            "data": data.digest,
        }
        self.log: list[dict[str, float]] = []
        self.under_way: tuple[int, int] = (0, 0)
        self.moments: dict[str, Tensor] = {}

    @property
    def checkpoint(self) -> Path:
        return self.directory / "last.safetensors"

    def modules(self) -> dict[str, nn.Module]:
        first: dict[str, nn.Module] = {"0": nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})}
        return first | {str(i): stage for i, stage in enumerate(self.further, start=1)}

    def run(self) -> LatentModel:
        if self.checkpoint.exists():
            self.resume()
        options = self.options
        self.optimise(0, options.steps, options.learning_rate, self.first_loss)
        model, z = self.first_model()
        scores = self.scores(model, z)
        target = self.data.c - self.decoded(model, z)
        for i, decoder in enumerate(self.further, start=1):
            scale = float(target.square().mean().sqrt())
            inputs, wanted = model.normalised(z).flatten(0, 1), (target / scale).flatten(0, 1)

            def loss(step: int, d: StageDecoder = decoder, x: Tensor = inputs, y: Tensor = wanted) -> Tensor:
                generator = np.random.Generator(np.random.Philox(key=[options.seed, step]))
                chosen = torch.from_numpy(
                    generator.choice(len(x), max(1, len(x) // options.stage_stride), replace=False)
                )
                return (d(x[chosen]) - y[chosen]).square().mean()

            self.optimise(i, options.stage_steps, options.stage_learning_rate, loss)
            with torch.inference_mode():
                left = target - scale * torch.cat([decoder(x) for x in inputs.split(4096)]).reshape(target.shape)
            gained = float(left.square().mean() / target.square().mean())
            if gained >= 1:  # the zero decoder is as good: the stage is left out, and so are those after it
                break
            model.stages.append(Stage(decoder.eval(), scale))
            target = left
            scores[f"stage_{i + 1}"] = float(self.data.error(self.data.c - target).max())
        model.about["scores"] = scores
        return model

    def optimise(self, phase: int, steps: int, peak: float, loss: Callable[[int], Tensor]) -> None:
        """Adam on the networks of a phase, from where the checkpoint left it."""
        if phase < self.under_way[0]:
            return
        begin = self.under_way[1] if phase == self.under_way[0] else 0
        if begin >= steps:
            return
        network = self.modules()[str(phase)]
        optimizer = torch.optim.Adam(network.parameters(), lr=peak)
        for name, parameter in network.named_parameters():
            if begin:
                held = {k: self.moments[f"{k}.{name}"].clone() for k in ("exp_avg", "exp_avg_sq")}
                optimizer.state[parameter] = {"step": torch.tensor(float(begin)), **held}
        losses: list[float] = []
        total = self.options.steps + len(self.further) * self.options.stage_steps
        before = self.options.steps + (phase - 1) * self.options.stage_steps if phase else 0
        for step in range(begin, steps):
            rate, momentum = one_cycle(step, steps, peak)
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = rate, (momentum, 0.999)
            optimizer.zero_grad(set_to_none=True)
            value = loss(step)
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(value.item())
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(f"the loss is {losses[-1]} at step {step + 1}: lower learning_rate ({peak})")
            self.progress(before + step + 1, total, {"stage": phase + 1, "loss": losses[-1]})
            if (step + 1) % self.options.checkpoint_every == 0 or step + 1 == steps:
                self.log.append({"stage": phase + 1, "step": step + 1, "loss": float(np.mean(losses))})
                losses.clear()
                self.under_way = (phase, step + 1)
                self.moments = {
                    f"{k}.{name}": optimizer.state[parameter][k]
                    for name, parameter in network.named_parameters()
                    for k in ("exp_avg", "exp_avg_sq")
                }
                self.save()

    def first_loss(self, step: int) -> Tensor:
        options, data = self.options, self.data
        generator = np.random.Generator(np.random.Philox(key=[options.seed, step]))
        chosen = slice(int(generator.integers(min(options.stride, data.c.shape[1]))), None, options.stride)
        c, rate = data.c[:, chosen], data.rate[:, chosen]
        z, z_rate = self.encoder.with_tangent(c, rate)
        coefficients = dynamics.at(dynamics.fit(z, z_rate, self.terms), self.terms)
        fitted = dynamics.affine(z.double()) @ coefficients
        loss = (self.decoder(z) - c).square().sum(-1).mean()
        off = (z_rate - fitted).square().mean() / z_rate.square().mean()
        loss = loss + options.dynamics_weight * off
        if options.coefficient_weight:
            loss = loss + options.coefficient_weight * coefficients.square().sum((1, 2)).mean()
        if options.trajectory_weight:
            start = self.encoder(data.c[:, 0])
            path = dynamics.trajectories(start, coefficients, data.step, data.c.shape[1])[:, chosen]
            with torch.no_grad():  # latents that run away early in training carry no gradient
                low, high = z.amin((0, 1)), z.amax((0, 1))
                low, high = low - (high - low), high + (high - low)
            path = torch.clamp(torch.nan_to_num(path), low, high)
            # the trajectories count from the start on, fully once the dynamics has been learned
            weight = options.trajectory_weight * min(1.0, step / (0.2 * options.steps))
            loss = loss + weight * (self.decoder(path.float()) - c).square().sum(-1).mean()
        return loss.float()

    @torch.inference_mode()
    def first_model(self) -> tuple[LatentModel, Tensor]:
        """The model of one stage, and the latent trajectories it predicts for the training runs."""
        data, sweep = self.data, self.sweep
        z, rate = self.encoder.with_tangent(data.c, data.rate)
        xi = dynamics.fit(z, rate, self.terms)
        coefficients = dynamics.at(xi, self.terms)
        path = dynamics.trajectories(z[:, 0], coefficients, data.step, data.c.shape[1])
        if not torch.isfinite(path).all():
            growth = dynamics.fastest_growth(coefficients)
            raise ValueError(
                f"the latent dynamics is unstable: eigenvalue {growth:.3g} over a time of "
                f"{data.step * (data.c.shape[1] - 1):g}. Remedy: more steps, or another train.lasdi.dynamics_weight"
            )
        spread = dynamics.Spread.fit(z, rate, coefficients, self.scaled) if self.options.spread else None
        flat = path.flatten(0, 1)
        about = {
            "version": version("subgrid"),
            **{k: sweep.about[k] for k in ("equation", "grid", "initial", "stepper", "step", "start", "fields")},
            "shape": sweep.about["grid"]["shape"],
            "length": sweep.about["grid"]["length"],
            "parameters": [list(pair) for pair in zip(sweep.names, sweep.ranges.tolist(), strict=True)],
            "runs": len(sweep),
            "interval": data.step,
            "span": float(sweep.times[-1] - sweep.times[0]),
            "options": self.options.model_dump(mode="json", exclude={"threads"}),
            "seeds": {"training": self.options.seed, "runs": sweep.about["seed"]},
            "scores": {},
        }
        model = LatentModel(
            data.basis,
            self.encoder.eval(),
            self.decoder.eval(),
            [],
            xi,
            flat.amin(0),
            flat.amax(0),
            flat.mean(0),
            flat.std(0).clamp_min(1e-12),
            spread,
            about,
        )
        return model, path

    @torch.inference_mode()
    def decoded(self, model: LatentModel, z: Tensor) -> Tensor:
        return torch.stack([model.decoded(part) for part in z])

    @torch.inference_mode()
    def scores(self, model: LatentModel, z: Tensor) -> dict[str, float]:
        """The largest relative error of a training snapshot, by what has come in so far."""
        data = self.data
        rebuilt = torch.stack([self.decoder(self.encoder(c)) for c in data.c])
        return {
            "projection": float(data.error(data.c).max()),
            "autoencoder": float(data.error(rebuilt).max()),
            "stage_1": float(data.error(self.decoded(model, z)).max()),
        }

    def save(self) -> None:
        tensors = {f"{k}.{n}": v for k, m in self.modules().items() for n, v in m.state_dict().items()}
        tensors |= {f"moments.{k}": v for k, v in self.moments.items()}
        header = {"identity": self.identity, "under_way": self.under_way, "log": self.log}
        write_tensors(self.checkpoint, {n: v.detach().numpy() for n, v in tensors.items()}, header)

    def resume(self) -> None:
        remedy = f"train in another directory, or delete {self.checkpoint}"
        try:
            arrays, header = read_tensors(self.checkpoint)
        except ValueError as error:
            raise ValueError(f"{error}; {remedy}") from error
        held = header.get("identity", {})
        differing = [name for name in self.identity if held.get(name) != self.identity[name]]
        if differing:
            raise ValueError(f"{self.directory} holds another training ({', '.join(differing)} differ): {remedy}")
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for k, module in self.modules().items():
            known = {n.removeprefix(f"{k}."): v for n, v in tensors.items() if n.startswith(f"{k}.")}
            if known:  # more stages may be asked for than were
                module.load_state_dict(known)
        self.moments = {n.removeprefix("moments."): v for n, v in tensors.items() if n.startswith("moments.")}
        self.under_way, self.log = (header["under_way"][0], header["under_way"][1]), header["log"]


def fit(
    sweep: Sweep, options: TrainingOptions, directory: Path, progress: Progress = lambda done, total, metrics: None
) -> LatentModel:
    """The reduced-order model of finished runs.

    Batches are drawn by a counter-based generator, so a training that is cut off goes on from
    `directory`/last.safetensors and ends with the same weights bit for bit, on the same machine and thread count; asked
    for more stages, it adds them.

    Raises ValueError for too few runs, unstable latent dynamics, or a directory that holds another training;
    FloatingPointError if the loss is no longer finite.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with torch_threads(options.threads):
        return Training(sweep, options, directory, progress).run()
