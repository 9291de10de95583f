"""The closure `equation-discovery`: a formula for the missing term."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, field_validator

from subgrid.solver.backend import Backend
from subgrid.solver.closure import Kind, Linear, Memory, Problem, Tendency, View
from subgrid.solver.equations import Equation
from subgrid.solver.spectral import Operators

from ..learning.fitted_term import Fit, FitOptions, FittedTerm, batches
from ..learning.scores import root_mean_squares, shell_spectrum
from .candidates import CANDIDATES, Candidates, Evaluate
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
        "none",
        description="weights of squared errors: equal, or 1 / residual power of each shell in a first fit, for Fourier "
        "grids",
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
    counterparts; for shallow water and Vlasov-Poisson those of `shallow_water_candidates` and `vlasov_candidates`.
    Sequentially thresholded least squares chooses them; the threshold is that of the fewest terms whose validation
    error is within `tolerance` of the least. Errors of several fields are relative to their terms.

    linear: terms that are linear in u on Fourier grids join the linear operator; if no others are left, the closure is
    not called. noise = "residual" adds noise with the spectrum of the validation residuals, on Fourier grids.

    Raises ClosureError for other equations, for Burgers' equation on finite volumes, for weights that do not fit and
    for noise on finite volumes.
    """

    kind: ClassVar[Kind] = "learned"
    method: ClassVar[str] = "equation-discovery"
    options: ClassVar[type[FitOptions]] = DiscoveryOptions
    linear: bool = True
    _operators: Operators = PrivateAttr()
    _called: dict[str, float] = PrivateAttr()
    _joined: dict[str, float] = PrivateAttr()
    _equation: Equation = PrivateAttr()
    _formula: str = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, *CANDIDATES)
        known = of(problem.equation)
        if known is None or self.noise != "none":
            self.require_fourier(problem)
        assert known is not None
        self._equation = problem.equation
        with self.reading(problem) as (coefficients, header):
            terms = dict(zip(header["terms"], coefficients.tolist(), strict=True))
            if unknown := sorted(set(terms) - set(known.sides)):
                raise ValueError(f"the term {unknown[0]!r} is not a candidate of {self._equation.name}")
            self._formula = formula(known, list(terms), coefficients)
        self._joined = {name: c for name, c in terms.items() if self.linear and name in known.linear}
        self._called = {name: c for name, c in terms.items() if name not in self._joined}
        self._operators = Operators(problem.grid, backend=Backend(problem.backend, problem.device, problem.precision))
        return {}

    def formula(self) -> str:
        return self._formula

    def linear_part(self, problem: Problem) -> Linear | None:
        if not self._joined:
            return None
        operators, linear = Operators(problem.grid), CANDIDATES[problem.equation.name].linear
        eigenvalues = sum(c * linear[name](operators) for name, c in self._joined.items())
        return Linear(eigenvalues * operators.mask, self._noise, calls=bool(self._called))

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        state, known = view.array, CANDIDATES[self._equation.name]
        found = known.evaluate(self._equation, list(self._called), self._operators, state)
        noise = None if self._joined else self._noise
        return Tendency(
            sum((c * g for c, g in zip(self._called.values(), found, strict=True)), 0 * state), noise=noise
        ), memory

    @classmethod
    def fit(cls, dataset: Dataset, options: DiscoveryOptions) -> Fit:
        equation, operators = dataset.model.equation, Operators(dataset.model.grid)
        known = of(equation)
        if known is None:
            raise ValueError(
                f"{cls.method} has candidates for {', '.join(CANDIDATES)}, not for {equation.name}, {equation.kind}. "
                "Remedy: another closure (`subgrid list`)"
            )
        if unknown := [name for name in options.candidates if name not in known.sides]:
            raise ValueError(
                f"train.{cls.method}.candidates: {unknown[0]!r} is not known. "
                f"Remedy: choose from {', '.join(known.sides)}"
            )
        if options.weighting == "residual" and not equation.spectral:
            raise ValueError(
                f'train.{cls.method}.weighting: "residual" is by shells of wavenumbers, which {equation.name} on cells '
                'does not have. Remedy: weighting = "none"'
            )
        library = Library(equation, known.evaluate, list(options.candidates) or list(known.sides), operators)

        weight = None
        if options.weighting == "residual":
            first = least_squares(Moments.of(library.parts(dataset.train)), np.ones(len(library.names), dtype=bool))
            weight = library.whitening(dataset.train, first)
        scale = _units(dataset.train[1])
        train, validation = (
            Moments.of(library.parts(pairs, weight, scale)) for pairs in (dataset.train, dataset.validation)
        )
        found, threshold = sparsest(train, validation, options.thresholds, options.tolerance)
        if not found.any():
            raise ValueError(
                f"train.{cls.method}.thresholds: no candidate contributes {min(options.thresholds):g} of the term. "
                "Remedy: smaller thresholds, or other candidates"
            )
        chosen = [name for name, c in zip(library.names, found, strict=True) if c]
        coefficients = found[found != 0]

        def evaluate(c: Array, operators: Operators, state: Array) -> Array:
            terms = known.evaluate(equation, chosen, operators, state)
            return sum((c[i] * g for i, g in enumerate(terms)), 0 * state)

        full = validation.error(least_squares(train, np.ones(len(library.names), dtype=bool)))
        header = {
            "terms": chosen,
            "threshold": threshold,
            "errors": {"chosen": validation.error(found), "all candidates": full},
        }
        return Fit(coefficients, np.abs(coefficients), evaluate, header)

    @classmethod
    def describe(cls, fit: Fit, coefficients: NDArray, equation: str) -> dict[str, str]:
        """The formula, e.g. "dw/dt += -1.002 u.grad w + 0.0002 lap w"."""
        return {"formula": formula(CANDIDATES[equation], fit.header["terms"], coefficients)}


