"""The closure contract, and how a closure is found.

Plug-ins import from here: `from subgrid.solver.closure import Closure, Tendency`.
"""

from ..equations.plugin_errors import PluginError
from ..equations.plugins import FileOrName
from .contract import (
    Answer,
    Carrier,
    Closure,
    ClosureError,
    ClosureSum,
    Correction,
    Coupled,
    Hold,
    Kind,
    Leap,
    Linear,
    Memory,
    Problem,
    Tendency,
    View,
)
from .discovery import UnknownClosure, find, load, names

__all__ = [
    "Answer",
    "Carrier",
    "Closure",
    "ClosureError",
    "ClosureSum",
    "Correction",
    "Coupled",
    "FileOrName",
    "Hold",
    "Kind",
    "Leap",
    "Linear",
    "Memory",
    "PluginError",
    "Problem",
    "Tendency",
    "UnknownClosure",
    "View",
    "find",
    "load",
    "names",
]
