"""Baselines of studies/rom.py: other reduced-order models of the same runs in the same basis.

All are fitted to coefficients of the basis (run, time, mode) at scaled parameters (run, parameter), and predict the
coefficients (point, time, mode) at other parameters.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.optimize import minimize

Array = NDArray[np.float64]


class PodGpr:
    """Coefficients of the basis as Gaussian processes over the parameters, with one kernel for all.

    k(a, b) = exp(-|(a - b) / lengths|^2 / 2) + noise. Lengths and noise maximise the likelihood of all coefficients, in
    which the common variance has its maximum-likelihood value.
    """

    def __init__(self, scaled: Array, coefficients: Array, step: float) -> None:
        self.scaled, self.mean = scaled, coefficients.mean(axis=0)
        self.known = (coefficients - self.mean).reshape(len(scaled), -1)
        gram = self.known @ self.known.T

        def loss(logarithms: Array) -> float:
            kernel = self._kernel(scaled, logarithms) + np.exp(logarithms[-1]) * np.eye(len(scaled))
            return len(scaled) * np.log(np.trace(np.linalg.solve(kernel, gram))) + np.linalg.slogdet(kernel)[1]

        bounds = [(np.log(0.1), np.log(20.0))] * scaled.shape[1] + [(np.log(1e-10), 0.0)]
        self.logarithms = minimize(loss, [0.0] * scaled.shape[1] + [np.log(1e-6)], bounds=bounds).x
        kernel = self._kernel(scaled, self.logarithms) + np.exp(self.logarithms[-1]) * np.eye(len(scaled))
        self.inverse = np.linalg.inv(kernel)

    def _kernel(self, points: Array, logarithms: Array) -> Array:
        difference = (points[:, None] - self.scaled) / np.exp(logarithms[:-1])
        return np.exp(-0.5 * (difference**2).sum(-1))

    def predict(self, scaled: Array, start: Array) -> Array:
        weights = self._kernel(scaled, self.logarithms) @ self.inverse
        return (weights @ self.known).reshape(len(scaled), *self.mean.shape) + self.mean


class _Coefficients:
    """The spatial reduction that PyDMD requires: the identity, because the coefficients are already reduced."""

    def fit(self, values: Array) -> _Coefficients:
        return self

    def reduce(self, values: Array) -> Array:
        return values

    expand = reduce


class _Interpolation:
    """Thin-plate splines over the parameters, with the interface that PyDMD requires."""

    def fit(self, points: Array, values: Array) -> None:
        degree = 1 if len(points) > points.shape[1] + 1 else 0
        kernel = "thin_plate_spline" if degree else "linear"
        self.found = RBFInterpolator(points, values, kernel=kernel, degree=degree)

    def predict(self, points: Array) -> Array:
        return self.found(points)


class ParametricDmd:
    """Parametric dynamic mode decomposition by PyDMD (monolithic: one decomposition of all runs side by side).

    The rank is the one of RANKS with the least error on the training runs. Andreuzzi, Demo and Rozza, SIAM J. Appl.
    Dyn. Syst. 22 (2023) 2432.
    """

    RANKS = (10, 20, 40, 80, 120)

    def __init__(self, scaled: Array, coefficients: Array, step: float) -> None:
        from pydmd import DMD, ParametricDMD

        best = math.inf
        values = coefficients.transpose(0, 2, 1)
        for rank in self.RANKS:
            if rank > coefficients.shape[1] - 2:
                break
            model = ParametricDMD(DMD(svd_rank=rank, opt=True), _Coefficients(), _Interpolation())
            model.fit(values, scaled)
            model.parameters = scaled
            off = float(np.abs(model.reconstructed_data.real - values).max())
            if off < best:
                best, self.model, self.rank = off, model, rank

    def predict(self, scaled: Array, start: Array) -> Array:
        self.model.parameters = scaled
        return self.model.reconstructed_data.real.transpose(0, 2, 1)


class OperatorInference:
    """dc/dt = O(mu) [1, c, c c],  O(mu) = sum_k p_k(mu) O_k, p_k the monomials up to `degree`; RK4 in time.

    c are the leading modes only. One ridge regression over all runs gives the O_k. MODES and RIDGES are those with the
    least error on the training runs; if none of them is stable there, predictions are nan. Peherstorfer and Willcox,
    Comput. Methods Appl. Mech. Engrg. 306 (2016) 196; affine in the parameters as in McQuarrie, Khodabakhshi and
    Willcox, SIAM J. Sci. Comput. 45 (2023) A1917.
    """

    MODES = (5, 10, 15, 20)
    RIDGES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
    SUBSTEPS = 2

    def __init__(self, scaled: Array, coefficients: Array, step: float) -> None:
        self.step, self.count = step, coefficients.shape[1]
        self.operators: Array | None = None
        self.degree = 2 if len(scaled) >= 12 else 1
        rate = np.gradient(coefficients, step, axis=1, edge_order=2)
        rate[:, 2:-2] = (
            8 * (coefficients[:, 3:-1] - coefficients[:, 1:-3]) - coefficients[:, 4:] + coefficients[:, :-4]
        )[:, :] / (12 * step)
        best = math.inf
        for modes in self.MODES:
            if modes > coefficients.shape[2]:
                break
            c = coefficients[..., :modes]
            library = np.einsum("rk,rti->rtki", self._terms(scaled), _library(c)).reshape(c.shape[0] * c.shape[1], -1)
            gram, right = library.T @ library, library.T @ rate[..., :modes].reshape(-1, modes)
            size = np.sqrt(np.diag(gram).clip(1e-30))
            for ridge in self.RIDGES:
                matrix = gram / np.outer(size, size) + ridge * np.eye(len(gram)) / len(gram)
                found = (np.linalg.solve(matrix, right / size[:, None]) / size[:, None]).reshape(
                    self._terms(scaled).shape[1], -1, modes
                )
                path = self._run(found, scaled, coefficients[:, 0])
                off = float(((path - coefficients) ** 2).sum(-1).max()) if np.isfinite(path).all() else math.inf
                if off < best:
                    best, self.operators, self.chosen = off, found, (modes, ridge)

    def _terms(self, scaled: Array) -> Array:
        chosen = [
            c
            for n in range(self.degree + 1)
            for c in itertools.combinations_with_replacement(range(scaled.shape[1]), n)
        ]
        return np.stack([scaled[:, list(c)].prod(axis=1) for c in chosen], axis=1)

    def _run(self, operators: Array, scaled: Array, start: Array) -> Array:
        """Trajectories (run, time, mode) of all modes, where modes outside the operators are zero."""
        modes, h = operators.shape[-1], self.step / self.SUBSTEPS
        mine = np.einsum("rk,kij->rij", self._terms(scaled), operators)

        def rate(c: Array) -> Array:
            return np.einsum("ri,rij->rj", _library(c), mine)

        found = np.zeros((len(scaled), self.count, start.shape[-1]))
        c = start[:, :modes]
        found[:, 0, :modes] = c
        with np.errstate(over="ignore", invalid="ignore"):
            for n in range(1, self.count):
                for _ in range(self.SUBSTEPS):
                    a = rate(c)
                    b = rate(c + 0.5 * h * a)
                    d = rate(c + 0.5 * h * b)
                    c = c + h / 6 * (a + 2 * b + 2 * d + rate(c + h * d))
                found[:, n, :modes] = c
                if not np.isfinite(c).all():
                    found[:, n:] = np.nan
                    break
        return found

    def predict(self, scaled: Array, start: Array) -> Array:
        if self.operators is None:
            return np.full((len(scaled), self.count, start.shape[-1]), np.nan)
        return self._run(self.operators, scaled, start)


def _library(c: Array) -> Array:
    """[1, c, c_i c_j for i <= j], along the last axis."""
    i, j = np.triu_indices(c.shape[-1])
    return np.concatenate([np.ones_like(c[..., :1]), c, c[..., i] * c[..., j]], axis=-1)


BASELINES = {"POD-GPR": PodGpr, "parametric DMD": ParametricDmd, "operator inference": OperatorInference}
