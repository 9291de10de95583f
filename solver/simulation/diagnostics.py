"""The scalars of a run: invariants, diagnostics of the equation and of the case, and budgets.

The budget of a quadratic invariant Q of a semi-linear equation, or of any Q with a gradient, is

    dQ/dt = sum over terms of <dQ/du . T> + sum over closures of <dQ/du . F> + expected injection by noise.

A term contributes `Q_by_TERM`, a closure `Q_by_CLOSURE`. The tendency F of a closure is the one that acted on the step
that ended at the output; before its first call it is nan. A closure that replaces states contributes the change at its
last call over its interval, and nan for a leap. Noise contributes its mean, sum density sigma^2 (Ito).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
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

    Of a semi-linear equation, T_hat and the state are Fourier coefficients, and <dQ/du . T> is the sum over modes of
    2 density Re(conj(u_hat) T_hat).
    """

    def __init__(self, equation: Equation, grid: Grid) -> None:
        self.equation, self._grid, self._operators = equation, grid, Operators(grid)
        densities = equation.densities(grid)
        shape = (1, len(equation.fields), *grid.shape)
        self.names = tuple(equation.gradients(np.ones(shape), grid))
        weight = 2 * grid.half_plane_weight() if densities else np.ones(())
        self._weights = np.array([weight * np.broadcast_to(d, grid.spectral_shape) for d in densities.values()])
        self.terms = equation.budget_terms() if self.names else ()
        self._alone = {term: _alone(equation, term, grid) for term in self.terms}

    def inward(self, state: NDArray) -> NDArray:
        """The state, or a tendency, in the stepper's representation."""
        return self._operators.to_spectrum(state) if self.equation.spectral else state

    def powers(self, state: NDArray, u: NDArray, tendency: NDArray) -> Values:
        """<dQ/du . T> of each quantity, (member,). u: the state in the stepper's representation, as the tendency."""
        if not self.equation.spectral:
            gradients = self.equation.gradients(state, self._grid)
            return {name: _means(g * tendency) for name, g in gradients.items()}
        return self._sums(u.real * tendency.real + u.imag * tendency.imag)

    def linear_powers(self, u: NDArray, eigenvalues: NDArray) -> Values:
        """The same for T_hat = eigenvalues u_hat."""
        return self._sums(eigenvalues.real * (u.real**2 + u.imag**2))

    def of_term(self, term: str, state: NDArray, u: NDArray, t: float) -> Values:
        """The contribution of one term alone."""
        alone, operators, eigenvalues, steady_zero = self._alone[term]
        found = {name: np.zeros(len(state)) for name in self.names}
        if eigenvalues is not None:
            _add(found, self.linear_powers(u, eigenvalues))
        if not steady_zero:
            _add(found, self.powers(state, u, alone.nonlinear(operators, u, t)))
        return found

    def of_noise(self, law: Noise, factor: float) -> Values:
        """The expected injection by factor dW, (1,)."""
        if not isinstance(law, SpectralNoise) or not self._weights.size:
            return {name: np.array([np.nan]) for name in self.names}
        power = np.broadcast_to((factor * law.amplitude) ** 2, (len(self.equation.fields), *self._grid.spectral_shape))
        return self._sums(0.5 * power[None])

    def _sums(self, product: NDArray) -> Values:
        """The sums over fields and modes of 2 density times the product (member, field, *spectral_shape), (member,)."""
        by_mode = product.sum(axis=1).reshape(len(product), -1)
        found = by_mode @ self._weights.reshape(len(self.names), -1).T
        return dict(zip(self.names, found.T, strict=True))

    def change(self, before: NDArray, after: NDArray, span: float) -> Values:
        """The change of each quantity by a replaced state over a span, (member,): exact for quadratic quantities."""
        middle = 0.5 * (np.asarray(before, dtype=np.float64) + np.asarray(after, dtype=np.float64))
        step = (np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)) / span
        return self.powers(middle, self.inward(middle), self.inward(step))


