"""subgrid: PDEs on coarse grids, with plug-in closures for the unresolved part.

    import subgrid

    case = subgrid.read_case("kolmogorov-demo", {"time.end": 2.0})  # a case that ships, or a file
    ds = subgrid.run(case)
    result = subgrid.compare(case, closures=["smagorinsky", my_closure])

Every name is imported when it is first used, so that `import subgrid` loads no other library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subgrid.commands.comparison.compare import compare, resume_comparison
    from subgrid.commands.run import resume, run
    from subgrid.commands.sweep.command import run_sweep
    from subgrid.commands.train import train
    from subgrid.ingest.external.open import open_data
    from subgrid.ingest.external.recognise import Reader
    from subgrid.solver.case.reading import read_case
    from subgrid.solver.case.tables import Case
    from subgrid.solver.closure.contract import (
        Closure,
        ClosureError,
        Correction,
        Coupled,
        Leap,
        Linear,
        Problem,
        Tendency,
        View,
    )
    from subgrid.solver.equations.base import Equation, Field
    from subgrid.solver.equations.diagnostic import Diagnostic
    from subgrid.solver.equations.forcing import Forcing
    from subgrid.solver.equations.initial_state import InitialState
    from subgrid.solver.equations.plugin_errors import PluginError
    from subgrid.solver.equations.quantities import Derived, Quantity
    from subgrid.solver.grid import Grid
    from subgrid.solver.random import EntityNoise, SpectralNoise
    from subgrid.solver.simulation.loop import Simulation

    __version__: str

_HOMES = {
    "commands.comparison.compare": ("compare", "resume_comparison"),
    "commands.run": ("run", "resume"),
    "commands.sweep.command": ("run_sweep",),
    "commands.train": ("train",),
    "ingest.external.open": ("open_data",),
    "ingest.external.recognise": ("Reader",),
    "solver.case.reading": ("read_case",),
    "solver.case.tables": ("Case",),
    "solver.closure.contract": (
        "Closure",
        "ClosureError",
        "Correction",
        "Coupled",
        "Leap",
        "Linear",
        "Problem",
        "Tendency",
        "View",
    ),
    "solver.equations.base": ("Equation", "Field"),
    "solver.equations.diagnostic": ("Diagnostic",),
    "solver.equations.forcing": ("Forcing",),
    "solver.equations.initial_state": ("InitialState",),
    "solver.equations.plugin_errors": ("PluginError",),
    "solver.equations.quantities": ("Derived", "Quantity"),
    "solver.grid": ("Grid",),
    "solver.random": ("EntityNoise", "SpectralNoise"),
    "solver.simulation.loop": ("Simulation",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Case",
    "Closure",
    "ClosureError",
    "Correction",
    "Coupled",
    "Derived",
    "Diagnostic",
    "EntityNoise",
    "Equation",
    "Field",
    "Forcing",
    "Grid",
    "InitialState",
    "Leap",
    "Linear",
    "PluginError",
    "Problem",
    "Quantity",
    "Reader",
    "Simulation",
    "SpectralNoise",
    "Tendency",
    "View",
    "__version__",
    "compare",
    "open_data",
    "read_case",
    "resume",
    "resume_comparison",
    "run",
    "run_sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("subgrid")
    elif name in _HOME:
        value = getattr(importlib.import_module(f"subgrid.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'subgrid' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
