"""Baselines of studies/mi2a.py, of the same training runs and test windows.

nearest run             the training run with the nearest parameters
interpolation           of the training runs in the known parameters, point by point
translation             of the last state of the window, with the speed that the window shows (periodic domains)
one run translated      the first training run, shifted to where the first state is (periodic domains)
least squares           the combination of training runs that fits the window, continued
POD-DMD                 linear map of POD coefficients, fitted to all training runs, from the last state of the window
POD-LaSDI               the coefficients of closure lasdi's basis and dynamics: `subgrid train --closure lasdi`
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mi2a_scores import Test, errors
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, RBFInterpolator

from subgrid.closures.lasdi.options import TrainingOptions
from subgrid.closures.lasdi.training import fit
from subgrid.closures.learning.basis import Basis
from subgrid.closures.mi2a.registered import Registered
from subgrid.ingest.sweep import Sweep
from subgrid.solver.case.tables import Case

SNAPSHOTS = 1500  # about as many, for the basis of DMD
RANKS = (10, 20, 40, 80, 160)
RIDGES = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)


def table(
    case: Case, training: Sweep, test: Test, window: int, work: Path, skip: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, errors) of each baseline that is not in `skip`."""
    known = training.states().reshape(len(training), len(training.times), -1).astype(np.float64)
    predicted = {
        "nearest run": lambda: nearest(case, known, test, window),
        "interpolation in the parameter": lambda: interpolation(training, known, test, window),
        "translation": lambda: translation(case, test, window),
        "one run translated": lambda: translated_run(case, training, known, test, window),
        "least squares on the window": lambda: least_squares(known, test, window),
        "POD-DMD": lambda: dmd(known, test, window),
        "POD-LaSDI": lambda: lasdi(case, training, test, window, work),
    }
    for name, make in predicted.items():
        if name in skip:
            continue
        found = make()
        if found is not None:
            yield name, errors(test, torch.from_numpy(np.asarray(found)), window)


def nearest(case: Case, known: NDArray, test: Test, window: int) -> NDArray:
    assert case.sweep
    return known[[case.sweep.nearest(point) for point in test.parameters]][:, window:]


def interpolation(training: Sweep, known: NDArray, test: Test, window: int) -> NDArray:
    """Of the training runs in the known parameters, point by point: by cubic splines in one, else by cubic radial
    functions; in the reciprocals of parameters whose designs are even in them."""
    assert training.case.sweep
    inverse = np.array([name in training.case.sweep.reciprocal for name in training.names])
    places, asked = (np.where(inverse, 1 / p, p) for p in (training.parameters, test.parameters))
    if places.shape[1] == 1:
        order = np.argsort(places[:, 0])
        return CubicSpline(places[order, 0], known[order][:, window:])(asked[:, 0])
    low, width = places.min(0), np.ptp(places, axis=0)
    weights = RBFInterpolator((places - low) / width, np.eye(len(places)), kernel="cubic")((asked - low) / width)
    return np.tensordot(weights, known[:, window:], 1)


def translation(case: Case, test: Test, window: int) -> NDArray | None:
    """u(x - c t) with c by least squares of the phase of the leading Fourier modes of the window."""
    equation = case.build_equation()
    if len(test.shape) != 2 or not all(equation.periodic_axes(case.grid.grid())):
        return None
    states = test.windows[:, :window].double().numpy()
    spectrum = np.fft.rfft(states)
    k = np.arange(spectrum.shape[-1])
    steps = (spectrum[:, 1:] * spectrum[:, :-1].conj()).sum(1)  # phase -k c of one interval
    some = slice(1, 9)
    weight = np.abs(steps[:, some]) * k[some] ** 2
    shift = -(weight * np.angle(steps[:, some]) / k[some]).sum(1) / weight.sum(1)
    ahead = np.arange(1, test.states.shape[1] - window + 1)
    turn = np.exp(-1j * k * shift[:, None, None] * ahead[:, None])
    return np.fft.irfft(spectrum[:, -1:] * turn, states.shape[-1])


