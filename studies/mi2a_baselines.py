"""Baselines of studies/mi2a.py, of the same training runs and test windows.

nearest run             the training run with the nearest parameters
interpolation           of the training runs in the known parameter, point by point, by cubic splines
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
from scipy.interpolate import CubicSpline

from subgrid.closures.lasdi.options import TrainingOptions
from subgrid.closures.lasdi.training import fit
from subgrid.closures.learning.basis import Basis
from subgrid.closures.mi2a.registered import Registered
from subgrid.ingest.sweep import Sweep
from subgrid.solver.case.tables import Case

RIDGES = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)


def table(case: Case, training: Sweep, test: Test, window: int, work: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, errors) of each baseline."""
    known = torch.from_numpy(training.states()).flatten(2).double().numpy()
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
        found = make()
        if found is not None:
            yield name, errors(test, torch.from_numpy(np.asarray(found)), window)


def nearest(case: Case, known: NDArray, test: Test, window: int) -> NDArray:
    assert case.sweep
    return known[[case.sweep.nearest(point) for point in test.parameters]][:, window:]


def interpolation(training: Sweep, known: NDArray, test: Test, window: int) -> NDArray | None:
    """Cubic splines in the one parameter that varies; in its reciprocal where the sweep is even in that."""
    if training.parameters.shape[1] != 1 or training.case.sweep is None:
        return None
    inverse = bool(training.case.sweep.reciprocal)
    places, asked = (1 / p[:, 0] if inverse else p[:, 0] for p in (training.parameters, test.parameters))
    order = np.argsort(places)
    return CubicSpline(places[order], known[order][:, window:])(asked)


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

    def combine(rows: NDArray, target: NDArray, strength: float) -> NDArray:
        gram = rows @ rows.T
        ridge = (strength + 1e-15) * np.trace(gram) / len(gram) * np.eye(len(gram))
        return np.linalg.lstsq(gram + ridge, rows @ target, rcond=None)[0]

    best = min(
        RIDGES,
        key=lambda strength: sum(
            float(
                np.square(
                    np.tensordot(
                        combine(np.delete(past, i, 0), past[i], strength), np.delete(known, i, 0)[:, window:], 1
                    )
                    - known[i, window:]
                ).sum()
            )
            for i in range(len(known))
        ),
    )
    asked = test.windows[:, :window].double().numpy().reshape(len(test.windows), -1)
    return np.stack([np.tensordot(combine(past, target, best), known[:, window:], 1) for target in asked])


def dmd(known: NDArray, test: Test, window: int, rank: int = 40) -> NDArray:
    """c(n+1) = A c(n) in POD coefficients of all training runs."""
    basis = Basis.fit(torch.from_numpy(known[:, ::2]).flatten(0, 1).float(), rank, 1e-12)
    c = basis.coefficients(torch.from_numpy(known).float()).double().numpy()
    left, right = c[:, :-1].reshape(-1, c.shape[-1]), c[:, 1:].reshape(-1, c.shape[-1])
    step = np.linalg.lstsq(left, right, rcond=1e-10)[0]
    now = basis.coefficients(test.windows[:, window - 1]).double().numpy()
    found = []
    for _ in range(test.states.shape[1] - window):
        now = now @ step
        found.append(now)
    return basis.states(torch.from_numpy(np.stack(found, 1)).float()).numpy()


def lasdi(case: Case, training: Sweep, test: Test, window: int, work: Path) -> NDArray:
    """A model of the closure lasdi, from the last state of the window."""
    options = TrainingOptions(**case.train.get("lasdi", {}) | {"threads": 1, "spread": False})
    model = fit(training, options, work)
    interval = float(training.times[1] - training.times[0])
    count = test.states.shape[1] - window + 1
    return model.predict(test.windows[:, window - 1], test.parameters, interval, count)[:, 1:].numpy()
