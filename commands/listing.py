"""`subgrid list`: the plug-ins of every kind, by name, with the first line of what they say about themselves, and the
cases that ship.
"""

from __future__ import annotations

from typing import Any

from subgrid.ingest.external.recognise import READERS
from subgrid.solver.case.shipped import shipped_cases
from subgrid.solver.closure.discovery import CLOSURES
from subgrid.solver.equations import EQUATIONS
from subgrid.solver.equations.diagnostic import DIAGNOSTICS
from subgrid.solver.equations.forcing import FORCINGS
from subgrid.solver.equations.plugins import Registry, UnknownPlugin
from subgrid.solver.initial.registry import INITIAL_STATES
from subgrid.solver.time_stepping.schemes import STEPPERS

from .terminal import display

KINDS: dict[str, Registry[Any]] = {
    "equations": EQUATIONS,
    "initial states": INITIAL_STATES,
    "forcings": FORCINGS,
    "steppers": STEPPERS,
    "closures": CLOSURES,
    "readers": READERS,
    "diagnostics": DIAGNOSTICS,
}


def table() -> dict[str, dict[str, str]]:
    """Kind -> name -> description; the reason why a plug-in cannot be imported; of a shipped case its title."""
    plugins = {kind: {name: _describe(registry, name) for name in registry} for kind, registry in KINDS.items()}
    return plugins | {"cases": shipped_cases()}


def _describe(registry: Registry[Any], name: str) -> str:
    try:
        found = registry.find(name)
    except UnknownPlugin as error:
        return f"unavailable: {error}"
    if not isinstance(found, type):
        return f"order {found.order}; {found.source}"
    return (found.__doc__ or "").strip().split("\n")[0]


def show(listing: dict[str, dict[str, str]]) -> None:
    """Print the table."""
    for heading, entries in listing.items():
        display(heading)
        width = max([20, *map(len, entries)]) + 2
        for name, text in entries.items():
            display(f"  {name:<{width}}{text}")
