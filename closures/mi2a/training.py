"""Train a wave model: the compression, the latent evolution in its latents, and the refinement of the decoder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from subgrid.ingest.sweep import Sweep

from ..learning.basis import Basis
from ..learning.learned_closure import Progress
from ..learning.optimisation import torch_threads
from ..learning.parallel import share
from ..learning.training import StagedTraining, no_progress
from ..learning.weights_file import read_tensors, write_tensors
from . import multistep
from .completion import completed
from .compression import Compression, untrained
from .correction import Correction
from .model import Evolution, WaveModel, frozen, network, rollout
from .multistep import Multistep
from .options import TrainingOptions
from .registered import Registered
from .roll_outs import over_spans

DRAWS = 4  # of the noise on every window of the multistep model
AUTOENCODER = {"compression", "latent", "noise", "modes", "energy", "snapshots", "widths", "frequencies", "kappa"}
AUTOENCODER |= {"channels", "template", "steps", "batch", "learning_rate", "checkpoint_every", "seed"}


def fit(
    sweep: Sweep,
    options: TrainingOptions,
    directory: Path,
    progress: Progress = no_progress,
    device: str | torch.device = "cpu",
) -> WaveModel:
    """The wave model of finished runs.

    device: where networks are trained; regressions are solved on the processor.

    Batches are functions of the seed and the step, so a training that is interrupted resumes from `directory` and ends
    with the same weights bit for bit, on the same machine and number of threads. Trainings that differ in the latent
    evolution alone share the autoencoder of `directory`, and each has its own checkpoints beside it.

    Raises ValueError for too few runs or states, or a directory that holds another training; FloatingPointError if the
    loss is no longer finite.
    """
    with torch_threads(options.threads):
        return Training(sweep, options, directory, progress, device).run()


class Training:
    """One training: its runs in the basis, its compression and its losses."""

    def __init__(
        self,
        sweep: Sweep,
        options: TrainingOptions,
        directory: Path,
        progress: Progress = no_progress,
        device: str | torch.device = "cpu",
    ) -> None:
        self.sweep, self.directory, self.progress, self.device = sweep, directory, progress, device
        grid, equation = sweep.case.grid.grid(), sweep.case.build_equation()
        latent = options.latent or (2 if grid.dimensions == 1 else 8)
        self.options = options
        self._require()
        self.shape = {
            "fields": sweep.about["fields"],
            "shape": list(grid.shape),
            "periodic": list(equation.periodic_axes(grid)),
        }
        states = torch.from_numpy(sweep.states()).flatten(2)
        each = np.unique(np.rint(np.linspace(0, states.shape[1] - 1, max(2, options.snapshots // len(sweep)))))
        some = states[:, each.astype(int)].flatten(0, 1)
        if options.compression in ("pod", "pod-fourier"):
            most = latent if options.compression == "pod" else options.modes
            self.basis = Basis.fit(some, most, options.energy)
        else:
            self.basis = Basis.points(some)
        if options.compression == "pod":  # a basis of fewer modes may hold all
            latent = self.basis.size
        self.options = options.model_copy(update={"latent": latent, "products": min(options.products, latent)})
        self.c = torch.stack([self.basis.coefficients(run) for run in states])
        self.largest = float(states.abs().max())
        lost = states - torch.stack([self.basis.states(c) for c in self.c])
        self.lost = float(lost.square().mean())
        self.digest = hashlib.sha256(self.c.numpy().tobytes()).hexdigest()
        self.held_out = torch.arange(len(sweep)) % options.validation == options.validation // 2
        self.used = np.flatnonzero(~self.held_out.numpy())
        self.metric: Tensor | None = None  # of the latents, where errors are theirs
        self.compression: Compression | Registered
        if options.compression == "registered":
            self._require_periodic()
            self.compression = Registered(self.options.model_dump(), self.basis, self.shape)
        else:
            self.compression = untrained(self.options.model_dump(), self.basis, self.shape, options.seed)
        low, high = sweep.ranges.T
        self.scaled = torch.from_numpy(2 * (sweep.parameters - low) / (high - low) - 1)

    def _require(self) -> None:
        options, runs, times = self.options, len(self.sweep), len(self.sweep.times)
        if runs < options.validation:
            raise ValueError(
                f"train.mi2a.validation: of {runs} runs none is held out. Remedy: more runs, or validation <= {runs}"
            )
        longest = max(options.spans) if options.evolution != "multistep" or options.attention else 1
        if times < options.window + longest:
            raise ValueError(
                f"train.mi2a: a window of {options.window} and a roll-out of {longest} need "
                f"{options.window + longest} states of each run, found {times}. Remedy: a smaller window or span"
            )

    def _require_periodic(self) -> None:
        if not all(self.shape["periodic"]):
            raise ValueError(
                'train.mi2a.compression: "registered" shifts the state around a periodic domain, and an axis of this '
                'case is not periodic. Remedy: "pod-fourier" or "convolutional"'
            )

    def place(self, device: str | torch.device) -> None:
        """Move what losses need to a device: coefficients, latents, parameters, and the compression."""
        for name in ("c", "z", "scaled", "held_out", "metric"):
            if (value := getattr(self, name, None)) is not None:
                setattr(self, name, value.to(device))
        self.compression.placed(device)

    def run(self) -> WaveModel:
        """Train everything."""
        compression = self.compression
        if isinstance(compression, Registered):
            self.z = self.register(compression)
        elif self.options.compression == "pod":
            self.z = self.c
        else:
            self.train_autoencoder(compression)
            compression.normalise(self.c)
            self.z = compression.latents(self.c)
        frozen(compression)
        if isinstance(compression, Registered) and self.options.errors == "latents":
            self.metric = compression.metric(self.z) / (self.largest**2 * len(self.basis.mean))
        evolution, chosen = self.evolution()
        frozen(evolution)
        self.compression, evolution, refined = completed(self, evolution)
        if isinstance(evolution, Multistep) and self.options.attention:
            chosen["attention"] = evolution.correction is not None
        flat = self.z.flatten(0, 1)
        model = WaveModel(self.compression, evolution, flat.amin(0), flat.amax(0), self.about(chosen, refined))
        model.about["scores"] = self.scores(model)
        return model

    @property
    def ahead(self) -> int:
        """Number of states after the first window."""
        return self.c.shape[1] - self.options.window

    def starts(self) -> Tensor:
        """The first windows (run, time, latent) of all runs."""
        return self.z[:, : self.options.window]

    def register(self, compression: Registered) -> Tensor:
        """Fit registered latents and return those of the runs, or read both from the directory of the training."""
        file = self.directory / "registered.safetensors"
        names = ("latent", "template", "pattern_modes", "band", "cell_phase", "features")
        identity = {name: getattr(self.options, name) for name in names} | {"data": self.digest}
        try:
            arrays, header = read_tensors(file)
        except (FileNotFoundError, ValueError):  # a damaged file is replaced
            arrays, header = {}, {}
        if header == identity:
            z = torch.from_numpy(arrays.pop("z"))
            compression.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
            return z
        compression.fit(self.c, self.options.template)
        z = compression.latents(self.c)
        self.directory.mkdir(parents=True, exist_ok=True)
        state = {name: value.numpy() for name, value in compression.state_dict().items()}
        write_tensors(file, state | {"z": z.numpy()}, identity)
        return z

    # -- autoencoder ---------------------------------------------------------------------------------------

    def train_autoencoder(self, compression: Compression) -> None:
        """Least squares of clean snapshots from noisy ones."""
        options = self.options
        self.place(self.device)
        identity = {
            "options": options.model_dump(mode="json", include=AUTOENCODER),
            "parameters": {"names": list(self.sweep.names), "values": self.sweep.parameters.tolist()},
            "data": self.digest,
        }

        training = StagedTraining(
            nn.ModuleDict({"encoder": compression.encoder, "decoder": compression.decoder}),
            {"autoencoder": options.steps},
            self.directory / "autoencoder",
            identity,
            every=options.checkpoint_every,
            progress=self.progress,
        )
        parameters = [*compression.encoder.parameters(), *compression.decoder.parameters()]
        training.run("autoencoder", parameters, options.learning_rate, self.autoencoder_loss)
        self.place("cpu")

    def autoencoder_loss(self, step: int) -> Tensor:
        """Of snapshots and noise that are a function of the seed and the step."""
        options, rows = self.options, self.c.flatten(0, 1)
        generator = np.random.Generator(np.random.Philox(key=[options.seed, step]))
        chosen = torch.from_numpy(generator.integers(len(rows), size=min(options.batch, len(rows))))
        clean = rows[chosen.to(rows.device)]
        drawn = torch.from_numpy(generator.standard_normal(clean.shape, dtype=np.float32)).to(rows.device)
        mine = share(len(clean))
        clean, drawn = mine.of(clean), mine.of(drawn)
        noise = options.noise * self.largest / self.basis.scale
        compression = self.compression
        assert isinstance(compression, Compression)
        rebuilt = compression.decoder(compression.encoder(clean + noise * drawn))
        return mine.weight * (rebuilt - clean).square().sum(-1).mean()

    # -- evolution -----------------------------------------------------------------------------------------

    def evolution(self) -> tuple[Evolution, dict[str, Any]]:
        """The latent evolution, and how it was chosen."""
        options = self.options
        if options.evolution != "multistep":
            return self.train_network()
        noisy = None
        if options.window_noise:
            generator = np.random.Generator(np.random.Philox(key=[options.seed, 0]))
            noisy = torch.stack([self.noisy_latents(generator, self.c, self.z) for _ in range(DRAWS)])
        model, fitted, chosen = multistep.fit(
            self.z,
            self.scaled,
            self.held_out,
            options.window,
            options.random_features,
            options.parameters,
            options.seed,
            self.error,
            noisy,
            self.compression.positions,
            options.products,
        )
        return model, self.train_correction(model, fitted, chosen) if options.attention else chosen

    @torch.no_grad()
    def noisy_latents(self, generator: np.random.Generator, c: Tensor, z: Tensor) -> Tensor:
        """Latents of snapshots c (..., mode), whose latents are z, with white noise on their points."""
        drawn = torch.from_numpy(generator.standard_normal(c.shape, dtype=np.float32)).to(c.device)
        noise = self.options.window_noise * self.largest / self.basis.scale
        return self.compression.aligned(self.compression.latents(c + noise * drawn), z)

    def train_network(self) -> tuple[Evolution, dict[str, Any]]:
        """Train a recurrent network over roll-outs of growing length; keep the weights best on the runs held out."""
        known = self.scaled.shape[1] if self.options.parameters else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            recurrent = network(self.options.model_dump(), known)
        log = over_spans(self, recurrent, recurrent)
        curve = [[entry["stage"], entry["step"], entry["loss"], entry["valid_error"]] for entry in log]
        return recurrent, {"held_out": min(entry["valid_error"] for entry in log), "curve": curve}

    def train_correction(self, model: Multistep, fitted: Multistep, chosen: dict[str, Any]) -> dict[str, Any]:
        """Train an attention correction of the model `fitted` without the runs held out; if these runs gain, keep it.

        Returns `chosen` with the error of the runs held out, and whether the correction is kept.
        """
        inputs = self.z.shape[2] * 2 - model.unknown + model.parameters
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            correction = Correction(self.z.shape[2], inputs, self.options.hidden)
        log = over_spans(self, correction, replace(fitted, correction=correction))
        corrected = min(entry["valid_error"] for entry in log)
        kept = corrected < chosen["held_out"]
        if kept:
            model.correction = correction.requires_grad_(False)
        return chosen | {"corrected": corrected, "attention": kept}

    @torch.no_grad()
    def error(self, path: Tensor, runs: Tensor) -> float:
        """Mean square error per point, relative to max |u|^2, of roll-outs (run, time, latent) of these runs.

        With a metric, to first order, from the latents.
        """
        if self.metric is not None:
            return float((self.metric * (path - self.z[runs][:, self.options.window :]).square()).sum(-1).mean())
        return self.state_error(path, runs)

    @torch.no_grad()
    def state_error(self, path: Tensor, runs: Tensor) -> float:
        """The same of the decoded states."""
        off = self.compression.decoded(path) - self.c[runs][:, self.options.window :]
        points = len(self.basis.mean)
        return (self.basis.scale / self.largest) ** 2 * float(off.square().sum(-1).mean()) / points

    # -- what is written -----------------------------------------------------------------------------------

    def about(self, chosen: dict[str, Any], refined: dict[str, Any]) -> dict[str, Any]:
        """The header of the weights."""
        sweep = self.sweep
        return {
            "version": version("subgrid"),
            **{k: sweep.about[k] for k in ("equation", "grid", "initial", "stepper", "step", "start")},
            **self.shape,
            "length": sweep.about["grid"]["length"],
            "parameters": [list(pair) for pair in zip(sweep.names, sweep.ranges.tolist(), strict=True)],
            "runs": len(sweep),
            "interval": float(sweep.times[1] - sweep.times[0]),
            "span": float(sweep.times[-1] - sweep.times[0]),
            "largest": self.largest,
            "options": self.options.model_dump(mode="json", exclude={"threads"}),
            "chosen": chosen,
            "refinement": refined,
            "points": sweep.parameters.tolist(),
            "seeds": {"training": self.options.seed, "runs": sweep.about["seed"]},
            "scores": {},
        }

    @torch.no_grad()
    def scores(self, model: WaveModel) -> dict[str, float]:
        """Mean square errors per point, relative to max |u|^2: of the basis, the reconstruction, and roll-outs."""
        rebuilt = self.compression.decoded(self.z) - self.c
        unit = (self.basis.scale / self.largest) ** 2 / len(self.basis.mean)
        projection = self.lost / self.largest**2
        path = rollout(model.evolution, self.starts(), self.scaled, self.ahead)
        return {
            "projection": projection,
            "reconstruction": projection + unit * float(rebuilt.square().sum(-1).mean()),
            "rollout": projection + self.state_error(path, torch.ones_like(self.held_out)),
            "rollout_held_out": float(model.about["refinement"]["held_out"]) + projection,
        }
