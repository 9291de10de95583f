"""Train a generative term: its conditional mean, its latent space, its score network and a one-evaluation student."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subgrid.ingest.training_set import Dataset

from ..learning import weights_file
from ..learning.batches import draw_batch
from ..learning.compatibility import locate
from ..learning.learned_closure import Progress
from ..learning.learned_term import FEATURES
from ..learning.noise import SPECTRUM as RESIDUAL
from ..learning.optimisation import torch_threads
from ..learning.options import Features, Sampler
from ..learning.parallel import Share
from ..learning.samplers import heun
from ..learning.scores import relative_error, root_mean_squares, shell_spectrum
from ..learning.training import StagedTraining
from ..regression.options import TrainingOptions as MeanOptions
from ..regression.training import fit
from .latent_spaces import Autoencoder
from .model import GenerativeTerm
from .options import TrainingOptions

TEACHER_EVALUATIONS = 9
SCORED = 128  # validation pairs from which the scores are computed
DRAWS = 8  # samples of each of them
WHITE_DRAWS = 64  # where the solver draws the noise from its spectrum: the first shell has one mode


def train(
    dataset: Dataset,
    options: TrainingOptions,
    directory: Path,
    folder: Path,
    progress: Progress,
    device: str = "cpu",
) -> tuple[GenerativeTerm, dict[str, Any], np.ndarray]:
    """(model, header, noise spectrum) of a training set. Files named in the options are relative to `folder`.

    Resumes from `directory`. device: of torch. Raises ValueError for options that do not fit together, or a directory
    that holds another training.
    """
    with torch_threads(options.threads):
        return Training(dataset, options, directory, folder, progress, device).run()


class Training:
    """One training: its data as residuals of the conditional mean, its model and its losses."""

    def __init__(
        self,
        dataset: Dataset,
        options: TrainingOptions,
        directory: Path,
        folder: Path,
        progress: Progress,
        device: str = "cpu",
    ) -> None:
        self.dataset, self.options, self.device = dataset, options, device
        about = dataset.about
        self.dimensions = len(about["shape"])
        places = tuple(about["length"]), tuple(about["origin"])
        mean, normalisation, weights = _mean(dataset, options, directory / "mean", folder, progress, device)
        features = [
            part.numpy()
            for state in torch.from_numpy(dataset.train[0]).split(512)
            for part in [_features(state, options.features, normalisation["state"], *places)]
        ]
        normalisation["given"] = root_mean_squares(np.concatenate(features))
        structure = {
            "latent": options.latent.structure(),
            "score": options.score.model_dump(exclude_none=True),
            "parametrisation": options.parametrisation,
            "features": options.features,
            "mean": mean,
            "distilled": options.distil_steps > 0,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.model = GenerativeTerm(structure, normalisation, self.dimensions, *places)
        if self.model.mean is not None:
            self.model.mean.load_state_dict(weights)
            self.model.mean.requires_grad_(False)
        self.model.to(device)
        self.latent_shape = self.model.latent_shape(about["shape"])
        self.train, self.valid = (self._with_mean(*pairs) for pairs in (dataset.train, dataset.validation))
        if options.distil_steps and options.parametrisation != "data":
            raise ValueError('train.latent-diffusion.distil_steps: needs parametrisation = "data"')
        digest = float(np.abs(self.train[1]).sum(dtype=np.float64))
        identity = {
            "options": options.model_dump(mode="json", exclude={"threads"}),
            "shapes": [list(dataset.train[0].shape), list(dataset.validation[0].shape)],
            "residual": digest,
        }
        self.training = StagedTraining(
            self.model, self.stages(), directory, identity, every=options.checkpoint_every, progress=progress
        )

    def stages(self) -> dict[str, int]:
        """Steps of each stage, in order."""
        options = self.options
        stages = {"score": options.score_steps}
        if isinstance(self.model.latent, Autoencoder):
            stages = {"autoencoder": options.autoencoder_steps, **stages}
            if options.training == "joint":
                stages = {"joint": sum(stages.values())}
        return stages | ({"distil": options.distil_steps} if options.distil_steps else {})

    def _with_mean(self, state: np.ndarray, term: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States, and terms with their conditional means appended, (sample, 2 field, *grid)."""
        with torch.inference_mode():
            parts = torch.from_numpy(state).split(64)
            mean = torch.cat([self.model.conditional_mean(part.to(self.device)).cpu() for part in parts]).numpy()
        return state, np.concatenate([term, mean], axis=1)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Share]:
        """State, conditional mean and normalised residual h of batch number `step`: the share of this process."""
        state, both, share = draw_batch(*self.train, self.options, step)
        state, both = state.to(self.device), both.to(self.device)
        term, mean = both.chunk(2, dim=1)
        return state, mean, self.model.residual(term, mean), share

    def draws(self, step: int, share: Share) -> tuple[Tensor, Tensor]:
        """White noise in the latent space, and numbers uniform in (0, 1), as functions of the step."""
        generator = np.random.Generator(np.random.Philox(key=[self.options.seed, 2**32 + step]))
        white = share.of(generator.standard_normal((share.count, *self.latent_shape), dtype=np.float32))
        uniform = share.of(generator.random(share.count, dtype=np.float32))
        return self.model.latent.noise(self.placed(white)), self.placed(uniform)

    def placed(self, array: np.ndarray) -> Tensor:
        """The array on the device of the training."""
        return torch.from_numpy(array).to(self.device)

    def run(self) -> tuple[GenerativeTerm, dict[str, Any], np.ndarray]:
        """Train all stages; see `train` for the result."""
        model, training, rate = self.model, self.training, self.options.learning_rate
        latent, denoiser, student = model.latent, model.denoiser, model.student
        if "autoencoder" in training.stages:
            training.run("autoencoder", latent.parameters(), rate, self.autoencoder_loss)
        if "joint" in training.stages:
            training.run("joint", [*latent.parameters(), *denoiser.parameters()], rate, self.joint_loss)
            self.fit_latent()
        else:
            if not training.started("score"):
                self.fit_latent()
            training.run("score", denoiser.parameters(), rate, self.score_loss)
        if student is not None:
            if not training.started("distil"):
                student.load_state_dict(denoiser.state_dict())
            training.run("distil", student.parameters(), 0.5 * rate, self.distil_loss)
        return self.finished()

    def fit_latent(self) -> None:
        """Set the scales of the latent space from all residuals of the training set."""
        _, both = self.train
        term, mean = (self.placed(part) for part in np.split(both, 2, axis=1))
        with torch.no_grad():
            self.model.latent.fit(self.model.residual(term, mean))

    def autoencoder_loss(self, step: int) -> Tensor:
        """Reconstruction errors of h and of the condition."""
        state, mean, h, share = self.batch(step)
        latent = self.model.latent
        assert isinstance(latent, Autoencoder)
        condition = self.model.condition(state, mean)
        h_rebuilt, condition_rebuilt, _, _ = latent.reconstructions(h, condition)
        weight = self.options.loss_weights
        loss = weight[0] * _mse(h_rebuilt, h) + weight[1] * _mse(condition_rebuilt, condition)
        return share.weight * loss

    def joint_loss(self, step: int) -> Tensor:
        """The loss of `TrainingOptions` for training = "joint"."""
        state, mean, h, share = self.batch(step)
        latent = self.model.latent
        assert isinstance(latent, Autoencoder)
        condition = self.model.condition(state, mean)
        h_rebuilt, condition_rebuilt, z, c = latent.reconstructions(h, condition)
        whole = share.whole(z)
        axes = (0, *range(2, z.ndim))
        # the score network takes latents of unit variance, for any scale of the encoder
        unit = (z - whole.mean(axes, keepdim=True)) / whole.std(axes, keepdim=True)
        xi, uniform = self.draws(step, share)
        denoiser = self.model.denoiser
        parts = (
            _mse(h_rebuilt, h),
            _mse(condition_rebuilt, condition),
            denoiser.loss(unit, xi, denoiser.angles(uniform), c),
            _kl(whole),
        )
        loss = sum((w * part for w, part in zip(self.options.loss_weights, parts, strict=True)), torch.zeros(()))
        return share.weight * loss

    def score_loss(self, step: int) -> Tensor:
        """The loss of the denoiser on frozen latents."""
        state, mean, h, share = self.batch(step)
        with torch.no_grad():
            z = self.model.latent.encode(h)
            condition = self.model.latent.encode_condition(self.model.condition(state, mean))
        xi, uniform = self.draws(step, share)
        denoiser = self.model.denoiser
        return share.weight * denoiser.loss(z, xi, denoiser.angles(uniform), condition)

    def distil_loss(self, step: int) -> Tensor:
        """<|xi - F_s(xi, pi/2; c) - x(xi)|^2>, where x(xi) is the end of the teacher's probability flow from xi."""
        state, mean, _, share = self.batch(step)
        teacher, student = self.model.denoiser, self.model.student
        assert student is not None
        xi, _ = self.draws(step, share)
        with torch.no_grad():
            condition = self.model.latent.encode_condition(self.model.condition(state, mean))
            target = heun(teacher, xi, teacher.prepare(condition), TEACHER_EVALUATIONS)
        angle = torch.full((len(xi),), teacher.first_angle, device=xi.device)
        return share.weight * (xi - student.raw(xi, angle, student.prepare(condition)) - target).square().mean()

    @torch.inference_mode()
    def finished(self) -> tuple[GenerativeTerm, dict[str, Any], np.ndarray]:
        """The model with its header and its noise spectrum, from samples for the validation states."""
        model, options = self.model.eval(), self.options
        state, both = (self.placed(array) for array in self.valid)
        chosen = np.unique(np.linspace(0, len(state) - 1, SCORED).round().astype(int))
        state, both = state[chosen], both[chosen]
        term, mean = both.chunk(2, dim=1)
        h = model.residual(term, mean)
        correlation_time = self._correlation_time()
        count = DRAWS if correlation_time else WHITE_DRAWS
        draws = torch.stack([self._sample(state, mean, draw) for draw in range(count)])
        found = mean + draws.mean(0)
        true = term - found
        noise = draws - draws.mean(0)
        ratio = count / (count - 1)
        spectrum = ratio * shell_spectrum(noise.flatten(0, 1).cpu().numpy())
        left = shell_spectrum(true.cpu().numpy()) / (1 + 1 / count)
        z = model.latent.encode(h)
        scores = {
            "mean_error": relative_error(found.cpu().numpy(), term.cpu().numpy()),
            "predictable_error": relative_error(mean.cpu().numpy(), term.cpu().numpy()),
            "variance_ratio": float(ratio * noise.square().mean() / (true.square().mean() / (1 + 1 / count))),
            "spectrum_error": _spectrum_error(spectrum, left),
            "latent_variance": float(z.var()),
            "rebuilt": relative_error(model.latent.decode(z, state.shape[2:]).cpu().numpy(), h.cpu().numpy()),
        }
        header = {
            **self.dataset.about,
            "version": version("subgrid"),
            "seeds": {**self.dataset.about["seeds"], "training": options.seed},
            "correlation_time": correlation_time if options.correlation_time is None else options.correlation_time,
            "measured_correlation_time": correlation_time,
            "training_options": options.model_dump(mode="json"),
            "scores": scores,
        }
        return model, header, spectrum

    def _sample(self, state: Tensor, mean: Tensor, draw: int) -> Tensor:
        """A sample of H - M(u) for each state."""
        score = self.options.parametrisation == "score"
        sampler: tuple[Sampler, int] = ("euler-maruyama", 10) if score else ("heun", TEACHER_EVALUATIONS)
        found = []
        for i, (u, m) in enumerate(zip(state.split(64), mean.split(64), strict=True)):
            generator = np.random.Generator(np.random.Philox(key=[self.options.seed, 2**33 + 2**16 * draw + i]))

            def draw_noise(g: np.random.Generator = generator, count: int = len(u)) -> Tensor:
                return self.placed(g.standard_normal((count, *self.latent_shape), dtype=np.float32))

            found.append(self.model.sampled(u, m, draw_noise(), *sampler, draw_noise))
        return torch.cat(found)

    def _correlation_time(self) -> float:
        """T = -dt / ln rho of H - M(u) - E[H - M(u) | u], where rho is the correlation of successive samples.

        0 for rho below 0.1.
        """
        trajectories, times = self.dataset.sequences[1].shape[:2]
        state, both = (self.placed(array).split(64) for array in self.valid)
        left = []
        for u, pair in zip(state, both, strict=True):
            term, mean = pair.chunk(2, dim=1)
            left.append(self.model.residual(term, mean + self.model.expected(u, mean)))
        h = torch.cat(left).reshape(trajectories, times, -1)
        rho = float((h[:, 1:] * h[:, :-1]).mean() / h.square().mean())
        interval = self.dataset.model.sampling * self.dataset.model.step
        return -interval / float(np.log(rho)) if rho > 0.1 else 0.0