class Diagnostics:
    """The scalars of a simulation at its outputs.

    quantities: their names with units, known before the first output. own: the diagnostics that the case names. Raises
    ValueError if one of these has the name of another scalar or of a field, and PluginError for a wrong answer.
    """

    def __init__(self, simulation: Simulation, own: Sequence[Diagnostic] = ()) -> None:
        self._simulation, self._own = simulation, own
        equation, grid = simulation.equation, simulation.grid
        self._budget = Budget(equation, grid)
        self._noise = equation.noise_law(grid)
        self._labels = _labels([c.name for c in simulation.closures], (*equation.terms, "noise"))
        state = simulation.state.astype(np.float64)
        found = [*invariants(equation, state, grid), *equation.diagnostics(state, grid)]
        self.quantities = {name: equation.quantities.get(name, OWN_UNITS) for name in found}
        self.shown = tuple(found)
        sources = [*self._budget.terms, *(["noise"] if self._noise is not None else []), *self._labels]
        for name in self._budget.names:
            per_time = equation.quantities.get(name, OWN_UNITS)
            for source in sources:
                self.quantities[f"{name}_by_{source}"] = Quantity(
                    over_time(per_time.unit), f"rate of change of {name} by {source.replace('_', ' ')}"
                )
        taken = {*self.quantities, *(f.name for f in equation.fields)}
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

    def measure(self) -> Values:
        """All scalars of the state now, each (member,)."""
        simulation = self._simulation
        equation, grid, t = simulation.equation, simulation.grid, simulation.time
        raw = simulation.state
        found = invariants(equation, raw, grid)
        state = np.asarray(raw, dtype=np.float64)
        found |= equation.diagnostics(state, grid)
        for source, values in self._contributions(state, t):
            found |= {f"{name}_by_{source}": np.broadcast_to(v, (len(state),)) for name, v in values.items()}
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

    def _contributions(self, state: NDArray, t: float) -> Iterator[tuple[str, Values]]:
        """(source, contributions) of every term, of noise and of every closure."""
        budget = self._budget
        if not budget.names:
            return
        u = budget.inward(state) if budget.terms or self._labels else state
        for term in budget.terms:
            yield term, budget.of_term(term, state, u, t)
        if self._noise is not None:
            yield "noise", budget.of_noise(self._noise, 1.0)
        for i, label in enumerate(self._labels):
            yield label, self._of_closure(i, state, u)

    def _of_closure(self, i: int, state: NDArray, u: NDArray) -> Values:
        simulation, budget = self._simulation, self._budget
        coupled, part, held = simulation.closures[i], simulation.linear_parts[i], simulation.held[i]
        if simulation.changes[i]:
            return simulation.changes[i]
        replaced = coupled.replaced > 0 and held is None
        unknown = replaced or (coupled.calls == 0 and (part is None or part.calls))
        total = {name: np.full(len(state), np.nan if unknown else 0.0) for name in budget.names}
        if part is not None:
            _add(total, budget.linear_powers(u, coupled.weight * part.eigenvalues))
            if part.noise is not None:
                _add(total, budget.of_noise(part.noise, coupled.weight))
        if held is not None:
            value = simulation.to_host(held.value)
            if held.slope is not None:
                value = value + (simulation.step_number - 1 - held.step) * simulation.to_host(held.slope)
            _add(total, budget.powers(state, u, value))
            if held.noise is not None:
                _add(total, budget.of_noise(held.noise.law, held.noise.factor))
        return total


def _alone(equation: Equation, term: str, grid: Grid) -> tuple[Equation, Operators, NDArray | None, bool]:
    """The equation with one term alone: with its own operators, its eigenvalues, and whether its N vanishes always."""
    alone = equation.model_copy(update={"omit": tuple(t for t in equation.terms if t != term)})
    operators = Operators(grid)
    if not equation.spectral:
        return alone, operators, None, False
    shape = (len(equation.fields), *grid.spectral_shape)
    eigenvalues = np.broadcast_to(np.asarray(alone.linear(operators)), shape)
    probe = np.full((1, *shape), 1.0 + 0.5j)
    steady_zero = equation.autonomous and not np.any(alone.nonlinear(operators, probe, 0.0))
    return alone, operators, eigenvalues if eigenvalues.any() else None, steady_zero


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
        total[name] = total[name] + value


def _labels(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names of closures as parts of variable names, each once."""
    found, count = [], Counter(taken)
    for name in names:
        label = re.sub(r"\W", "_", name)
        count[label] += 1
        found.append(label if count[label] == 1 else f"{label}_{count[label]}")
    return found
