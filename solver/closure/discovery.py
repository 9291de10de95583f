"""Discovery of closures, by the name of an entry point or by "file.py:Class"."""

from __future__ import annotations

from pathlib import Path

from ..equations.plugins import Registry, UnknownPlugin
from .contract import Closure


class UnknownClosure(UnknownPlugin):
    """No closure has this name, or its module cannot be imported."""


CLOSURES: Registry[type[Closure]] = Registry("subgrid.closures", "closure", Closure, error=UnknownClosure)


def names() -> list[str]:
    """Names of the installed closures, including those that cannot be imported."""
    return list(CLOSURES)


def find(name: str) -> type[Closure]:
    """The closure class of this name in the entry-point group `subgrid.closures`. Raises UnknownClosure."""
    return CLOSURES.find(name)


def load(path: str, folder: Path) -> type[Closure]:
    """The closure class "file.py:Class", with the file relative to `folder`. Raises UnknownClosure."""
    return CLOSURES.load(path, folder)
