"""The scalars of a run: invariants, diagnostics of the equation and of the case, and budgets.

The budget of a quadratic invariant Q of a semi-linear equation, or of any Q with a gradient, is

    dQ/dt = sum over terms of <dQ/du . T> + sum over closures of <dQ/du . F> + expected injection by noise.

A term contributes `Q_by_TERM`, a closure `Q_by_CLOSURE`. The tendency F of a closure is the one that acted on the step
that ended at the output; before its first call it is nan. A closure that replaces states contributes the change at its
last call over its interval, and nan for a leap. Noise contributes its mean, sum density sigma^2 (Ito).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..equations.answers import invariants
from ..equations.base import Equation
from ..equations.diagnostic import Diagnostic, quantities_of, values_of
from ..equations.quantities import Quantity
from ..grid import Grid
from ..random import Noise, SpectralNoise
from ..spectral import Operators

if TYPE_CHECKING:
    from .loop import Simulation

Values = dict[str, NDArray[np.float64]]
MOST_SHOWN = 8  # in a line of progress
OWN_UNITS = Quantity("equation's own", "invariant of the equation")


class Budget:
    """Contributions to the budgets of an equation on a grid, from states (member, field, *grid) in double precision.

    Of a semi-linear equation, tendencies and the state u are Fourier coefficients, and <dQ/du . T> is the sum over
    modes of 2 density Re(conj(u_hat) T_hat). A linear term, T_hat = L u_hat, is a sum of |u_hat|^2.
    """

    def __init__(self, equation: Equation, grid: Grid) -> None:
        self.equation, self._grid, self._operators = equation, grid, Operators(grid)
        fields = len(equation.fields)
        self.names = tuple(equation.gradients(np.ones((1, fields, *grid.shape)), grid))
        self.terms = equation.budget_terms() if self.names else ()
        self._shape = (fields, *grid.spectral_shape) if equation.spectral else ()
        self._weight = grid.half_plane_weight() if equation.spectral else np.ones(())
        densities = equation.densities(grid) if equation.spectral else {}
        self._twice = 2 * self.rows(densities.values()) if densities else np.zeros((0, 1))
        self._alone = {term: _Term(equation, term, grid) for term in self.terms}

    def rows(self, densities: Iterable[NDArray]) -> NDArray:
        """(row, field * mode): what the products with |u_hat|^2 are summed with, for densities."""
        found = [np.broadcast_to(self._weight * density, self._shape).ravel() for density in densities]
        return np.array(found)

    def linear_rows(self, eigenvalues: NDArray) -> NDArray:
        """The same for the contributions of T_hat = eigenvalues u_hat to every quantity."""
        return self._twice * np.broadcast_to(eigenvalues.real, self._shape).ravel()

    def eigenvalues(self, term: str) -> NDArray:
        """The linear operator of one term alone, (field, *spectral_shape)."""
        return np.broadcast_to(self._alone[term].eigenvalues, self._shape)

    def inward(self, state: NDArray) -> NDArray:
        """The state, or a tendency, in the stepper's representation."""
        return self._operators.to_spectrum(state) if self.equation.spectral else state

    def powers(self, state: NDArray, u: NDArray, tendency: NDArray) -> Values:
        """<dQ/du . T> of each quantity, (member,). u: the state in the stepper's representation, as the tendency."""
        if not self.equation.spectral:
            gradients = self.equation.gradients(state, self._grid)
            return {name: _means(g * tendency) for name, g in gradients.items()}
        product = (u.real * tendency.real + u.imag * tendency.imag).reshape(len(u), -1)
        return dict(zip(self.names, _products(self._twice, product), strict=True))

    def of_term(self, term: str, state: NDArray, u: NDArray, t: float) -> Values | None:
        """The contribution of N of one term alone; None if it vanishes always."""
        tendency = self._alone[term].tendency(u, t)
        return None if tendency is None else self.powers(state, u, tendency)

    def of_noise(self, law: Noise, factor: float) -> Values:
        """The expected injection by factor dW, (1,)."""
        if not isinstance(law, SpectralNoise) or not self.equation.densities(self._grid):
            return {name: np.array([np.nan]) for name in self.names}
        shape = (len(self.equation.fields), *self._grid.spectral_shape)
        power = self._grid.half_plane_weight() * np.broadcast_to((factor * law.amplitude) ** 2, shape)
        densities = self.equation.densities(self._grid)
        return {name: np.array([(density * power).sum()]) for name, density in densities.items()}

    def change(self, before: NDArray, after: NDArray, span: float) -> Values:
        """The change of each quantity by a replaced state over a span, (member,): exact for quadratic quantities."""
        middle = 0.5 * (np.asarray(before, dtype=np.float64) + np.asarray(after, dtype=np.float64))
        step = (np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)) / span
        return self.powers(middle, self.inward(middle), self.inward(step))


