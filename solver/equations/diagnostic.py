"""Diagnostics of a case's own: scalars of the state, by name or by file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, SerializeAsAny

from ..grid import Grid
from .answers import real_array, wrong
from .base import Equation
from .plugin_errors import PluginError
from .plugins import PluginModel, Registry, from_table
from .quantities import Quantity


class Diagnostic(PluginModel, ABC):
    """Scalars of the state that a run stores at its outputs; the fields of a subclass are the keys of its table.

    `kind` is the name under which a case asks for it; a class that is named by `path` needs none.
    """

    kind: str = ""

    @abstractmethod
    def quantities(self, equation: Equation, grid: Grid) -> Mapping[str, Quantity]:
        """The scalars by name, with their units. Raises ValueError if it does not fit the equation or the grid."""

    @abstractmethod
    def values(self, equation: Equation, grid: Grid, state: NDArray[np.float64], time: float) -> Mapping[str, NDArray]:
        """Each scalar (member,) of the state (member, field, *grid) at a time; its names are those of `quantities`."""


DIAGNOSTICS: Registry[type[Diagnostic]] = Registry("subgrid.diagnostics", "diagnostic", Diagnostic)
Diagnostic.plugins = DIAGNOSTICS

DiagnosticTable = Annotated[SerializeAsAny[Diagnostic], BeforeValidator(from_table(DIAGNOSTICS))]


def quantities_of(diagnostic: Diagnostic, equation: Equation, grid: Grid) -> dict[str, Quantity]:
    """`Diagnostic.quantities`, checked: names that are identifiers. Raises PluginError for a wrong answer."""
    found: Any = diagnostic.quantities(equation, grid)
    fits = isinstance(found, Mapping) and all(isinstance(v, Quantity) for v in found.values())
    if not fits or not found or not all(isinstance(name, str) and name.isidentifier() for name in found):
        raise wrong(diagnostic, "quantities", found, "a dict from names, as of Python variables, to Quantity")
    return dict(found)


def values_of(
    diagnostic: Diagnostic, equation: Equation, grid: Grid, state: NDArray, time: float
) -> dict[str, NDArray[np.float64]]:
    """`Diagnostic.values`, checked: the names of `quantities`, each (member,). Raises PluginError."""
    before = state.copy()
    found: Any = diagnostic.values(equation, grid, state, time)
    expected = quantities_of(diagnostic, equation, grid)
    if not isinstance(found, Mapping) or found.keys() != expected.keys():
        raise wrong(diagnostic, "values", found, f"a dict with the names {', '.join(expected)}")
    values = {}
    for name, value in found.items():
        checked = real_array(value, (len(state),))
        if checked is None:
            raise wrong(diagnostic, f"values[{name!r}]", value, f"real numbers with shape (member,) = ({len(state)},)")
        values[name] = checked
    if not np.array_equal(state, before, equal_nan=True):
        raise PluginError(f"{type(diagnostic).__name__}.values changed the state. Remedy: work on a copy")
    return values
