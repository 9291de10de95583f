"""Fit of trajectories over the parameters: the kernel, the low-rank form of the training runs, and their windows.

The lengths of the kernel maximise the likelihood of the training runs. The score `left_out` is the largest error of a
training run that is predicted from the others: no test run takes part. Source: Rasmussen and Williams, Gaussian
Processes for Machine Learning, 2006, 5.4.
"""

from __future__ import annotations

import itertools
import math
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from subgrid.ingest.sweep import Sweep

from ..learning.learned_closure import Progress
from ..learning.training import no_progress
from . import greedy
from .interpolated import InterpolatedModel, Window, inverse
from .options import Kernel, TrainingOptions
from .reduced_snapshots import Snapshots

LENGTHS = (0.1, 20.0)  # bounds, in units of half the range of a parameter
NOISES = (1e-10, 1.0)


def fit(sweep: Sweep, options: TrainingOptions, progress: Progress = no_progress) -> InterpolatedModel:
    """The interpolated model of finished runs; a greedy design adds runs where `options.acquisition` is largest.

    The fit is in closed form but for the lengths of the kernel, so it is repeated as a whole after an interruption.
    """
    table = sweep.case.sweep
    assert table is not None
    most = (table.runs or 0) if table.design == "greedy" else 0
    acquired: list[float] = []
    model = _fitted(sweep, options)
    while len(sweep) < most:
        found = greedy.acquisition(model, sweep, options.acquisition)
        if found is None or (table.tolerance is not None and found[1] <= table.tolerance):
            break
        acquired.append(found[1])
        sweep = sweep.grown(found[0])
        model = _fitted(sweep, options)
        progress(len(sweep), most, {"acquisition": found[1]})
    if most:
        model.about["spreads"] = acquired
    return model


def _fitted(sweep: Sweep, options: TrainingOptions) -> InterpolatedModel:
    """The model of the runs of a sweep."""
    data = Snapshots(sweep, options)
    low, high = sweep.ranges.T
    known = torch.from_numpy(2 * (sweep.parameters - low) / (high - low) - 1)
    c = data.c.double()
    values = (c - c.mean(0)).flatten(1)
    logarithms = likeliest(known, values, options.kernel)
    errors = left_out(known, values, logarithms, options.kernel).reshape(c.shape).norm(dim=-1)
    grid, equation = sweep.case.grid.grid(), sweep.case.build_equation()
    about: dict[str, Any] = {
        "version": version("subgrid"),
        **{k: sweep.about[k] for k in ("equation", "grid", "initial", "stepper", "step", "start")},
        "fields": sweep.about["fields"],
        "shape": list(grid.shape),
        "periodic": list(equation.periodic_axes(grid)),
        "length": sweep.about["grid"]["length"],
        "parameters": [list(pair) for pair in zip(sweep.names, sweep.ranges.tolist(), strict=True)],
        "runs": len(sweep),
        "interval": data.step,
        "span": float(sweep.times[-1] - sweep.times[0]),
        "options": options.model_dump(mode="json", exclude={"threads"}),
        "points": sweep.parameters.tolist(),
        "seeds": {"training": options.seed, "runs": sweep.about["seed"]},
        "scores": {},
    }
    times, runs = low_rank(c, options.time_energy)
    model = InterpolatedModel(data.basis, known, logarithms, times, runs, windows(data, options), about)
    norms = data.norm.sqrt()
    about["scores"] = {
        "projection": float(data.error(data.c).max()),
        "left_out": float((data.basis.scale * errors / norms).max()),
        "stage_1": float(data.error(model.trajectories(torch.eye(len(sweep)), times)).max()),
    }
    return model


def likeliest(known: Tensor, values: Tensor, kernel: Kernel) -> Tensor:
    """Logarithms of the lengths of the kernel and of its noise, of the largest likelihood of all values together.

    known (run, parameter), values (run, value) about their mean over the runs; one variance for all of them, which is
    that of the largest likelihood, and so is not a variable.
    """
    gram = values @ values.T
    count = known.shape[1]

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        logarithms = torch.tensor(x, requires_grad=True)
        precision = inverse(known, logarithms, kernel)
        value = len(known) * torch.log((precision * gram).sum()) - torch.logdet(precision)
        (slope,) = torch.autograd.grad(value, logarithms)
        return value.item(), slope.numpy()

    bounds = [tuple(map(math.log, LENGTHS))] * count + [tuple(map(math.log, NOISES))]
    start = np.array([0.0] * count + [math.log(1e-6)])
    return torch.from_numpy(minimize(loss, start, jac=True, bounds=bounds).x)


def left_out(known: Tensor, values: Tensor, logarithms: Tensor, kernel: Kernel) -> Tensor:
    """The error at each run, predicted from the others: e_r = [K^-1 d]_r / [K^-1]_rr, (run, value)."""
    precision = inverse(known, logarithms, kernel)
    return (precision @ values) / precision.diagonal()[:, None]


def low_rank(c: Tensor, energy: float) -> tuple[Tensor, Tensor]:
    """(time, factor) and (factor, run, mode) whose product is c (run, time, mode), but for a share `energy` of it."""
    flat = c.transpose(0, 1).flatten(1)
    values, vectors = torch.linalg.eigh(flat @ flat.T)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    kept = int((1 - values.cumsum(0) / values.sum() > energy).sum()) + 1
    times = vectors[:, :kept]
    return times.float().contiguous(), (times.T @ flat).reshape(kept, len(c), -1).float().contiguous()


def windows(data: Snapshots, options: TrainingOptions) -> list[Window]:
    """Windows of equal numbers of times, each with the leading modes of the training runs there."""
    count = data.c.shape[1]
    number = min(options.windows, count // 2)
    if options.window_modes >= data.c.shape[-1] or number < 2:
        return []
    edges = np.rint(np.linspace(0, count, number + 1)).astype(int)
    found = []
    for begin, end in itertools.pairwise(edges):
        rows = data.c[:, begin:end].double().flatten(0, 1)
        centre = rows.mean(0)
        _, vectors = torch.linalg.eigh((rows - centre).T @ (rows - centre))
        rotation = vectors.flip(1)[:, : options.window_modes]
        last = float((end - 0.5) * data.step)
        found.append(Window.of(data.basis, last, centre.float(), rotation.float().contiguous()))
    return found
