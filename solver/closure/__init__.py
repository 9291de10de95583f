"""The closure contract, and how a closure is found.

Plug-ins import from here: `from subgrid.solver.closure import Closure, Tendency`.
"""

from .contract import (
    Answer,
    Closure,
    ClosureError,
    Correction,
    Coupled,
    Hold,
    Leap,
    Memory,
    Problem,
    Tendency,
    View,
)
from .discovery import UnknownClosure, find, load, names

__all__ = [
    "Answer",
    "Closure",
    "ClosureError",
    "Correction",
    "Coupled",
    "Hold",
    "Leap",
    "Memory",
    "Problem",
    "Tendency",
    "UnknownClosure",
    "View",
    "find",
    "load",
    "names",
]