@dataclass(frozen=True)
class Library:
    """Candidates of an equation, evaluated on the pairs of a training set."""

    equation: Equation
    evaluate: Evaluate
    names: list[str]
    operators: Operators

    def parts(
        self, pairs: tuple[NDArray, NDArray], weight: NDArray | None = None, scale: NDArray | float = 1.0
    ) -> Iterator[tuple[list[NDArray], NDArray]]:
        """Candidates and terms of the pairs, some samples at a time, in units of `scale` (field, 1, ...).

        With `weight` times their Fourier coefficients.
        """
        forward, inverse = self.operators.forward, self.operators.inverse
        for state, term in batches(*pairs):
            found = self.evaluate(self.equation, self.names, self.operators, state)
            if weight is not None:
                *found, term = (inverse(weight * forward(a)) for a in (*found, term))
            yield [g / scale for g in found], term / scale

    def whitening(self, pairs: tuple[NDArray, NDArray], coefficients: NDArray) -> NDArray[np.float64]:
        """1 / sqrt of the power per shell that a fit leaves, on the modes of the 2/3 rule, (*spectral_shape)."""
        power: NDArray | float = 0.0
        for found, term in self.parts(pairs):
            left = term - sum(c * g for c, g in zip(coefficients, found, strict=True))
            power = power + len(term) * shell_spectrum(left)[0]
        power = np.asarray(power) / len(pairs[0])
        shells = self.operators.grid.shells()
        return self.operators.mask / np.sqrt(np.maximum(power, 1e-14 * power.max())[shells])


def of(equation: Equation) -> Candidates | None:
    """The candidates of an equation; None for Burgers' equation on finite volumes, and for an equation without any."""
    found = CANDIDATES.get(equation.name)
    return found if found is not None and equation.spectral == bool(found.linear) else None


def _units(term: NDArray) -> NDArray[np.float64]:
    """The root mean square of each field over the largest one, (field, 1, ...); 1 for a field without a term."""
    sizes = np.reshape(root_mean_squares(term), (-1, *[1] * (term.ndim - 2)))
    sizes = sizes / (sizes.max() or 1.0)
    return np.where(sizes > 0, sizes, 1.0)


def formula(known: Candidates, terms: list[str], coefficients: NDArray) -> str:
    """Sums of terms with four significant digits, one for each left-hand side."""
    sums: dict[str, list[tuple[str, float]]] = {}
    for name, c in zip(terms, coefficients.tolist(), strict=True):
        sums.setdefault(known.sides[name], []).append((name, c))
    return ", ".join(f"{side} += {_sum(parts)}" for side, parts in sums.items())


def _sum(parts: list[tuple[str, float]]) -> str:
    (name, first), *others = parts
    return f"{first:.4g} {name}" + "".join(f" {'-' if c < 0 else '+'} {abs(c):.4g} {name}" for name, c in others)
