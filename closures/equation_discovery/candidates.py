"""The candidate terms of each equation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from subgrid.solver.equations import Equation
from subgrid.solver.spectral import Operators

from . import fourier_candidates, shallow_water_candidates, vlasov_candidates

Array = Any
# evaluate(equation, names, operators, state (sample, field, *grid)): each of these candidates, of the state's shape
Evaluate = Callable[[Equation, Sequence[str], Operators, Array], list[Array]]


@dataclass(frozen=True)
class Candidates:
    """Candidates of one equation. sides: name -> left-hand side in formulas. linear: eigenvalues of those that are
    diagonal in Fourier space."""

    sides: Mapping[str, str]
    evaluate: Evaluate
    linear: Mapping[str, Callable[[Operators], Array]] = field(default_factory=dict)


CANDIDATES = {
    **{
        name: Candidates(
            dict.fromkeys([*linear, *fourier_candidates.NONLINEAR[name]], f"d{fourier_candidates.FIELD[name]}/dt"),
            fourier_candidates.evaluate,
            linear,
        )
        for name, linear in fourier_candidates.LINEAR.items()
    },
    "shallow-water": Candidates(shallow_water_candidates.SIDES, shallow_water_candidates.evaluate),
    "vlasov-poisson": Candidates(dict.fromkeys(vlasov_candidates.TERMS, "df/dt"), vlasov_candidates.evaluate),
}