class _Term:
    """One term of an equation alone: its eigenvalues, and its N, which may be the same always, or zero."""

    def __init__(self, equation: Equation, term: str, grid: Grid) -> None:
        self._equation, self._term, self._alone = equation, term, equation.alone(term)
        self._operators = Operators(grid)
        self._steady: NDArray | None = None
        self._zero = False
        self.eigenvalues: NDArray = np.zeros(1)
        if equation.spectral:
            self.eigenvalues = np.asarray(self._alone.linear(self._operators))
            if not self._alone.autonomous:  # it may have no value at the time of a probe
                return
            probes = [np.full((1, len(equation.fields), *grid.spectral_shape), value) for value in (0j, 1.0 + 0.5j)]
            first, second = (np.asarray(self._alone.nonlinear(self._operators, probe, 0.0)) for probe in probes)
            if np.array_equal(first, second):
                self._steady, self._zero = first, not first.any()

    def tendency(self, u: NDArray, t: float) -> NDArray | None:
        """N in the stepper's representation; None for zero."""
        if self._zero or self._steady is not None:
            return None if self._zero else self._steady
        return self._equation.rate_of(self._term, self._operators, u, t)


class Diagnostics:
    """The scalars of a simulation at its outputs.

    quantities: their names with units, known before the first output. shown: those that are no contributions to a
    budget. own: the diagnostics that the case names. Raises ValueError if one of these has the name of another scalar,
    of a field or of an axis, and PluginError for a wrong answer.
    """

    def __init__(self, simulation: Simulation, own: Sequence[Diagnostic] = ()) -> None:
        self._simulation, self._own = simulation, own
        equation, grid = simulation.equation, simulation.grid
        self._budget = budget = Budget(equation, grid)
        self._nothing = {name: np.zeros(1) for name in budget.names}
        self._noise = equation.noise_law(grid)
        self._labels = _labels([c.name for c in simulation.closures], (*equation.terms, "noise"))
        sums = equation.sums(grid) if equation.spectral else {}
        state = simulation.state.astype(np.float64)
        measured, quadratic = list(invariants(equation, state, grid)), equation.densities(grid)
        self._covered = equation.spectral and set(measured) <= set(quadratic)  # their sums are theirs to round-off
        if self._covered:
            sums = {name: quadratic[name] for name in measured} | sums
        self._sums, rows = list(sums), [budget.rows(sums.values())] if sums else []
        linear = {term: budget.eigenvalues(term) for term in budget.terms} if equation.spectral else {}
        for label, coupled, part in zip(self._labels, simulation.closures, simulation.linear_parts, strict=True):
            if part is not None and budget.names:
                linear[label] = coupled.weight * part.eigenvalues
        for source, eigenvalues in linear.items():
            if np.any(eigenvalues.real):
                self._sums += [f"{name}_by_{source}" for name in budget.names]
                rows.append(budget.linear_rows(eigenvalues))
        self._rows = np.concatenate(rows) if rows else None
        found = [*dict.fromkeys([*measured, *sums, *equation.diagnostics(state, grid)])]
        self.quantities = {name: equation.quantities.get(name, OWN_UNITS) for name in found}
        self.shown = tuple(found)
        sources = [*budget.terms, *(["noise"] if self._noise is not None else []), *self._labels]
        for name in budget.names:
            unit = over_time(equation.quantities.get(name, OWN_UNITS).unit)
            for source in sources:
                meaning = f"rate of change of {name} by {source.replace('_', ' ')}"
                self.quantities[f"{name}_by_{source}"] = Quantity(unit, meaning)
        axes = [axis for derived in equation.derived.values() for axis in derived.coordinates(equation, grid)]
        taken = {*self.quantities, *(f.name for f in equation.fields), "time", "member", *equation.axes(grid), *axes}
        for diagnostic in own:
            new = quantities_of(diagnostic, equation, grid)
            if twice := sorted(new.keys() & taken):
                raise ValueError(
                    f"output.diagnostics: {type(diagnostic).__name__} measures {twice[0]}, a name that is taken. "
                    "Remedy: another name"
                )
            taken |= new.keys()
            self.quantities |= new
            self.shown += tuple(new)

    @np.errstate(over="ignore", invalid="ignore")  # of a run that fails, which the run says
    def measure(self, raw: NDArray | None = None) -> Values:
        """All scalars of the state now, each (member,). raw: `Simulation.state`, if it was read already."""
        simulation, budget = self._simulation, self._budget
        equation, grid, t = simulation.equation, simulation.grid, simulation.time
        raw = simulation.state if raw is None else raw
        state = np.asarray(raw, dtype=np.float64)
        found = ({} if self._covered else invariants(equation, raw, grid)) | equation.diagnostics(state, grid)
        u = state
        if equation.spectral and (self._rows is not None or budget.names):
            u = simulation.to_host(simulation.internal).astype(np.complex128, copy=False)
            u = u.reshape(len(state), len(equation.fields), *grid.spectral_shape)
        known: Values = {}
        if self._rows is not None:
            squares = (u.real**2 + u.imag**2).reshape(len(u), -1)
            known = dict(zip(self._sums, _products(self._rows, squares), strict=True))
        for source, values in self._contributions(state, u, t):
            for name, value in values.items():
                key = f"{name}_by_{source}"
                if key not in known:
                    known[key] = value if len(value) == len(state) else np.full(len(state), value[0])
                elif values is not self._nothing:
                    known[key] = known[key] + value
        found |= known
        for diagnostic in self._own:
            found |= values_of(diagnostic, equation, grid, state, t)
        return found

    def line(self) -> str:
        """The first scalars of the state now, as the mean over the members, for a line of progress."""
        values = self.measure()
        return ", ".join(f"{name} {values[name].mean():.4g}" for name in self.shown[:MOST_SHOWN])

    def change(self, index: int, before: Any, after: Any) -> None:
        """Keep what the closure `index` changed when it replaced the state."""
        simulation = self._simulation
        span = simulation.closures[index].every * simulation.step
        to_host = simulation.backend.to_numpy
        simulation.changes[index] = self._budget.change(to_host(before), to_host(after), span)

    def _contributions(self, state: NDArray, u: NDArray, t: float) -> Iterator[tuple[str, Values]]:
        """(source, contributions) of every term, of noise and of every closure, without the linear parts."""
        budget = self._budget
        if not budget.names:
            return
        for term in budget.terms:
            yield term, budget.of_term(term, state, u, t) or self._nothing
        if self._noise is not None:
            yield "noise", budget.of_noise(self._noise, 1.0)
        for i, label in enumerate(self._labels):
            yield label, self._of_closure(i, state, u) or self._nothing

    def _of_closure(self, i: int, state: NDArray, u: NDArray) -> Values:
        simulation, budget = self._simulation, self._budget
        coupled, part, held = simulation.closures[i], simulation.linear_parts[i], simulation.held[i]
        if simulation.changes[i]:
            return simulation.changes[i]
        if (coupled.replaced and held is None) or (coupled.calls == 0 and (part is None or part.calls)):
            return {name: np.full(1, np.nan) for name in budget.names}
        total: Values = {}
        if part is not None and part.noise is not None:
            _add(total, budget.of_noise(part.noise, coupled.weight))
        if held is not None:
            value = simulation.to_host(held.value)
            if held.slope is not None:
                value = value + (simulation.step_number - 1 - held.step) * simulation.to_host(held.slope)
            _add(total, budget.powers(state, u, value.reshape(u.shape)))
            if held.noise is not None:
                _add(total, budget.of_noise(held.noise.law, held.noise.factor))
        return total


