"""The closure `equation-discovery`: a formula for the missing term."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, field_validator

from subgrid.solver.backend import Backend
from subgrid.solver.closure import Kind, Linear, Memory, Problem, Tendency, View
from subgrid.solver.spectral import Operators

from ..learning.fitted_term import Fit, FitOptions, FittedTerm, batches
from ..learning.scores import shell_spectrum
from . import candidates
from .sparse_regression import Moments, least_squares, sparsest

if TYPE_CHECKING:
    from subgrid.ingest.training_set import Dataset

Array = Any


class DiscoveryOptions(FitOptions):
    """The table [train.equation-discovery]."""

    candidates: tuple[str, ...] = Field((), description="those to choose from; by default all of the equation")
    thresholds: tuple[float, ...] = Field(
        (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
        min_length=1,
        description="least contribution |c| rms(candidate) / rms(term) of a candidate that is kept",
    )
    weighting: Literal["none", "residual"] = Field(
        "none", description="weights of squared errors: equal, or 1 / residual power of each shell in a first fit"
    )
    tolerance: float = Field(
        0.01, ge=0, description="relative excess of the validation error that fewer terms may cost"
    )

    @field_validator("thresholds")
    @classmethod
    def _not_negative(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if min(thresholds) < 0:
            raise ValueError("a threshold is negative. Remedy: thresholds >= 0")
        return thresholds


class EquationDiscovery(FittedTerm):
    """du/dt += sum_j c_j g_j(u), a few physical candidates with coefficients from sparse regression.

    For Kolmogorov flow g_j are w, lap w, lap^2 w, lap^3 w, u.grad w, |S| lap w, div(|S| grad w), div(|grad w| grad w),
    lap div(|S| grad w) and the gradient model d_i(d_k u_i d_k w); for Burgers' equation u, u_xx, ..., u u_x and their
    counterparts. Sequentially thresholded least squares chooses them; the threshold is that of the fewest terms whose
    validation error is within `tolerance` of the least.

    linear: terms that are linear in u join the linear operator; if no others are left, the closure is not called.
    noise = "residual" adds noise with the spectrum of the validation residuals.

    Raises ClosureError for other equations, for finite volumes and for weights that do not fit.
    """

    kind: ClassVar[Kind] = "learned"
    method: ClassVar[str] = "equation-discovery"
    options: ClassVar[type[FitOptions]] = DiscoveryOptions
    linear: bool = True
    _operators: Operators = PrivateAttr()
    _called: dict[str, float] = PrivateAttr()
    _joined: dict[str, float] = PrivateAttr()
    _equation: str = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, *candidates.FIELD)
        self.require_fourier(problem)
        self._equation = problem.equation.name
        with self.reading(problem) as (coefficients, header):
            terms = dict(zip(header["terms"], coefficients.tolist(), strict=True))
            if unknown := sorted(set(terms) - set(candidates.names(self._equation))):
                raise ValueError(f"the term {unknown[0]!r} is not a candidate of {self._equation}")
        linear = candidates.LINEAR[self._equation]
        self._joined = {name: c for name, c in terms.items() if self.linear and name in linear}
        self._called = {name: c for name, c in terms.items() if name not in self._joined}
        self._operators = Operators(problem.grid, backend=Backend(problem.backend, problem.device))
        return {}

    def linear_part(self, problem: Problem) -> Linear | None:
        if not self._joined:
            return None
        operators, linear = Operators(problem.grid), candidates.LINEAR[problem.equation.name]
        eigenvalues = sum(c * linear[name](operators) for name, c in self._joined.items())
        return Linear(eigenvalues * operators.mask, self._noise, calls=bool(self._called))

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        state = view.array
        found = candidates.evaluate(self._equation, list(self._called), self._operators, state)
        noise = None if self._joined else self._noise
        return Tendency(
            sum((c * g for c, g in zip(self._called.values(), found, strict=True)), 0 * state), noise=noise
        ), memory

    @classmethod
    def fit(cls, dataset: Dataset, options: DiscoveryOptions) -> Fit:
        equation, operators = dataset.model.equation, Operators(dataset.model.grid)
        known = candidates.names(equation.name)
        if not known or not equation.spectral:
            raise ValueError(
                f"{cls.method} has candidates for {', '.join(candidates.FIELD)} on Fourier grids, not for "
                f"{equation.name}, {equation.kind}. Remedy: another closure (`subgrid list`)"
            )
        if unknown := [name for name in options.candidates if name not in known]:
            raise ValueError(
                f"train.{cls.method}.candidates: {unknown[0]!r} is not known. Remedy: choose from {', '.join(known)}"
            )
        names = list(options.candidates) or known

        weight = None
        if options.weighting == "residual":
            first = least_squares(
                Moments.of(_parts(dataset.train, equation.name, names, operators)), np.ones(len(names), dtype=bool)
            )
            weight = _whitening(dataset.train, equation.name, names, operators, first)
        train, validation = (
            Moments.of(_parts(pairs, equation.name, names, operators, weight))
            for pairs in (dataset.train, dataset.validation)
        )
        found, threshold = sparsest(train, validation, options.thresholds, options.tolerance)
        if not found.any():
            raise ValueError(
                f"train.{cls.method}.thresholds: no candidate contributes {min(options.thresholds):g} of the term. "
                "Remedy: smaller thresholds, or other candidates"
            )
        chosen = [name for name, c in zip(names, found, strict=True) if c]
        coefficients = found[found != 0]

        def evaluate(c: Array, operators: Operators, state: Array) -> Array:
            terms = candidates.evaluate(equation.name, chosen, operators, state)
            return sum((c[i] * g for i, g in enumerate(terms)), 0 * state)

        full = validation.error(least_squares(train, np.ones(len(names), dtype=bool)))
        header = {
            "terms": chosen,
            "threshold": threshold,
            "errors": {"chosen": validation.error(found), "all candidates": full},
        }
        return Fit(coefficients, np.abs(coefficients), evaluate, header)

    @classmethod
    def describe(cls, fit: Fit, coefficients: NDArray, equation: str) -> dict[str, str]:
        """The formula, e.g. "dw/dt += -1.002 u.grad w + 0.0002 lap w"."""
        return {"formula": formula(equation, fit.header["terms"], coefficients)}


def _parts(
    pairs: tuple[NDArray, NDArray],
    equation: str,
    names: list[str],
    operators: Operators,
    weight: NDArray | None = None,
) -> Iterator[tuple[list[NDArray], NDArray]]:
    """Candidates and terms of the pairs, some samples at a time; with `weight` times their Fourier coefficients."""
    for state, term in batches(*pairs):
        found = candidates.evaluate(equation, names, operators, state)
        if weight is not None:
            *found, term = (operators.inverse(weight * operators.forward(a)) for a in (*found, term))
        yield found, term


def _whitening(
    pairs: tuple[NDArray, NDArray], equation: str, names: list[str], operators: Operators, coefficients: NDArray
) -> NDArray[np.float64]:
    """1 / sqrt of the power per shell that a fit leaves, on the modes that the 2/3 rule keeps, (*spectral_shape)."""
    power: NDArray | float = 0.0
    for found, term in _parts(pairs, equation, names, operators):
        left = term - sum(c * g for c, g in zip(coefficients, found, strict=True))
        power = power + len(term) * shell_spectrum(left)[0]
    power = np.asarray(power) / len(pairs[0])
    return operators.mask / np.sqrt(np.maximum(power, 1e-14 * power.max())[operators.grid.shells()])


def formula(equation: str, terms: list[str], coefficients: NDArray) -> str:
    """A sum of terms with four significant digits."""
    (first, *others) = zip(terms, coefficients, strict=True)
    text = f"{first[1]:.4g} {first[0]}" + "".join(f" {'-' if c < 0 else '+'} {abs(c):.4g} {name}" for name, c in others)
    return f"d{candidates.FIELD[equation]}/dt += {text}"
