"""Train the reduced-order model: the basis, the autoencoder with its latent dynamics, then further stages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from subgrid.ingest.sweep import Sweep

from ..learning import ridge
from ..learning.autoencoder import autoencoder
from ..learning.learned_closure import Progress
from ..learning.optimisation import torch_threads
from ..learning.parallel import share
from ..learning.perceptrons import StageDecoder, stage_decoders
from ..learning.training import StagedTraining, checkpoint_header, no_progress
from . import dynamics, greedy, interpolation
from .interpolated import InterpolatedModel
from .model import LatentModel, Stage
from .options import TrainingOptions
from .reduced_snapshots import Snapshots


def fit(
    sweep: Sweep, options: TrainingOptions, directory: Path, progress: Progress = no_progress, device: str = "cpu"
) -> LatentModel | InterpolatedModel:
    """The reduced-order model of finished runs.

    Batches are functions of the seed and the step, so a training that is interrupted resumes from `directory` and ends
    with the same weights bit for bit, on the same machine and number of threads. If `options` asks for more stages than
    a finished training has, the missing ones are added.

    Raises ValueError for too few runs, unstable latent dynamics, or a directory that holds another training;
    FloatingPointError if the loss is no longer finite.
    """
    with torch_threads(options.threads):
        if options.library == "time":
            return interpolation.fit(sweep, options, progress)
        return Training(sweep, options, directory, progress, device).run()


class Training:
    """One training: its runs in the basis, its networks and its losses.

    A greedy design adds a run after the first stage and after each further round of it. A round is a stage of
    `StagedTraining`; the checkpoint holds the runs added so far under "added", the spread at each of them under
    "spreads", and under "settled" whether no more runs will be added.
    """

    def __init__(
        self,
        sweep: Sweep,
        options: TrainingOptions,
        directory: Path,
        progress: Progress = no_progress,
        device: str = "cpu",
    ) -> None:
        self.options, self.first_runs, self.device = options, len(sweep), device
        self.table = sweep.case.sweep
        self.greedy = self.table is not None and self.table.design == "greedy"
        if self.greedy and options.autoencoder != "pod-mlp":
            raise ValueError(
                "train.lasdi.autoencoder: a greedy design changes the basis, "
                f'and {options.autoencoder!r} has none. Remedy: "pod-mlp", or another sweep.design'
            )
        identity: dict[str, Any] = {
            "options": options.model_dump(mode="json", exclude={"threads", "stages"}),
            "parameters": {"names": list(sweep.names), "values": sweep.parameters.tolist()},
            "greedy": self.table.model_dump(mode="json") if self.greedy and self.table else None,
        }
        held = checkpoint_header(directory, identity)
        extra: dict[str, Any] = {"added": [], "spreads": [], "settled": not self.greedy}
        extra |= held["extra"] if held else {}
        self.use(sweep.grown(extra["added"]) if extra["added"] else sweep)
        grid, equation = sweep.case.grid.grid(), sweep.case.build_equation()
        self.shape = {
            "fields": sweep.about["fields"],
            "shape": list(grid.shape),
            "periodic": list(equation.periodic_axes(grid)),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.encoder, self.decoder = autoencoder(options.model_dump(), self.data.basis.size, self.shape)
        self.further = self.untrained_decoders()
        self.training = StagedTraining(
            self.networks(),
            self.stages(),
            directory,
            identity | {"data": self.data.digest},
            every=options.checkpoint_every,
            progress=progress,
            extra=extra,
        )

    def stages(self) -> dict[str, int]:
        """Steps of each stage, in order: the first one, its greedy rounds, and further stages by descent."""
        options = self.options
        most = self.table.runs - self.first_runs if self.greedy and self.table and self.table.runs else 0
        stages = {"1": options.steps} | {f"1, round {i}": options.round_steps for i in range(1, most + 1)}
        if options.stage_fit == "descent":
            stages |= {str(i + 1): options.stage_steps for i in range(1, options.stages)}
        return stages

    def networks(self) -> nn.ModuleDict:
        """All networks: the first stage under "0", the decoders of further stages under "1", "2", ..."""
        first: dict[str, nn.Module] = {"0": nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})}
        return nn.ModuleDict(first | {str(i): stage for i, stage in enumerate(self.further, start=1)})

    def untrained_decoders(self) -> list[StageDecoder]:
        """Decoders of the further stages, for the present basis."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed + 1)
            return stage_decoders(self.options.model_dump(), self.data.c.shape[-1])

    def use(self, sweep: Sweep) -> None:
        """Train on these runs from now on."""
        options = self.options
        self.sweep, self.data = sweep, Snapshots(sweep, options)
        self.degree = options.degree
        while math.comb(self.degree + len(sweep.names), self.degree) > len(sweep) and self.greedy:
            self.degree -= 1  # until there are enough runs
        terms = math.comb(self.degree + len(sweep.names), self.degree)
        if len(sweep) < terms:
            raise ValueError(
                f"train.lasdi.degree: {options.degree} needs {terms} runs or more, the sweep has {len(sweep)}. "
                "Remedy: a lower degree, or more runs"
            )
        low, high = sweep.ranges.T
        self.scaled = torch.from_numpy(2 * (sweep.parameters - low) / (high - low) - 1)
        self.terms = dynamics.monomials(self.scaled, self.degree)
        self.placed = [x.to(self.device) for x in (self.data.c, self.data.rate, self.terms)]

    @property
    def rounds(self) -> int:
        """Number of runs that the greedy design has added."""
        return len(self.sweep) - self.first_runs

    def run(self) -> LatentModel:
        """Train all stages."""
        self.first_stage()
        model, z = self.first_model()
        scores = self.scores(model, z)
        target = self.data.c - self.decoded(model, z)
        for i, decoder in enumerate(self.further, start=1):
            scale = float(target.square().mean().sqrt())
            inputs = model.normalised(z)
            gained = 0.0
            if self.options.stage_fit == "ridge":
                gained = ridge.solve(decoder, inputs, target / scale)
                scores[f"stage_{i + 1}_held_out"] = gained**0.5
            else:
                self.descend(i, decoder, inputs.flatten(0, 1), (target / scale).flatten(0, 1))
            with torch.inference_mode():
                parts = [decoder(x) for x in inputs.flatten(0, 1).split(4096)]
                left = target - scale * torch.cat(parts).reshape(target.shape)
            gained = max(gained, float(left.square().mean() / target.square().mean()))
            if gained >= 1:  # no better than a zero decoder: omit this stage and the following ones
                break
            model.stages.append(Stage(decoder.eval(), scale))
            target = left
            scores[f"stage_{i + 1}"] = float(self.data.error(self.data.c - target).max())
        model.about["scores"] = scores
        return model

    def first_stage(self) -> None:
        """Train the first stage. A greedy design then adds a run where the spread is largest and trains a round, until
        it has enough runs or the spread is below its tolerance.

        Each round continues with the trained networks, in the basis of all runs, and with new moments of Adam.
        """
        training, table = self.training, self.table
        self.descend_first()
        while not training.extra["settled"]:
            assert table is not None and table.runs is not None
            full = len(self.sweep) >= table.runs
            found = None if full else greedy.acquisition(self.first_model()[0], self.sweep)
            if found is None or (table.tolerance is not None and found[1] <= table.tolerance):
                training.extra["settled"] = True
                training.save()
                return
            basis = self.data.basis
            self.use(self.sweep.grown(found[0]))
            self.encoder, self.decoder = greedy.change_basis(self.encoder, self.decoder, basis, self.data.basis)
            self.further = self.untrained_decoders()
            training.extra["spreads"].append(found[1])
            training.extra["added"] = self.sweep.parameters[self.first_runs :].tolist()
            training.identity["data"] = self.data.digest
            training.restart(f"1, round {self.rounds}", self.networks())
            self.descend_first()

    def descend_first(self) -> None:
        """The remaining steps of the first stage, or of the present round of it."""
        stage = f"1, round {self.rounds}" if self.rounds else "1"
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        with self.on_device(self.encoder, self.decoder):
            self.training.run(stage, parameters, self.options.learning_rate, self.first_loss)

    @contextmanager
    def on_device(self, *networks: nn.Module) -> Iterator[None]:
        """Networks on the device while they are trained; fits in closed form are made on the host."""
        for network in networks:
            network.to(self.device)
        yield
        for network in networks:
            network.cpu()

    def descend(self, stage: int, decoder: StageDecoder, inputs: Tensor, target: Tensor) -> None:
        """The remaining steps of a further stage: least squares of the normalised residual (snapshot, mode)."""
        options = self.options
        inputs, target = inputs.to(self.device), target.to(self.device)

        def loss(step: int) -> Tensor:
            generator = np.random.Generator(np.random.Philox(key=[options.seed, step]))
            chosen = generator.choice(len(inputs), max(1, len(inputs) // options.stride), replace=False)
            mine = share(len(chosen))
            rows = torch.from_numpy(mine.of(chosen)).to(self.device)
            return mine.weight * (decoder(inputs[rows]) - target[rows]).square().mean()

        with self.on_device(decoder):
            self.training.run(str(stage + 1), decoder.parameters(), options.stage_learning_rate, loss)

    def first_loss(self, step: int) -> Tensor:
        """The loss of `TrainingOptions` at a step of the first stage or of a round of it: the part of this process.

        It is that of its runs; the latent dynamics is fitted to the latents of all runs.
        """
        options, data = self.options, self.data
        mine = share(len(data.c))
        all_c, all_rates, terms = (mine.of(x) for x in self.placed)
        if self.rounds:
            step += options.steps + (self.rounds - 1) * options.round_steps
        generator = np.random.Generator(np.random.Philox(key=[options.seed, step]))
        chosen = slice(int(generator.integers(min(options.stride, data.c.shape[1]))), None, options.stride)
        c, rate = all_c[:, chosen], all_rates[:, chosen]
        z, library, z_rate = self.latents(c, rate, data.step * options.stride)
        whole_library, whole_rate = mine.whole(library, z_rate)
        coefficients = dynamics.at(dynamics.fit(whole_library, whole_rate, self.placed[2]), terms)
        fitted = library @ coefficients
        loss = (self.decoder(z) - c).square().sum(-1).mean()
        off = (z_rate - fitted).square().mean() / whole_rate.square().mean()
        loss = loss + options.dynamics_weight * off
        if options.coefficient_weight:
            loss = loss + options.coefficient_weight * coefficients.square().sum((1, 2)).mean()
        if options.trajectory_weight:
            start = self.encoder(all_c[:, 0])
            path = dynamics.trajectories(start, coefficients, data.step, data.c.shape[1])[:, chosen]
            with torch.no_grad():  # limits, beyond which unstable trajectories carry no gradient
                whole = mine.whole(z)
                low, high = whole.amin((0, 1)), whole.amax((0, 1))
                low, high = low - (high - low), high + (high - low)
            path = torch.clamp(torch.nan_to_num(path), low, high)
            # the weight grows over the first fifth of the steps, while the dynamics is not yet accurate
            weight = options.trajectory_weight * min(1.0, step / (0.2 * options.steps))
            loss = loss + weight * (self.decoder(path.float()) - c).square().sum(-1).mean()
        return (mine.weight * loss).float()

    def latents(self, c: Tensor, rate: Tensor, step: float) -> tuple[Tensor, Tensor, Tensor]:
        """Latents of coefficients at times `step` apart, and both sides of their dynamics in the chosen form."""
        if self.options.form == "weak":
            z, z_rate = self.encoder(c), None
        else:
            z, z_rate = self.encoder.with_tangent(c, rate)
        return z, *dynamics.equation_sides(z, z_rate, step, self.options.library)

    @torch.inference_mode()
    def first_model(self) -> tuple[LatentModel, Tensor]:
        """The model of one stage, and its predicted latent trajectories of the training runs."""
        data, sweep = self.data, self.sweep
        z, library, rate = self.latents(data.c, data.rate, data.step)
        operator = dynamics.fit(library, rate, self.terms)
        coefficients = dynamics.at(operator, self.terms)
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
            **({"spreads": self.training.extra["spreads"]} if self.greedy else {}),
            "seeds": {"training": self.options.seed, "runs": sweep.about["seed"]},
            "scores": {},
        }
        model = LatentModel(
            data.basis,
            self.encoder.eval(),
            self.decoder.eval(),
            [],
            operator,
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
        """Coefficients (run, time, mode) of latents, run by run."""
        return torch.stack([model.decoded(part) for part in z])

    @torch.inference_mode()
    def scores(self, model: LatentModel, z: Tensor) -> dict[str, float]:
        """The largest relative error of a training snapshot of the basis, the autoencoder and the first stage."""
        data = self.data
        rebuilt = torch.stack([self.decoder(self.encoder(c)) for c in data.c])
        return {
            "projection": float(data.error(data.c).max()),
            "autoencoder": float(data.error(rebuilt).max()),
            "stage_1": float(data.error(self.decoded(model, z)).max()),
        }