def members_together(equation: Equation, grid: Grid) -> int:
    """How many members enter a matrix product: the round-off of a member depends on those beside it."""
    modes = len(equation.fields) * math.prod(grid.spectral_shape if equation.spectral else grid.shape)
    return _together(modes)


def _together(modes: int) -> int:
    return max(1, min(8, 65536 // max(1, modes)))


def _products(rows: NDArray, values: NDArray) -> NDArray:
    """(row, mode), (member, mode) -> sums (row, member), in parts that do not depend on the number of members."""
    size = _together(values.shape[1])
    if len(values) <= size:
        return rows @ values.T
    return np.concatenate([rows @ values[i : i + size].T for i in range(0, len(values), size)], axis=1)


def _means(product: NDArray) -> NDArray:
    """(member, field, *grid) -> the mean over the grid, summed over the fields, (member,)."""
    return product.reshape(*product.shape[:2], -1).mean(-1).sum(-1)


def over_time(unit: str) -> str:
    """The unit of a rate of change."""
    if unit == OWN_UNITS.unit:
        return unit
    top, slash, bottom = unit.partition("/")
    powers = bottom.strip("()").split() if slash else []
    for i, part in enumerate(powers):
        if part.startswith("time"):
            powers[i] = f"time^{int(part.partition('^')[2] or 1) + 1}"
            break
    else:
        powers.append("time")
    return f"{top}/{powers[0]}" if len(powers) == 1 else f"{top}/({' '.join(powers)})"


def _add(total: Values, values: Values) -> None:
    for name, value in values.items():
        total[name] = total[name] + value if name in total else value


def _labels(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names of closures as parts of variable names, each once."""
    found, count = [], Counter(taken)
    for name in names:
        label = re.sub(r"\W", "_", name)
        count[label] += 1
        found.append(label if count[label] == 1 else f"{label}_{count[label]}")
    return found