def _mean(
    dataset: Dataset, options: TrainingOptions, directory: Path, folder: Path, progress: Progress, device: str
) -> tuple[dict[str, Any] | None, dict[str, list[float]], dict[str, Tensor]]:
    """Structure, scales and weights of the conditional mean: trained here, or those of a trained regression."""
    if options.mean is None:
        return None, {name: root_mean_squares(a) for name, a in zip(("state", "term"), dataset.train, strict=True)}, {}
    if "start" in options.mean:
        if len(options.mean) > 1:
            raise ValueError("train.latent-diffusion.mean: start excludes other options, which the weights fix")
        path = locate(options.mean["start"], folder)
        arrays, header = weights_file.load(path, "regression")
        if header["equation"] != dataset.about["equation"]:
            raise ValueError(f"train.latent-diffusion.mean.start: {path.name} is for another equation")
        with weights_file.using(path):
            arrays.pop(RESIDUAL)
            network = header["network"]
            structure = {"network": network["kind"], "options": network["options"], "features": network["features"]}
            return structure, dict(header["normalisation"]), {n: torch.from_numpy(v) for n, v in arrays.items()}
    about = dataset.about
    chosen = MeanOptions(**options.mean)
    result = fit(
        *dataset.train, *dataset.validation, about["length"], chosen, directory, progress, about["origin"], device
    )
    structure = {"network": chosen.network, "options": chosen.network_options, "features": chosen.features}
    weights = {name: torch.from_numpy(value) for name, value in result.tensors.items()}
    return structure, dict(result.term.normalisation), weights


def _features(state: Tensor, features: Features, scale: list[float], length: Any, origin: Any) -> Tensor:
    known = state / state.new_tensor(scale).reshape(-1, *[1] * (state.ndim - 2))
    return known if features == "state" else FEATURES[features](known, length, origin)


def _mse(found: Tensor, wanted: Tensor) -> Tensor:
    return (found - wanted).square().mean()


def _kl(z: Tensor) -> Tensor:
    """Kullback-Leibler divergence from N(0, 1) of N(mean, variance) of each point over the batch."""
    mean, variance = z.mean(0), z.var(0) + 1e-6
    return 0.5 * (mean.square() + variance - variance.log() - 1).mean()


def _spectrum_error(found: np.ndarray, true: np.ndarray) -> float:
    """The largest |found / true - 1| over the shells that hold 99 % of the variance."""
    weight = true * np.arange(true.shape[1]).clip(1)
    order = np.argsort(-weight, axis=1)
    worst = 0.0
    for f, t, w, o in zip(found, true, weight, order, strict=True):
        kept = o[: int(np.searchsorted(np.cumsum(w[o]), 0.99 * w.sum())) + 1]
        worst = max(worst, float(np.abs(f[kept] / t[kept] - 1).max()))
    return worst