def translated_run(case: Case, training: Sweep, known: NDArray, test: Test, window: int) -> NDArray | None:
    """The first training run, shifted by the distance between the first states, which Gauss-Newton finds."""
    grid, equation = case.grid.grid(), case.build_equation()
    if not all(equation.periodic_axes(grid)):
        return None
    about = {"fields": training.about["fields"], "shape": list(grid.shape)}
    first = torch.from_numpy(known[:1, :1]).float()
    basis = Basis.points(torch.from_numpy(known[:, 0]).float())
    template = Registered({"latent": grid.dimensions + 1}, basis, about)
    template.fit(basis.coefficients(first), "snapshot")
    fields = (len(equation.fields), *grid.shape)
    place = template.locate(test.windows[:, 0].double().reshape(-1, *fields))[0]
    place = place - template.locate(first[0].double().reshape(-1, *fields))[0]
    ahead = torch.from_numpy(known[0, window:]).double().reshape(-1, *fields)
    return np.stack([template.shifted(ahead, s[None].expand(len(ahead), -1)).flatten(1).numpy() for s in place])


def least_squares(known: NDArray, test: Test, window: int) -> NDArray:
    """Coefficients of the training runs by ridge regression on the window; the strength by leaving out each run."""
    past = known[:, :window].reshape(len(known), -1)
    ahead = known[:, window:].reshape(len(known), -1)
    gram, later = past @ past.T, ahead @ ahead.T

    def combine(gram: NDArray, products: NDArray, strength: float) -> NDArray:
        ridge = (strength + 1e-15) * np.trace(gram) / len(gram) * np.eye(len(gram))
        return np.linalg.lstsq(gram + ridge, products, rcond=None)[0]

    def left_out(strength: float) -> float:
        total = 0.0
        for i in range(len(known)):
            others = np.arange(len(known)) != i
            c = combine(gram[np.ix_(others, others)], gram[others, i], strength)
            total += float(c @ later[np.ix_(others, others)] @ c - 2 * c @ later[others, i] + later[i, i])
        return total

    best = min(RIDGES, key=left_out)
    asked = test.windows[:, :window].double().numpy().reshape(len(test.windows), -1)
    return np.tensordot(combine(gram, past @ asked.T, best).T, known[:, window:], 1)


def dmd(known: NDArray, test: Test, window: int) -> NDArray:
    """c(n+1) = A c(n) in POD coefficients of the training runs; their number by roll-outs of every fifth run."""
    held_out = np.arange(len(known)) % 5 == 2
    some = known[:, :: max(2, len(known) * known.shape[1] // SNAPSHOTS)].reshape(-1, known.shape[-1])
    basis = Basis.fit(torch.from_numpy(some).float(), max(RANKS), 1e-12)
    c = np.stack([basis.coefficients(torch.from_numpy(run).float()).double().numpy() for run in known])

    def rolled(rank: int, runs: NDArray, now: NDArray) -> NDArray:
        left, right = c[runs, :-1, :rank].reshape(-1, rank), c[runs, 1:, :rank].reshape(-1, rank)
        step = np.linalg.lstsq(left, right, rcond=1e-10)[0]
        found = []
        for _ in range(known.shape[1] - window):
            now = np.clip(now @ step, -1e6, 1e6)  # so that an unstable map is a large error
            found.append(now)
        return np.stack(found, 1)

    def error(rank: int) -> float:
        off = rolled(rank, ~held_out, c[held_out, window - 1, :rank]) - c[held_out, window:, :rank]
        return float(np.square(off).sum() + np.square(c[held_out, window:, rank:]).sum())

    rank = min((r for r in RANKS if r <= basis.size), key=error)
    now = basis.coefficients(test.windows[:, window - 1]).double().numpy()[:, :rank]
    found = rolled(rank, np.ones(len(known), bool), now)
    reduced = Basis(basis.mean, basis.modes[:, :rank], basis.scale) if basis.modes is not None else basis
    return np.stack([reduced.states(torch.from_numpy(path).float()).numpy() for path in found])


def lasdi(case: Case, training: Sweep, test: Test, window: int, work: Path) -> NDArray:
    """A model of the closure lasdi, from the last state of the window."""
    options = TrainingOptions(**case.train.get("lasdi", {}) | {"threads": 1, "spread": False})
    model = fit(training, options, work)
    interval = float(training.times[1] - training.times[0])
    count = test.states.shape[1] - window + 1
    return model.predict(test.windows[:, window - 1], test.parameters, interval, count)[:, 1:].numpy()
