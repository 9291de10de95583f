"""Scores of predictions from a window: errors, their parts, arrival times, and the stability of the latent map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.closures.mi2a.losses import of_fields
from subgrid.closures.mi2a.model import WaveModel
from subgrid.closures.mi2a.multistep import Multistep
from subgrid.ingest.sweep import Sweep, runs
from subgrid.solver.case.sweep_design import among
from subgrid.solver.case.tables import Case

WINDOW = 10  # states of a test run that are given


@dataclass
class Test:
    """Unseen runs: states (run, time, point), parameters (run, parameter).

    beyond: one run outside the ranges, or None; longer: the same runs to twice the time, or None.
    windows: the states that predictions begin with, with white noise of deviation `noise` times `largest` if asked for.
    """

    states: torch.Tensor
    windows: torch.Tensor
    parameters: NDArray
    beyond: Test | None
    largest: float
    shape: tuple[int, ...]
    longer: Test | None = None

    @classmethod
    def of(cls, case: Case, training: Sweep, beyond: list[float] | None, noise: float, longer: bool = False) -> Test:
        assert case.sweep
        points = case.sweep.test_points()
        unseen = points[~among(points, training.parameters)]
        largest = float(np.abs(training.states()).max())
        outside = None
        if beyond:
            outside = cls._at(case, np.array([beyond]), largest, noise)
        found = cls._at(case, unseen, largest, noise)
        found.beyond = outside
        if longer:
            time = case.time.model_copy(update={"end": 2 * case.time.end})
            found.longer = cls._at(case.model_copy(update={"time": time}), unseen, largest, noise)
        return found

    @classmethod
    def _at(cls, case: Case, points: NDArray, largest: float, noise: float) -> Test:
        sweep = runs(case, points)
        states = torch.from_numpy(sweep.states())
        shape = tuple(states.shape[2:])
        flat = states.flatten(2)
        drawn = np.random.Generator(np.random.Philox(key=[7, 1])).standard_normal(flat.shape, dtype=np.float32)
        return cls(flat, flat + noise * largest * torch.from_numpy(drawn), points, None, largest, shape)


def errors(test: Test, predicted: torch.Tensor, window: int) -> dict[str, Any]:
    """Errors of predictions (run, time, point) after the window, relative to max |u|.

    mse, max; mse_by_field, of several fields, relative to the same max |u|; dissipation and dispersion, the parts of
    the mean square error that `losses` defines; worst_run, the largest mse of a run. front: for one-dimensional
    fields the mean absolute difference of the places of the front, the last point where |u| exceeds half its largest
    value, in points.
    """
    true = test.states[:, window:] / test.largest
    found = predicted.float() / test.largest
    off = found - true
    dissipation, dispersion = of_fields(true.double(), found.double()).parts(0.0)
    scored: dict[str, Any] = {
        "mse": float(off.double().square().mean()),
        "max": float(off.abs().max()),
        "dissipation": float(dissipation.mean()),
        "dispersion": float(dispersion.mean()),
        "worst_run": float(off.double().square().mean((1, 2)).max()),
    }
    if test.shape[0] > 1:  # of each field
        each = off.double().square().unflatten(-1, (test.shape[0], -1)).mean((0, 1, 3))
        scored["mse_by_field"] = each.tolist()
    if len(test.shape) == 2:
        scored["front"] = float((front(found) - front(true)).abs().mean())
        scored["peak"] = float((found.abs().amax(-1) - true.abs().amax(-1)).abs().mean())
    return scored


def front(fields: torch.Tensor) -> torch.Tensor:
    """The place of the last downward crossing of half the largest value, in points, by linear interpolation."""
    level = 0.5 * fields.amax(-1, keepdim=True)
    above = (fields[..., :-1] >= level) & (fields[..., 1:] < level)
    place = torch.arange(above.shape[-1]).expand(above.shape)
    last = torch.where(above, place, torch.zeros_like(place)).amax(-1)
    left = fields.gather(-1, last[..., None])[..., 0]
    right = fields.gather(-1, last[..., None] + 1)[..., 0]
    return last + (left - level[..., 0]) / (left - right).clamp_min(1e-12)


def scores(model: WaveModel, test: Test) -> dict[str, Any]:
    """Errors of a model, of its reconstruction alone, and beyond the ranges.

    A model of a shorter window than WINDOW begins with the last states of this window.
    """
    begin = max(WINDOW, model.window)
    windows = test.windows[:, begin - model.window : begin]
    predicted = model.predict(windows, test.parameters, test.states.shape[1] - begin)
    rebuilt = model.decode(model.encode(test.states)) - test.states
    found = errors(test, predicted, begin)
    found["reconstruction"] = float((rebuilt / test.largest).double().square().mean())
    if test.beyond is not None:
        found |= {f"beyond_{k}": v for k, v in scores(model, test.beyond).items()}
    if test.longer is not None:
        found |= {f"longer_{k}": v for k, v in later(model, test.longer, test.states.shape[1]).items()}
    return found


def later(model: WaveModel, test: Test, trained: int) -> dict[str, Any]:
    """Errors after the time of the training, of a roll-out that begins in the window, and of the reconstruction."""
    begin = max(WINDOW, model.window)
    windows = test.windows[:, begin - model.window : begin]
    predicted = model.predict(windows, test.parameters, test.states.shape[1] - begin)
    rebuilt = model.decode(model.encode(test.states[:, trained:])) - test.states[:, trained:]
    found = errors(test, predicted[:, trained - begin :], trained)
    return found | {"reconstruction": float((rebuilt / test.largest).double().square().mean())}


def stability(model: WaveModel, test: Test) -> dict[str, Any]:
    """The largest modulus of the eigenvalues of the linearised map of windows, over windows of the first test run.

    Networks carry hidden states besides, and are linearised in the latents of the window alone. Of a multistep model
    also its coefficients alpha; of networks with attention the mean weights, and their entropy relative to that of
    uniform weights.
    """
    window, latent = model.window, model.compression.latent
    z = model.encode(test.states[:1])[0]
    known = model.scaled(test.parameters[:1])
    moduli = []
    for begin in range(0, len(z) - window, max(1, (len(z) - window) // 8)):

        def following(flat: torch.Tensor) -> torch.Tensor:
            past = flat.reshape(1, window, latent)
            evolution = model.evolution
            if isinstance(evolution, Multistep):
                return evolution.step(past, known)[0]
            return evolution.rollout(past, known, 1)[0, 0]

        start = z[begin : begin + window].flatten().clone()
        start = start.double() if isinstance(model.evolution, Multistep) else start.float()
        jacobian = torch.autograd.functional.jacobian(following, start)
        companion = torch.zeros(window * latent, window * latent, dtype=jacobian.dtype)
        companion[:-latent, latent:] = torch.eye((window - 1) * latent)
        companion[-latent:] = jacobian
        moduli.append(float(torch.linalg.eigvals(companion).abs().max()))
    found: dict[str, Any] = {"spectral_radius": max(moduli), "spectral_radius_median": float(np.median(moduli))}
    if isinstance(model.evolution, Multistep):
        return found | {"alpha": model.evolution.coefficients().tolist()}
    if model.evolution.kind != "lstm":
        model.evolution.keep = True
        model.evolve(model.encode(test.states[:, :window]), test.parameters, test.states.shape[1] - window)
        weights = torch.stack(model.evolution.weights, 1)  # (run, time, state)
        model.evolution.keep = False
        entropy = -(weights * weights.clamp_min(1e-12).log()).sum(-1) / np.log(weights.shape[-1])
        found |= {
            "attention": weights.mean((0, 1)).tolist(),
            "attention_std_over_runs": float(weights.mean(1).std(0).mean()),
            "attention_std_over_time": float(weights.std(1).mean()),
            "entropy": float(entropy.mean()),
        }
    return found
