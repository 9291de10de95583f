"""Train the reduced-order model: basis, autoencoder with its latent dynamics, then stage after stage; resumable."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from subgrid.ingest.sweep import Sweep

from ..learning.optimisation import descent, torch_threads
from ..learning.training import Progress
from ..learning.weights_file import read_tensors, write_tensors
from . import dynamics, greedy, ridge
from .autoencoder import autoencoder
from .model import LatentModel, Stage
from .networks import StageDecoder, stage_decoders
from .options import TrainingOptions
from .reduced_snapshots import Snapshots


class Training:
    """The state of one training: what is finished, what is under way, and its place on disk."""

    def __init__(self, sweep: Sweep, options: TrainingOptions, directory: Path, progress: Progress) -> None:
        self.options, self.directory, self.progress = options, directory, progress
        self.table = sweep.case.sweep
        self.greedy = self.table is not None and self.table.design == "greedy"
        self.first_runs = len(sweep)
        self.log: list[dict[str, float]] = []
        self.under_way: tuple[int, int] = (0, 0)
        self.moments: dict[str, Tensor] = {}
        self.spreads: list[float] = []  # the largest, at which each run but the first ones was added
        self.settled = not self.greedy  # whether no more runs will be added
        held = self.held()
        self.take(sweep.grown(held[1]["added"]) if held and held[1].get("added") else sweep)
        if self.greedy and options.autoencoder != "pod-mlp":
            raise ValueError(
                f"train.lasdi.autoencoder: a greedy design goes on in another basis, "
                f'which {options.autoencoder!r} has not. Remedy: "pod-mlp", or another sweep.design'
            )
        grid, equation = sweep.case.grid.grid(), sweep.case.build_equation()
        self.shape = {
            "fields": sweep.about["fields"],
            "shape": list(grid.shape),
            "periodic": list(equation.periodic_axes(grid)),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.encoder, self.decoder = autoencoder(options.model_dump(), self.data.basis.size, self.shape)
        self.further = self.stage_decoders()
        self.identity: dict[str, Any] = {
            "options": options.model_dump(mode="json", exclude={"threads", "stages"}),
            "parameters": {"names": list(sweep.names), "values": sweep.parameters.tolist()},
            "greedy": self.table.model_dump(mode="json") if self.greedy and self.table else None,
        }
        if held:
            self.resume(*held)

    def stage_decoders(self) -> list[StageDecoder]:
        """Decoders of the further stages, as they begin."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed + 1)
            return stage_decoders(self.options.model_dump(), self.data.c.shape[-1])

    def take(self, sweep: Sweep) -> None:
        """Learn from these runs from now on."""
        options = self.options
        self.sweep, self.data = sweep, Snapshots(sweep, options)
        self.degree = options.degree
        while math.comb(self.degree + len(sweep.names), self.degree) > len(sweep) and self.greedy:
            self.degree -= 1  # as long as there are too few runs
        terms = math.comb(self.degree + len(sweep.names), self.degree)
        if len(sweep) < terms:
            raise ValueError(
                f"train.lasdi.degree: {options.degree} needs {terms} runs or more, the sweep has {len(sweep)}. "
                "Remedy: a lower degree, or more runs"
            )
        low, high = sweep.ranges.T
        self.scaled = torch.from_numpy(2 * (sweep.parameters - low) / (high - low) - 1)
        self.terms = dynamics.monomials(self.scaled, self.degree)

    @property
    def rounds(self) -> int:
        """Runs that a greedy design has added."""
        return len(self.sweep) - self.first_runs

    def first_stage(self) -> None:
        """The first stage; of a greedy design with one more run, where the spread is largest, as long as it is wanted.

        After each run the networks go on from where they are, in the basis of all runs, with a fresh Adam.
        """
        options, table = self.options, self.table
        self.optimise(0, options.round_steps if self.rounds else options.steps, options.learning_rate, self.first_loss)
        while not self.settled:
            assert table is not None and table.runs is not None
            full = len(self.sweep) >= table.runs
            found = None if full else greedy.least_known(self.first_model()[0], self.sweep)
            if found is None or (table.tolerance is not None and found[1] <= table.tolerance):
                self.settled = True
                self.save()
                return
            before = self.data.basis
            self.take(self.sweep.grown(found[0]))
            self.encoder, self.decoder = greedy.rebase(self.encoder, self.decoder, before, self.data.basis)
            self.further = self.stage_decoders()
            self.spreads.append(found[1])
            self.under_way, self.moments = (0, 0), {}
            self.save()
            self.optimise(0, options.round_steps, options.learning_rate, self.first_loss)

    @property
    def checkpoint(self) -> Path:
        return self.directory / "last.safetensors"

    def modules(self) -> dict[str, nn.Module]:
        first: dict[str, nn.Module] = {"0": nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})}
        return first | {str(i): stage for i, stage in enumerate(self.further, start=1)}

    def run(self) -> LatentModel:
        options = self.options
        self.first_stage()
        model, z = self.first_model()
        scores = self.scores(model, z)
        target = self.data.c - self.decoded(model, z)
        for i, decoder in enumerate(self.further, start=1):
            scale = float(target.square().mean().sqrt())
            inputs, wanted = model.normalised(z).flatten(0, 1), (target / scale).flatten(0, 1)

            def loss(step: int, d: StageDecoder = decoder, x: Tensor = inputs, y: Tensor = wanted) -> Tensor:
                generator = np.random.Generator(np.random.Philox(key=[options.seed, step]))
                chosen = torch.from_numpy(generator.choice(len(x), max(1, len(x) // options.stride), replace=False))
                return (d(x[chosen]) - y[chosen]).square().mean()

            gained = 0.0
            if options.stage_fit == "ridge":
                gained = ridge.solve(decoder, model.normalised(z), target / scale)
                scores[f"stage_{i + 1}_held_out"] = gained**0.5
            else:
                self.optimise(i, options.stage_steps, options.stage_learning_rate, loss)
            with torch.inference_mode():
                left = target - scale * torch.cat([decoder(x) for x in inputs.split(4096)]).reshape(target.shape)
            gained = max(gained, float(left.square().mean() / target.square().mean()))
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
        named = dict(self.modules()[str(phase)].named_parameters())
        losses: list[float] = []
        first = self.options.steps + self.rounds * self.options.round_steps
        total = first + (len(self.further) * self.options.stage_steps if self.options.stage_fit == "descent" else 0)
        before = first + (phase - 1) * self.options.stage_steps if phase else first - steps
        for step, value, moments in descent(named, self.moments, begin, steps, peak, loss):
            losses.append(value)
            self.progress(before + step, total, {"stage": phase + 1, "loss": value})
            if step % self.options.checkpoint_every == 0 or step == steps:
                self.log.append({"stage": phase + 1, "step": step, "loss": float(np.mean(losses))})
                losses.clear()
                self.under_way, self.moments = (phase, step), moments()
                self.save()

    def first_loss(self, step: int) -> Tensor:
        options, data = self.options, self.data
        if self.rounds:
            step += options.steps + (self.rounds - 1) * options.round_steps
        generator = np.random.Generator(np.random.Philox(key=[options.seed, step]))
        chosen = slice(int(generator.integers(min(options.stride, data.c.shape[1]))), None, options.stride)
        c, rate = data.c[:, chosen], data.rate[:, chosen]
        z, library, z_rate = self.latents(c, rate, data.step * options.stride)
        coefficients = dynamics.at(dynamics.fit(library, z_rate, self.terms), self.terms)
        fitted = library @ coefficients
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

    def latents(self, c: Tensor, rate: Tensor, step: float) -> tuple[Tensor, Tensor, Tensor]:
        """Latents of coefficients at times `step` apart, and both sides of their dynamics, in the form asked for."""
        if self.options.form == "weak":
            z, z_rate = self.encoder(c), None
        else:
            z, z_rate = self.encoder.with_tangent(c, rate)
        return z, *dynamics.tested(z, z_rate, step, self.options.library)

    @torch.inference_mode()
    def first_model(self) -> tuple[LatentModel, Tensor]:
        """The model of one stage, and the latent trajectories it predicts for the training runs."""
        data, sweep = self.data, self.sweep
        z, library, rate = self.latents(data.c, data.rate, data.step)
        xi = dynamics.fit(library, rate, self.terms)
        coefficients = dynamics.at(xi, self.terms)
        path = dynamics.trajectories(z[:, 0], coefficients, data.step, data.c.shape[1])
        if not torch.isfinite(path).all():
            growth = dynamics.fastest_growth(coefficients)
            raise ValueError(
                f"the latent dynamics is unstable: eigenvalue {growth:.3g} over a time of "
                f"{data.step * (data.c.shape[1] - 1):g}. Remedy: more steps, or another train.lasdi.dynamics_weight"
            )
        spread = dynamics.Spread.fit(library, rate, coefficients, self.scaled) if self.options.spread else None
        flat = path.flatten(0, 1)
        about = {
            "version": version("subgrid"),
            **{k: sweep.about[k] for k in ("equation", "grid", "initial", "stepper", "step", "start")},
            **self.shape,
            "length": sweep.about["grid"]["length"],
            "parameters": [list(pair) for pair in zip(sweep.names, sweep.ranges.tolist(), strict=True)],
            "runs": len(sweep),
            "interval": data.step,
            "span": float(sweep.times[-1] - sweep.times[0]),
            "options": self.options.model_dump(mode="json", exclude={"threads"}) | {"degree": self.degree},
            "points": sweep.parameters.tolist(),
            **({"spreads": self.spreads} if self.greedy else {}),
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
        header: dict[str, Any] = {"identity": self.identity, "under_way": self.under_way, "log": self.log}
        header |= {"data": self.data.digest, "spreads": self.spreads, "settled": self.settled}
        header["added"] = self.sweep.parameters[self.first_runs :].tolist()
        write_tensors(self.checkpoint, {n: v.detach().numpy() for n, v in tensors.items()}, header)

    @property
    def remedy(self) -> str:
        return f"train in another directory, or delete {self.checkpoint}"

    def held(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """What the checkpoint holds, if there is one."""
        if not self.checkpoint.exists():
            return None
        try:
            return read_tensors(self.checkpoint)
        except ValueError as error:
            raise ValueError(f"{error}; {self.remedy}") from error

    def resume(self, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> None:
        held = header.get("identity", {}) | {"data": header.get("data")}
        asked = self.identity | {"data": self.data.digest}
        if differing := [name for name in asked if held.get(name) != asked[name]]:
            raise ValueError(f"{self.directory} holds another training ({', '.join(differing)} differ): {self.remedy}")
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for k, module in self.modules().items():
            known = {n.removeprefix(f"{k}."): v for n, v in tensors.items() if n.startswith(f"{k}.")}
            if known:  # more stages may be asked for than were
                module.load_state_dict(known)
        self.moments = {n.removeprefix("moments."): v for n, v in tensors.items() if n.startswith("moments.")}
        self.under_way, self.log = (header["under_way"][0], header["under_way"][1]), header["log"]
        self.spreads, self.settled = header["spreads"], header["settled"]


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
