"""How a closure is found: by the name of its entry point, or by the path of its file."""

from __future__ import annotations

from pathlib import Path

from ..equations.plugins import Registry, UnknownPlugin
from .contract import Closure


class UnknownClosure(UnknownPlugin):
    """No closure has this name, or its module cannot be imported."""


CLOSURES: Registry[type[Closure]] = Registry("subgrid.closures", "closure", Closure, error=UnknownClosure)


def names() -> list[str]:
    """Names of the closures that are installed, whether or not they can be imported."""
    return list(CLOSURES)


def find(name: str) -> type[Closure]:
    """The closure class of an entry point of the group `subgrid.closures`. Raises UnknownClosure."""
    return CLOSURES.find(name)


def load(path: str, folder: Path) -> type[Closure]:
    """The class that "file.py:Class" names, the file relative to `folder`. Raises UnknownClosure."""
    return CLOSURES.load(path, folder)
